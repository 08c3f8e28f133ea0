#!/usr/bin/python3
"""The gateway's process with mock engines behind it; this script is the control plane and the clients."""

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest
import pathlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
from harness import BINARY, is_alive, scratch_folder, wait_until  # noqa: E402


class Plane:
    """The control plane's end of the link."""

    def __init__(self, state, term=1):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(state / "gateway.sock"))
        self.lines = self.socket.makefile("rwb")
        self.version = 0
        self.hello = self.wait_for("hello")
        self.say(type="hello", incarnation="e2e", term=term)

    def say(self, **message):
        self.lines.write(json.dumps(message).encode() + b"\n")
        self.lines.flush()

    def wait_for(self, kind, holds=lambda message: True):
        while True:
            line = self.lines.readline()
            if not line:
                raise EOFError(kind)
            message = json.loads(line)
            if message["type"] == kind and holds(message):
                return message

    def order(self, kind, **members):
        self.version += 1
        self.say(type=kind, version=self.version, **members)
        self.wait_for("have", lambda message: message["version"] == self.version)

    def close(self):
        self.lines.close()
        self.socket.close()


def resident(pid):
    """Bytes."""
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def key(secret, tenant="lab"):
    return {"id": secret, "tenant": tenant, "digest": hashlib.blake2b(secret.encode(), digest_size=32).hexdigest()}


def chat(ports, **more):
    replicas = [{"id": number, "host": "127.0.0.1", "port": port, "state": "serving"}
                for number, port in enumerate(ports, start=1)]
    return {"name": "chat", "tenant": "lab", "model": "mock", "replicas": replicas, **more}


class GatewayTest(unittest.TestCase):
    def setUp(self):
        self.folder = scratch_folder("stargate-gateway-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.state = self.folder / "state"
        self.processes = []
        self.addCleanup(self.end_processes)

    def end_processes(self):
        for process in self.processes:
            process.kill()
            process.wait(20)
            process.stdout.close()

    def spawn(self, *words, **keywords):
        process = subprocess.Popen([str(BINARY), *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                                   **keywords)
        self.processes.append(process)
        return process, process.stdout.readline()

    def start_gateway(self, **keywords):
        process, said = self.spawn("gateway", "--state", str(self.state), "--listen", "127.0.0.1:0", **keywords)
        self.assertIn("gateway on http://127.0.0.1:", said)
        self.port = int((self.state / "gateway.address").read_text().rsplit(":", 1)[1])
        self.assertEqual(int((self.state / "gateway.pid").read_text()), process.pid)
        return process

    def engine(self, *words):
        _, said = self.spawn("mock-engine", "--port", "0", *words)
        return int(said.split(":")[2].split("/")[0])

    def plane(self, services, term=1):
        plane = Plane(self.state, term)
        self.addCleanup(plane.close)
        plane.order("table", services=services, keys=[key("good")])
        return plane

    def ask(self, body, secret="good", target="/v1/chat/completions", method="POST"):
        peer = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(peer):
            peer.request(method, target, json.dumps(body) if isinstance(body, dict) else body,
                         {"Authorization": f"Bearer {secret}"} if secret else {})
            reply = peer.getresponse()
            return reply, reply.read()

    def stream(self, tokens):
        """Starts one in a thread; returns the list that its text will be put into."""
        told = []
        body = {"model": "chat", "stream": True, "max_tokens": tokens, "messages": []}
        thread = threading.Thread(target=lambda: told.append(self.ask(body)[1]))
        thread.start()
        self.addCleanup(thread.join)
        return told, thread

    def test_streams_outlive_the_control_plane_and_the_next_one_finds_the_gateway(self):
        gateway = self.start_gateway()
        plane = self.plane([chat([self.engine("--tokens-per-s", "50"), self.engine("--tokens-per-s", "50")])])
        streams = [self.stream(50) for _ in range(4)]
        plane.wait_for("demand", lambda message: message["services"][0]["in_flight"] == 4)
        plane.close()  # as the kernel does when it is killed
        for told, thread in streams:
            thread.join(20)
            self.assertTrue(told[0].endswith(b"data: [DONE]\n\n"), told)
            self.assertIn(b"w49", told[0])
        following = Plane(self.state, term=2)
        self.addCleanup(following.close)
        self.assertEqual(following.hello["pid"], gateway.pid)
        self.assertEqual((following.hello["incarnation"], following.hello["term"], following.hello["version"]),
                         ("e2e", 1, 1))
        late = Plane(self.state, term=1)
        self.addCleanup(late.close)
        late.wait_for("refused")
        with self.assertRaises(EOFError):
            late.wait_for("have")

    def test_a_stream_that_waits_is_pinged_and_a_whole_answer_is_not(self):
        self.start_gateway()
        plane = self.plane([chat([self.engine("--tokens-per-s", "10", "--max-batch", "1")], max_concurrency=1)])
        holding, _ = self.stream(130)  # for thirteen seconds
        plane.wait_for("demand", lambda message: message["services"][0]["in_flight"] == 1)
        body = {"model": "chat", "stream": True, "max_tokens": 3, "messages": []}
        waiting, whole = socket.create_connection(("127.0.0.1", self.port), 20), []
        thread = threading.Thread(target=lambda: whole.append(self.ask(body | {"stream": False})))
        thread.start()
        with contextlib.closing(waiting):
            text = json.dumps(body)
            waiting.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n"
                            f"Content-Length: {len(text)}\r\n\r\n{text}".encode())
            reply = http.client.HTTPResponse(waiting)
            reply.begin()
            self.assertEqual((reply.status, holding), (200, []))
            self.assertEqual(reply.readline(), b": ping\n")
            lines = [line for line in reply.read().split(b"\n") if line.startswith(b"data: ")]
        thread.join(20)
        self.assertEqual(len(lines), len([line for line in self.ask(body)[1].split(b"\n") if line.startswith(b"data: ")]))
        self.assertEqual(lines[-1], b"data: [DONE]")
        self.assertEqual(json.loads(whole[0][1])["object"], "chat.completion")

    def test_large_bodies_are_bounded_together_and_others_are_served(self):
        gateway = self.start_gateway()
        plane = Plane(self.state)
        self.addCleanup(plane.close)
        plane.order("table", services=[chat([self.engine("--tokens-per-s", "1000")]) | {"tenant": "default"}],
                    keys=[key("good"), key("theirs", "shop")])
        size = 15 << 20
        body = b'{"model": "chat", "max_tokens": 1, "messages": [], "x": "' + b"x" * (size - 59) + b'"}'
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\nContent-Length: {len(body)}\r\n\r\n"
        before = resident(gateway.pid)
        peers, refused = [], []
        for _ in range(20):
            peer = socket.create_connection(("127.0.0.1", self.port), 20)
            self.addCleanup(peer.close)
            peer.sendall(head.encode())
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                peer.sendall(body[:-1])  # and no more for now
            peer.settimeout(0.2)
            try:
                refused.append(peer.recv(65536))
            except TimeoutError:
                peers.append(peer)
        self.assertEqual((len(peers), len(refused)), ((128 << 20) // len(body), 20 - (128 << 20) // len(body)))
        for reply in refused:
            self.assertTrue(reply.startswith(b"HTTP/1.1 503 "), reply)
            self.assertIn(b"\r\nretry-after-ms: ", reply)
        self.assertLess(resident(gateway.pid) - before, 1.5 * (128 << 20), "a text that grows is there twice for a moment")
        small = {"model": "chat", "max_tokens": 1, "messages": []}
        self.assertEqual(self.ask(small)[0].status, 200, "what is small comes with its head")
        reply, _ = self.ask(small | {"x": "x" * size}, "theirs")
        self.assertEqual(reply.status, 200, "of another tenant")
        for peer in peers:
            peer.settimeout(20)
            peer.sendall(body[-1:])
            self.assertTrue(peer.recv(65536).startswith(b"HTTP/1.1 200 "))
        self.assertEqual(self.ask(small | {"x": "x" * size})[0].status, 200, "all has been given back")

    def test_it_outlives_its_starter(self):
        script = (f"import subprocess; p = subprocess.Popen([{str(BINARY)!r}, 'gateway', '--state', {str(self.state)!r}, "
                  "'--listen', '127.0.0.1:0'], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL); p.stdout.readline(); "
                  "print(p.pid)")
        pid = int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20,
                                 check=True).stdout)
        try:
            self.port = int((self.state / "gateway.address").read_text().rsplit(":", 1)[1])
            self.assertEqual(self.ask("", target="/health", method="GET")[0].status, 200)
        finally:
            os.kill(pid, signal.SIGTERM)
        wait_until("the gateway has gone", lambda: not is_alive(pid))
        self.assertFalse((self.state / "gateway.pid").exists())

    def test_two_never_run_on_one_state(self):
        self.start_gateway()
        done = subprocess.run([str(BINARY), "gateway", "--state", str(self.state), "--listen", "127.0.0.1:0"],
                              capture_output=True, text=True, timeout=20, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("gateway.lock is held by", done.stderr)
        self.assertEqual(len(done.stderr.strip().splitlines()), 1)
        self.assertEqual(self.ask("", target="/health", method="GET")[0].status, 200)

    def test_an_address_that_others_could_reach_is_refused(self):
        for listen in ("0.0.0.0:0", "10.0.0.1:80", "nonsense", "127.0.0.1:x"):
            done = subprocess.run([str(BINARY), "gateway", "--state", str(self.state), "--listen", listen],
                                  capture_output=True, text=True, timeout=20, check=False)
            self.assertEqual(done.returncode, 2, listen)
            self.assertEqual(len(done.stderr.strip().splitlines()), 1)

    def test_a_replica_is_withdrawn_and_what_is_left_is_cut(self):
        self.start_gateway()
        first = self.engine("--tokens-per-s", "20")
        plane = self.plane([chat([first])])
        told, thread = self.stream(1000)
        plane.wait_for("demand", lambda message: message["services"][0]["in_flight"] == 1)
        plane.order("withdraw", replica=1, deadline_ms=200)
        self.assertEqual(plane.wait_for("draining"), {"type": "draining", "replica": 1, "in_flight": 1})
        self.assertEqual(plane.wait_for("drained")["replica"], 1)
        thread.join(20)
        self.assertIn(b"stream_interrupted", told[0])
        self.assertNotIn(b"[DONE]", told[0])

    def test_bad_keys_large_bodies_and_strange_routes_are_refused_in_openais_form(self):
        self.start_gateway()
        self.plane([chat([self.engine()])])
        body = {"model": "chat", "max_tokens": 2, "messages": []}
        large = b'{"model":"chat","messages":"' + b"x" * (17 << 20) + b'"}'
        for what, status, code in (
                (lambda: self.ask(body, secret=None), 401, "invalid_api_key"),
                (lambda: self.ask(large, secret="bad"), 401, "invalid_api_key"),
                (lambda: self.ask(large), 413, "request_too_large"),
                (lambda: self.ask("[" * 100_000), 400, "invalid_json"),
                (lambda: self.ask(b'{"model":"\xff"}'), 400, "invalid_json"),
                (lambda: self.ask({"model": "none"}), 404, "model_not_found"),
                (lambda: self.ask(body, target="/v1/responses"), 404, "unknown_url"),
                (lambda: self.ask(body, method="PUT"), 405, "method_not_allowed")):
            reply, text = what()
            self.assertEqual(reply.status, status, text)
            error = json.loads(text)["error"]
            self.assertEqual(error["code"], code)
            self.assertEqual(set(error), {"message", "type", "param", "code"})
            self.assertTrue(reply.headers["x-request-id"])
            self.assertEqual(reply.headers["x-should-retry"], "false")
        self.assertEqual(self.ask(body)[0].status, 200)

    def raw(self, wire):
        """What is answered to these bytes until the connection ends."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as peer:
            peer.sendall(wire)
            peer.shutdown(socket.SHUT_WR)
            got = b""
            while part := peer.recv(65536):
                got += part
            return got

    def test_pipelined_requests_are_answered_in_order_and_smuggled_ones_refused(self):
        self.start_gateway()
        self.plane([chat([self.engine("--tokens-per-s", "1000")])])
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer good\r\n"
        wire = b""
        for tokens in (5, 1, 3):
            body = json.dumps({"model": "chat", "max_tokens": tokens, "messages": []})
            wire += f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as peer:
            peer.sendall(wire)
            got = b""
            while got.count(b'"usage"') < 3:
                got += peer.recv(65536)
        counts = [int(part.split(b",")[0]) for part in got.split(b'"completion_tokens":')[1:]]
        self.assertEqual(counts, [5, 1, 3])
        for more in ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                     "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
                     "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
                     "Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
                     "X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
                     "X: a\nContent-Length: 0\r\n\r\n",
                     "Host: b\r\nContent-Length: 0\r\n\r\n",
                     "Content-Length : 0\r\n\r\n"):
            got = self.raw((head + more).encode())
            self.assertTrue(got.startswith(b"HTTP/1.1 400 "), got)
            self.assertEqual(got.count(b"HTTP/1.1"), 1, got)
            self.assertIn(b'"code":"malformed_request"', got)

    def test_a_key_that_is_revoked_while_a_body_comes_opens_nothing(self):
        self.start_gateway()
        plane = self.plane([chat([self.engine()])])
        body = b'{"model": "chat", "max_tokens": 1, "messages": []}'
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as peer:
            peer.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer good\r\n"
                         b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
            self.assertTrue(peer.recv(4096).startswith(b"HTTP/1.1 100 "), "the key was good when the head came")
            plane.order("change", services=[], drop=[], keys=[], revoke=["good"])
            peer.sendall(body)
            self.assertTrue(peer.recv(4096).startswith(b"HTTP/1.1 401 "))

    def test_it_drains_at_sigterm_and_leaves_its_usage(self):
        gateway = self.start_gateway()
        self.plane([chat([self.engine("--tokens-per-s", "20")])])
        told, thread = self.stream(20)
        time.sleep(0.3)
        gateway.send_signal(signal.SIGTERM)
        thread.join(20)
        self.assertTrue(told[0].endswith(b"data: [DONE]\n\n"), told)
        self.assertEqual(gateway.wait(20), 0)
        for name in ("gateway.pid", "gateway.address", "gateway.sock"):
            self.assertFalse((self.state / name).exists(), name)
        usage = (next((self.state / "usage").iterdir())).read_bytes()
        self.assertTrue(usage.startswith(b"SGUSAGE1"))
        record = usage[256 + 320:]
        self.assertTrue(record.startswith(b"lab\0"))
        counters = [int.from_bytes(record[256 + 8 * i:264 + 8 * i], "little") for i in range(6)]
        self.assertEqual((counters[0], counters[2], counters[3], counters[5]), (1, 20, 0, 0))

    def test_usage_outlives_kill_9(self):
        gateway = self.start_gateway()
        plane = self.plane([chat([self.engine("--tokens-per-s", "1000")])])
        for _ in range(3):
            self.ask({"model": "chat", "max_tokens": 4, "messages": []})
        gateway.kill()
        gateway.wait(20)
        with self.assertRaises(EOFError):
            plane.wait_for("have")
        record = (next((self.state / "usage").iterdir())).read_bytes()[256 + 320:]
        self.assertEqual(int.from_bytes(record[256 + 16:256 + 24], "little"), 12)
        self.start_gateway()
        reply, text = self.ask({"model": "chat"})
        self.assertEqual(reply.status, 503, text)
        self.assertTrue(reply.headers["retry-after-ms"])

    def test_an_engine_that_is_killed_is_passed_by(self):
        self.start_gateway()
        ports = [self.engine("--tokens-per-s", "1000"), self.engine("--tokens-per-s", "1000")]
        self.plane([chat(ports)])
        self.processes[1].kill()
        self.processes[1].wait(20)
        for _ in range(20):
            reply, text = self.ask({"model": "chat", "max_tokens": 2, "messages": []})
            self.assertEqual(reply.status, 200, text)


if __name__ == "__main__":
    unittest.main()
