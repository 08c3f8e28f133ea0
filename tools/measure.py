"""What the bars measure and how. Each function returns a list of Figures; nothing here judges by itself."""

import dataclasses
import http.client
import json
import os
import pathlib
import random
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time

from harness import BINARY, ROOT, Stargate, give_to_job_user, scratch_folder, wait_until


@dataclasses.dataclass
class Figure:
    id: str
    value: float
    unit: str
    limit: float
    at_most: bool          # the limit is an upper bound, else a lower one
    command: str           # what was run
    spread: list           # [min, median, max] of the repetitions, in the same unit

    def ok(self):
        return self.value <= self.limit if self.at_most else self.value >= self.limit


def spread_of(values):
    return [min(values), statistics.median(values), max(values)]


BWRAP = ["bwrap", "--unshare-pid", "--unshare-ipc", "--die-with-parent", "--bind", "/", "/", "--dev", "/dev",
         "--proc", "/proc", "--tmpfs", "/tmp", "true"]


def calibration():
    """This machine today, in microseconds: a durable write, a process, a bwrap sandbox."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="stargate-calibrate-", dir=ROOT / "build"))
    times = []
    with open(folder / "file", "wb", buffering=0) as file:
        for _ in range(300):
            file.write(b"x" * 4096)
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - begin) * 1e6)
    shutil.rmtree(folder)

    def each(command, count):
        took = []
        for _ in range(count):
            begin = time.perf_counter()
            subprocess.run(command, check=True)
            took.append((time.perf_counter() - begin) * 1e6)
        return statistics.median(took)
    return {"fsync_mean_us": statistics.mean(times), "fsync_p50_us": statistics.median(times),
            "spawn_p50_us": each(["true"], 100), "bwrap_p50_us": each(BWRAP, 50)}


class Connection(http.client.HTTPConnection):
    """One keep-alive connection to the control plane's unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def post(self, path, body, headers=None):
        self.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **(headers or {})})
        answer = self.getresponse()
        return answer.status, answer.read()


class Plane:
    """A control plane in a scratch folder, for the length of a `with`."""

    def __init__(self, cpu_gpus=4):
        self.folder = scratch_folder("stargate-bars-")
        give_to_job_user(self.folder)
        self.stargate = Stargate(self.folder / "state", cpu_gpus=cpu_gpus)

    def __enter__(self):
        self.stargate.up()
        return self

    def __exit__(self, *_):
        self.stargate.down("--jobs")
        shutil.rmtree(self.folder, ignore_errors=True)

    def connection(self):
        return Connection(self.stargate.state / "stargate.sock")

    def job(self, name, count=1, held=True, more=""):
        """The body of a submit: a job file as the CLI posts it."""
        text = f"kind: batch\nname: {name}\ncount: {count}\nheld: {str(held).lower()}\n{more}run: 'true'\n"
        return {"yaml": text, "file": f"{name}.yaml", "folder": str(self.folder)}


def l1(calibrated, runs=200):
    with Plane() as plane:
        command = [str(BINARY), "run", "--state", str(plane.stargate.state), "--", "true"]
        ours, theirs = [], []
        for _ in range(5):
            subprocess.run(command, check=True, cwd=plane.folder)
        for _ in range(runs):
            for argv, times in ((command, ours), (BWRAP, theirs)):
                begin = time.perf_counter()
                subprocess.run(argv, check=True, cwd=plane.folder)
                times.append(time.perf_counter() - begin)
        submitted, waits = {}, []
        for event in plane.stargate.events():
            if event["type"] == "submitted":
                submitted[event["first"]] = event["at"]
            elif event["type"] == "started":
                submitted[f"attempt {event['attempt']}"] = submitted.get(event["job"])
            elif event["type"] == "running" and submitted.get(f"attempt {event['attempt']}"):
                waits.append((event["at"] - submitted[f"attempt {event['attempt']}"]) / 1e3)
    ratio = sum(ours) / sum(theirs)
    pairs = [a / b for a, b in zip(ours, theirs)]
    return [Figure("L1", ratio, "x", 1.5, True, f"{runs} x `stargate run -- true` against bwrap, interleaved", spread_of(pairs)),
            Figure("L1-start", statistics.median(waits), "ms", 5 + calibrated["fsync_mean_us"] / 1e3, True,
                   "submitted to ranks running, from events (more than the shim's spawn)", spread_of(waits))]


def l2(_, jobs=1000, rounds=3):
    ratios = []
    for _ in range(rounds):
        with Plane() as plane:
            path = plane.folder / "many.yaml"
            path.write_text(f"kind: batch\nname: many\ncount: {jobs}\nsandbox: none\nrun: 'true'\n")
            begin = time.perf_counter()
            plane.stargate.run("submit", str(path))
            with plane.connection() as connection:
                def done():
                    connection.request("GET", "/api/v1/jobs?active=1&limit=1")
                    return connection.getresponse().read().strip() == b"[]"
                wait_until("all are done", done, 120, pause=0.005)
            ours = time.perf_counter() - begin
            assert {row["state"] for row in plane.stargate.jobs()} == {"succeeded"}
        begin = time.perf_counter()
        subprocess.run(f"seq {jobs} | xargs -P2 -n1 true", shell=True, check=False, stderr=subprocess.DEVNULL)
        theirs = time.perf_counter() - begin
        ratios.append(ours / theirs)
    return [Figure("L2", statistics.median(ratios), "x", 3, True, f"one array of {jobs} `true`, sandbox none, against xargs -P2",
                   spread_of(ratios))]


def l3(calibrated, submits=1000):
    with Plane() as plane, plane.connection() as connection:
        times = []
        for i in range(submits):
            begin = time.perf_counter()
            status, body = connection.post("/api/v1/jobs", plane.job(f"job{i}"))
            times.append((time.perf_counter() - begin) * 1e3)
            assert status in (200, 201), body
    per_second = 1e3 / statistics.mean(times)
    return [Figure("L3", per_second, "1/s", 0.5e6 / calibrated["fsync_mean_us"], False,
                   f"{submits} sequential submits over one connection", [1e3 / value for value in reversed(spread_of(times))])]


def l4(_, arrays=40, size=1000):
    with Plane() as plane, plane.connection() as connection:
        rates = []
        for i in range(arrays):
            begin = time.perf_counter()
            status, body = connection.post("/api/v1/jobs", plane.job(f"array{i}", size))
            rates.append(size / (time.perf_counter() - begin))
            assert status in (200, 201), body
    return [Figure("L4", size * arrays / sum(size / rate for rate in rates), "jobs/s", 20000, False,
                   f"{arrays} arrays of {size}, one after another", spread_of(rates))]


def resident_bytes(pid):
    """Of the process and all its descendants."""
    total = 0
    for proc in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if int(proc.name) != pid and int((proc / "stat").read_text().rsplit(")", 1)[1].split()[1]) != pid:
                continue
            for line in (proc / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            continue
    return total


def l5(_, arrays=1000, size=100, rounds=3):
    with Plane() as plane:
        with plane.connection() as connection:
            for i in range(arrays):
                # Not held: they wait behind a job that has the whole machine, as in a real queue.
                if i == 0:
                    blocker = {"yaml": "kind: batch\nname: blocker\ngpus: 4\nrun: sleep 3600\n", "file": "b.yaml",
                               "folder": str(plane.folder)}
                    assert connection.post("/api/v1/jobs", blocker)[0] in (200, 201)
                status, body = connection.post("/api/v1/jobs", plane.job(f"array{i}", size, held=False))
                assert status in (200, 201), body
        memory = resident_bytes(plane.stargate.pid()) / 1e6
        recoveries, lists = [], []
        for _ in range(rounds):
            plane.stargate.kill()
            begin = time.perf_counter()
            plane.stargate.up()
            recoveries.append(time.perf_counter() - begin)
            memory = max(memory, resident_bytes(plane.stargate.pid()) / 1e6)
            for _ in range(5):
                begin = time.perf_counter()
                done = plane.stargate.run("jobs", "-o", "json", "--limit", "1000")
                lists.append((time.perf_counter() - begin) * 1e3)
                assert len(json.loads(done.stdout)) == 1000
        plane.stargate.run("cancel", "blocker", check=False)
        plane.stargate.kill()
    return [Figure("L5-memory", memory, "MB", 500, True, f"{arrays * size} waiting jobs, all processes", [memory] * 3),
            Figure("L5-recovery", max(recoveries), "s", 2, True, "kill -9, then `up --detach` until ready", spread_of(recoveries)),
            Figure("L5-list", statistics.median(lists), "ms", 100, True, "`jobs -o json --limit 1000`, the whole command",
                   spread_of(lists))]


def l6(_):
    folder = tempfile.mkdtemp(prefix="stargate-bars-", dir=ROOT / "build")
    argv = [str(BINARY), "twin", "run", str(ROOT / "tests/scenario/endless.yaml"), "--store", folder, "-o", "json"]
    samples = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as run:
        def sample():
            while run.poll() is None:
                try:
                    samples.append(resident_bytes(run.pid) / 1e6)
                except OSError:
                    pass
                time.sleep(0.5)
        watcher = threading.Thread(target=sample)
        watcher.start()
        report = json.loads(run.stdout.read())
        watcher.join()
    shutil.rmtree(folder, ignore_errors=True)
    settled = samples[len(samples) // 4:]
    growth = (max(settled) / min(settled) - 1) * 100
    assert report["jobs"] >= 2_000_000, report
    return [Figure("L6", growth, "% growth", 10, True, "twin run endless.yaml --store, after the first quarter", spread_of(settled))]


def l7(_, rounds=3):
    figures = []
    for name, every, limit in (("L7-unchecked", 0, 200_000), ("L7-checked", 1000, 20_000)):
        rates = []
        for i in range(rounds):
            argv = [str(BINARY), "twin", "run", str(ROOT / "tests/scenario/churn.yaml"), "--seed", str(i + 1), "-o", "json",
                    "--set", f"check_every={every}"]
            begin = time.perf_counter()
            report = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
            rates.append(report["events"] / (time.perf_counter() - begin))
        figures.append(Figure(name, statistics.median(rates), "events/s", limit, False,
                              f"twin run tests/scenario/churn.yaml --set check_every={every}", spread_of(rates)))
    return figures


def l8(_, rounds=300):
    """Kills the control plane at random instants under a client that notes each acknowledged id, and lets the jobs
    themselves append their id to a file. Judged by these two lists alone."""
    chance = random.Random()
    folder = scratch_folder("stargate-bars-")
    give_to_job_user(folder)
    stargate = Stargate(folder / "state", cpu_gpus=4)
    marks = folder / "marks"
    marks.mkdir()
    give_to_job_user(folder)
    acknowledged, broken_off, stop = [], [], threading.Event()
    text = (f"kind: batch\nname: KEY\nsandbox: none\nrun: echo $STARGATE_ATTEMPT >> {marks}/KEY\n")

    def client(number):
        sent = 0
        while not stop.is_set():
            connection = Connection(stargate.state / "stargate.sock")
            key = f"k{number}-{sent}"
            sent += 1
            broke_at = None  # when the first try of this key broke off, in microseconds since the epoch
            while not stop.is_set():  # the same key until it is answered
                try:
                    status, body = connection.post("/api/v1/jobs", {"yaml": text.replace("KEY", key), "file": "k.yaml",
                                                                    "folder": str(folder)}, {"Idempotency-Key": key})
                    if status in (200, 201):
                        acknowledged.append(key)
                        if broke_at:
                            broken_off.append((json.loads(body)["id"], broke_at))
                        break
                    if status not in (429, 503, 507):
                        raise AssertionError((status, body))
                except (OSError, http.client.HTTPException):
                    broke_at = broke_at or time.time() * 1e6
                    connection.close()
                    connection = Connection(stargate.state / "stargate.sock")
                    time.sleep(0.002)
            time.sleep(0.01)
    threads = [threading.Thread(target=client, args=(i,)) for i in range(2)]
    stargate.up()
    for thread in threads:
        thread.start()
    try:
        for _ in range(rounds):
            time.sleep(chance.uniform(0, 0.3))
            stargate.kill()
            stargate.up()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    try:
        wait_until("all jobs end", lambda: not [row for row in stargate.json("jobs", "--active")], 120, pause=0.2)
        lost = [key for key in acknowledged if not (marks / key).exists()]
        doubled = [path.name for path in marks.iterdir() if len(path.read_text().split()) > 1]
        # A job that the log has from before its first try broke off was committed, and only its reply was cut off.
        submitted = {event["first"]: event["at"] for event in stargate.events() if event["type"] == "submitted"}
        cut = [job for job, broke_at in broken_off if submitted[job] < broke_at]
        stargate.down("--jobs")
        orphans = [proc for proc in pathlib.Path("/proc").glob("[0-9]*") if is_ours(proc, folder)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    what = f"{rounds} kills, {len(acknowledged)} acknowledged, {len(broken_off)} after a try that broke off, {len(cut)} of these committed before it did"
    return [Figure("L8-lost", len(lost), "jobs", 0, True, what, [0, len(lost), len(acknowledged)]),
            Figure("L8-doubled", len(doubled), "jobs", 0, True, what, [0, len(doubled), len(acknowledged)]),
            Figure("L8-orphans", len(orphans), "processes", 0, True, what, [0, len(orphans), 0]),
            Figure("L8-cut-replies", len(cut), "kills between commit and reply", 1, False, what, [0, len(cut), len(broken_off)])]


def is_ours(proc, folder):
    try:
        return str(folder).encode() in (proc / "cmdline").read_bytes() or os.readlink(proc / "cwd").startswith(str(folder))
    except OSError:
        return False


BARS = {"L1": l1, "L2": l2, "L3": l3, "L4": l4, "L5": l5, "L6": l6, "L7": l7, "L8": l8}
LONG = ["L6", "L8"]  # over 60 s: measured by `make bench`, printed by `make bars` when of this commit
