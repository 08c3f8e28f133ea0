"""L1, L2: what it costs to start a job here, beside bwrap and xargs on the same machine in the same minutes."""

import statistics
import subprocess
import time

from harness import BINARY, wait_until
from measure.figure import Measurement, Row
from measure.machine import BWRAP
from measure.plane import Plane, request

RUN_TRUE = Row("L1", "x", 1.5)
START = Row("L1-start", "ms", lambda fsync_us: 5 + fsync_us / 1e3)
ARRAY = Row("L2", "x", 3)


def seconds_of(command, **options):
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, **options)
    return time.perf_counter() - begin


def submit_to_running(events):
    """Milliseconds from each job's submit to its ranks running, as the log has them."""
    submitted, job_of, waits = {}, {}, []
    for event in events:
        if event["type"] == "submitted":
            submitted[event["first"]] = event["at"]
        elif event["type"] == "started":
            job_of[event["attempt"]] = event["job"]
        elif event["type"] == "running":
            waits.append((event["at"] - submitted[job_of[event["attempt"]]]) / 1e3)
    return waits


def measure_run(runs=200):
    with Plane() as plane:
        ours = [str(BINARY), "run", "--state", str(plane.stargate.state), "--", "true"]
        pairs = []
        for command in (ours, BWRAP) * 3:
            seconds_of(command, cwd=plane.folder)
        for _ in range(runs):
            pairs.append((seconds_of(ours, cwd=plane.folder), seconds_of(BWRAP, cwd=plane.folder)))
        waits = submit_to_running(plane.stargate.events())
    ratio = sum(our for our, _ in pairs) / sum(their for _, their in pairs)
    return [RUN_TRUE.figure(ratio, f"{runs} x `stargate run -- true`, default sandbox, each followed by one `{' '.join(BWRAP)}`: "
                            "sum of whole wall times over sum; spread of the pairs", [a / b for a, b in pairs]),
            START.figure(statistics.median(waits), "of the same runs, from `stargate events`: submitted to the ranks running, "
                         "which is later than the shim's spawn", waits)]


def measure_array(jobs=1000, rounds=5):
    still_active = request("GET", "/api/v1/jobs?active=1&limit=1")
    ratios, ours, theirs = [], [], []
    with Plane() as plane, plane.client() as client:
        for i in range(rounds):
            path = plane.folder / f"many{i}.yaml"
            path.write_text(f"kind: batch\nname: many{i}\ncount: {jobs}\nsandbox: none\nrun: 'true'\n")
            begin = time.perf_counter()
            plane.stargate.run("submit", str(path))
            wait_until("the array is over", lambda: client.ask(still_active)[1].strip() == b"[]", 120, pause=0.01)
            ours.append(time.perf_counter() - begin)
            theirs.append(seconds_of(f"seq {jobs} | xargs -P2 -n1 true", shell=True, stderr=subprocess.DEVNULL))
            ratios.append(ours[-1] / theirs[-1])
            states = [row["state"] for row in plane.stargate.jobs() if row["name"].startswith(f"many{i}[")]
            assert states == ["succeeded"] * jobs, set(states)
    return [ARRAY.figure(sum(ours) / sum(theirs),
                         f"{rounds} arrays of {jobs} `true` by `stargate submit`, sandbox none, until all are over, each followed "
                         f"by `seq {jobs} | xargs -P2 -n1 true`: sum of wall times over sum; spread of the rounds", ratios)]


L1 = Measurement("L1", [RUN_TRUE, START], measure_run)
L2 = Measurement("L2", [ARRAY], measure_array)
