"""G3 to G7: what the gateway costs, how much it holds, and what becomes of clients when there is too much or when the control
plane is dead. Mock engines, services and gateway are the real binaries on loopback."""

import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import time

from harness import ROOT, Failed, wait_until
from measure.figure import Measurement, Row
from measure.machine import scratch_folder
from measure.plane import Client
from measure.served import Served, cpu_us, resident_bytes, told_by
from measure.stream import connect, request_bytes

RATIO = Row("G3", "x", 2.5)
ADDED = Row("G3-added", "us")
NGINX = Row("G3-nginx", "us")
REQUEST = Row("G4-request", "us", 80)
FRAME = Row("G4-frame", "us", 8)
LOST = Row("G5-lost", "frames", 0)
HELD = Row("G5-memory", "KiB", 100)
CROWD_FRAME = Row("G5-frame", "us")
GOODPUT = Row("G6-goodput", "%", 80, at_most=False)
GROWTH = Row("G6-memory", "%", 5)
WRONG = Row("G6-wrong", "requests", 0)
FAILED = Row("G7", "requests", 0)


def nginx():
    """tools/ensure_packages.sh unpacks it, for an nginx that is installed would serve on port 80."""
    unpacked = ROOT / "build" / "nginx" / "usr" / "sbin"
    path = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:{unpacked}")
    if path is None:
        raise Failed(f"there is no nginx, in {unpacked} neither; run `tools/ensure_packages.sh nginx`")
    return path


@contextlib.contextmanager
def plain_proxy(upstream, port):
    """nginx before `upstream`, with kept connections and without buffers: an address."""
    folder = scratch_folder("nginx-")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; error_log {folder}/error.log; pid {folder}/pid; events {{}} http {{ access_log off; {paths}"
        f"keepalive_requests 1000000; upstream up {{ server {upstream}; keepalive 64; keepalive_requests 1000000; }}"
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://up; proxy_http_version 1.1;"
        'proxy_set_header Connection ""; proxy_buffering off; proxy_request_buffering off; } } }\n')
    with subprocess.Popen([nginx(), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]) as proxy:
        try:
            def listens():
                with contextlib.suppress(OSError), contextlib.closing(connect(f"127.0.0.1:{port}")):
                    return True
                return False
            wait_until("nginx listens", listens, 10)
            yield f"127.0.0.1:{port}"
        finally:
            proxy.kill()
    shutil.rmtree(folder)


def free_port():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        return server.getsockname()[1]


class OverTcp(Client):
    """One kept connection over which the same request is asked again and again."""

    def __init__(self, address, request):  # pylint: disable=super-init-not-called
        self.socket = connect(address)
        self.request = request

    def p50(self, count):
        times = []
        for _ in range(count):
            begin = time.perf_counter()
            status, body = self.ask(self.request)
            times.append((time.perf_counter() - begin) * 1e6)
            if status != 200:
                raise Failed(f"a request was answered {status}: {body.decode()}")
        return statistics.median(times)


def measure_added(rounds=20, count=200):
    rows = []
    with Served("--tokens-per-s 1000") as served:
        engine = served.engine_addresses()[0]
        with plain_proxy(engine, free_port()) as proxy:
            plain = request_bytes("mock", 1, stream=False)
            clients = [OverTcp(engine, plain), OverTcp(proxy, plain),
                       OverTcp(served.address, request_bytes("chat", 1, served.key, stream=False))]
            for client in clients:
                client.p50(count)
            for _ in range(rounds):
                rows.append([client.p50(count) for client in clients])
            for client in clients:
                client.close()
    ours = [gateway - direct for direct, _, gateway in rows]
    theirs = [proxied - direct for direct, proxied, _ in rows]
    what = (f"{rounds} rounds of {count} small chats one after another over a kept connection: straight to a mock engine (p50 "
            f"{statistics.median(row[0] for row in rows):.0f} us), through nginx, through the gateway; ")
    return [RATIO.figure(statistics.median(ours) / statistics.median(theirs), what + "what the gateway adds to the p50 over what nginx adds, "
                         "medians of the rounds; spread of the rounds", [a / b for a, b in zip(ours, theirs)]),
            ADDED.figure(statistics.median(ours), what + "added by the gateway", ours),
            NGINX.figure(statistics.median(theirs), what + "added by nginx", theirs)]


def measure_cpu(rounds=3, seconds=6):
    requests, frames = [], []
    with Served("--tokens-per-s 50 --max-batch 64", replicas=2, concurrency=64) as served:
        def spent(*options):
            before = cpu_us(served.gateway)
            told = served.load("--duration", f"{seconds}s", *options)
            if told["failed"] or told["rejected"]:
                raise Failed(f"some requests were not answered: {told['reasons']}")
            return cpu_us(served.gateway) - before, told
        spent("--rate", "100", "--tokens", "5")
        for _ in range(rounds):
            used, told = spent("--rate", "400", "--tokens", "1")
            requests.append(used / told["completed"])
            used, told = spent("--rate", "30", "--tokens", "101")
            frames.append((used - told["completed"] * requests[-1]) / (told["frames"] - told["completed"]))
    return [REQUEST.figure(statistics.median(requests), f"{rounds} x {seconds} s of bench-serve at 400 small streamed chats of one token a "
                           "second: CPU of the gateway (schedstat of its threads) a request; the median", requests),
            FRAME.figure(statistics.median(frames), f"{rounds} x {seconds} s at 30 chats a second of 101 tokens each, from two engines at 50 "
                         "tokens a second a stream, so 60 streams and 3,000 frames a second: CPU of the gateway less that of so many small "
                         "requests, a further frame; the median", frames)]


def measure_crowd(streams=1000, pace=5, seconds=60):
    tokens = pace * seconds
    with Served(f"--tokens-per-s {pace} --max-batch {streams}", concurrency=streams) as served:
        served.load("--rate", "20", "--duration", "1s", "--tokens", "1")
        trace = served.scratch / "trace"
        trace.write_text("".join(json.dumps({"timestamp": 2 * i, "input_length": 64, "output_length": tokens}) + "\n"
                                 for i in range(streams)))
        before, begin = resident_bytes(served.gateway), cpu_us(served.gateway)
        with served.start_load("--trace", str(trace), "--duration", "10s") as bench:
            time.sleep(seconds / 2)
            held = resident_bytes(served.gateway)
            told = told_by(bench)
        used = cpu_us(served.gateway) - begin
    lost = streams * tokens - told["frames"] if told["completed"] == streams else streams * tokens
    what = f"{streams} streams at {pace} frames a second for {seconds} s from one mock engine (bench-serve --trace); "
    a_stream, a_frame = (held - before) / 1024 / streams, used / told["frames"]
    return [LOST.figure(lost, what + f"{told['completed']} came whole; frames that were not", [lost]),
            HELD.figure(a_stream, what + "growth of the gateway's resident memory by the middle of it, a stream", [a_stream]),
            CROWD_FRAME.figure(a_frame, what + "CPU of the gateway a frame, all its requests counted in", [a_frame])]


def measure_overload(seconds=600, factor=10):
    """Two engines of 8 places; 10 tokens at 50 a second: 80 requests a second."""
    places, tokens, pace = 16, 10, 50
    capacity = places * pace / tokens
    samples = []
    common = ("--tokens", str(tokens), "--waits", "2s", "--slo", "3s")
    with Served(f"--tokens-per-s {pace} --max-batch 8", replicas=2, concurrency=8) as served:
        peak = max(served.load("--rate", str(capacity * share), "--duration", "20s", *common)["goodput_per_s"] for share in (0.9, 1, 1.2))
        with served.start_load("--rate", str(capacity * factor), "--duration", f"{seconds}s", *common) as bench:
            while bench.poll() is None and len(samples) < seconds / 2 + 60:
                samples.append(resident_bytes(served.gateway) / 1e6)
                time.sleep(2)
            told = told_by(bench)
    settled = samples[len(samples) // 10:len(samples) * 9 // 10]
    growth = (statistics.mean(settled[-10:]) / statistics.mean(settled[:10]) - 1) * 100
    wrong = told["failed"] + told["rejected"] - told["rejected_with_retry_after"]
    share = told["goodput_per_s"] / peak * 100
    what = (f"{seconds} s of {capacity * factor:.0f} requests a second, {factor} times what two mock engines can do; clients wait 2 s; good is "
            f"a first token within 3 s: {told['sent']} sent, {told['completed']} completed, {told['rejected']} refused; ")
    return [GOODPUT.figure(share, what + f"good a second over the peak of {peak:.1f} (20 s each at 0.9, 1 and 1.2 times the capacity)", [share]),
            GROWTH.figure(growth, what + "growth of the gateway's resident memory from its second to its ninth tenth; the series is in MB",
                          [(sample / settled[0] - 1) * 100 for sample in settled], [round(each, 1) for each in samples[::len(samples) // 30 + 1]]),
            WRONG.figure(wrong, what + "that failed, or were refused without retry-after", [wrong])]


def measure_without_control_plane(seconds=60):
    with Served("--tokens-per-s 50 --max-batch 16", replicas=2, concurrency=16) as served:
        with served.start_load("--rate", "40", "--tokens", "20", "--duration", f"{seconds + 10}s") as bench:
            time.sleep(5)
            served.stargate.kill()
            told = told_by(bench)
        is_dead = not served.stargate.is_up()
        served.stargate.up()
    if not is_dead:
        raise Failed("somebody started the control plane")
    missed = told["sent"] - told["completed"]
    return [FAILED.figure(missed, f"{seconds + 10} s of 40 chats a second of 20 tokens; the control plane is killed (-9) after 5 s and not started "
                          f"again until all is over: of {told['sent']} requests those that did not come whole", [missed])]


G3 = Measurement("G3", [RATIO, ADDED, NGINX], measure_added)
G4 = Measurement("G4", [REQUEST, FRAME], measure_cpu)
G5 = Measurement("G5", [LOST, HELD, CROWD_FRAME], measure_crowd, is_long=True)
G6 = Measurement("G6", [GOODPUT, GROWTH, WRONG], measure_overload, is_long=True)
G7 = Measurement("G7", [FAILED], measure_without_control_plane, is_long=True)
