"""L8: kill -9 again and again under load. Is anything lost, doubled or left behind?

Judged only by what the clients were told (the keys that were acknowledged) and by the lines that the jobs themselves
append: `began` first, `ended` last.
"""

import json
import random
import threading
import time

import harness
from harness import process_table, shims_of, wait_until, with_descendants
from measure.figure import Measurement, Row
from measure.plane import Client, Plane, request

LOST = Row("L8-lost", "jobs", 0)
DOUBLED = Row("L8-doubled", "jobs", 0)
ORPHANS = Row("L8-orphans", "processes", 0)
CUT = Row("L8-cut-replies", "kills", 1, at_most=False)

CLIENTS = 4
PAUSE_S = 0.03       # of a client between two jobs: some 100 jobs a second in all
LONG_EVERY = 8       # every so many jobs one takes seconds, and so lives through kills
LONG_S = (1, 2, 3)


class Load:
    """Clients that submit jobs, each under a key of its own and with the same key until it is answered."""

    def __init__(self, plane):
        self.plane = plane
        self.over = threading.Event()
        self.kills = 0             # so far
        self.acknowledged = []     # keys
        self.broken_off = []       # of acknowledged keys whose first try broke off: (job, when in us of the epoch, after how many kills)
        self.wrong = []
        self.threads = [threading.Thread(target=self._client, args=(i,)) for i in range(CLIENTS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _request(self, key, number):
        is_long = number % LONG_EVERY == 0
        rest = f"sleep {LONG_S[number // LONG_EVERY % len(LONG_S)]}; " if is_long else ""
        text = (f"kind: batch\nname: {key}\ngpus: {0 if is_long else 1}\n"
                f"run: echo began >> marks/{key}; {rest}echo ended >> marks/{key}\n")
        body = {"yaml": text, "file": "job.yaml", "folder": str(self.plane.folder)}
        return request("POST", "/api/v1/jobs", body, {"Idempotency-Key": key})

    def _client(self, name):
        try:
            number = 0
            while not self.over.is_set():
                self._submit(f"client{name}-{number}", number)
                number += 1
                time.sleep(PAUSE_S)
        except Exception as error:  # pylint: disable=broad-except
            self.wrong.append(error)

    def _submit(self, key, number):
        message = self._request(key, number)
        broke = None
        while not self.over.is_set():
            try:
                with Client(self.plane.stargate.state / "stargate.sock") as client:
                    status, body = client.ask(message)
            except OSError:
                broke = broke or (time.time() * 1e6, self.kills)
                time.sleep(0.002)
                continue
            if status == 201:
                self.acknowledged.append(key)
                if broke:
                    self.broken_off.append((json.loads(body)["id"], *broke))
                return
            if status not in (429, 503):
                raise harness.Failed(f"a submit was answered {status}: {body.decode()}")


def strays(plane):
    """Processes of this state that no running attempt accounts for: shims of others, and whatever works in the jobs'
    folder without a shim above it."""
    active = {row["attempt"] for row in plane.stargate.json("jobs", "--active")}
    table = process_table()
    shims = shims_of(plane.stargate.state, table)
    known = with_descendants([pid for attempt in active for pid in shims.get(attempt, [])], table)
    ours = with_descendants([pid for pids in shims.values() for pid in pids], table)
    ours |= {process.pid for process in table.values() if process.folder.startswith(str(plane.folder))}
    return ours - known


def count_strays(plane, seconds=10):
    """After the time that a shim has for its last words."""
    deadline = time.monotonic() + seconds
    while (found := strays(plane)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return len(found)


def cut_replies(plane, broken_off):
    """Kills between a commit and its reply: a client's try broke off, and its job had been submitted before that."""
    kills = set()
    with plane.client() as client:
        for job, broke_at, kill in broken_off:
            _, row = client.ask(request("GET", f"/api/v1/jobs/{job}"))
            if json.loads(row)["submitted_at"] < broke_at:
                kills.add(kill)
    return kills


def judge(marks, acknowledged):
    """(lost, doubled): acknowledged jobs that did not append both lines, and jobs that appended one of them again."""
    lines = {path.name: path.read_text().split() for path in marks.iterdir()}
    lost = [key for key in acknowledged if set(lines.get(key, [])) != {"began", "ended"}]
    doubled = [key for key, said in lines.items() if len(said) != len(set(said))]
    return lost, doubled


def measure(rounds=300):
    chance = random.Random()
    with Plane() as plane:
        marks = plane.folder / "marks"
        marks.mkdir()
        harness.give_to_job_user(plane.folder)
        keeper = plane.folder / "keeper.yaml"
        keeper.write_text("kind: batch\nname: keeper\ngpus: 0\nrun: exec sleep 7200\n")
        plane.stargate.run("submit", str(keeper))
        kept = plane.stargate.wait_for("keeper", "running")
        with Load(plane) as load:
            for _ in range(rounds):
                time.sleep(chance.uniform(0, 0.3))
                plane.stargate.kill()
                load.kills += 1
                plane.stargate.up()
        if load.wrong:
            raise load.wrong[0]
        wait_until("all jobs but one are over", lambda: len(plane.stargate.json("jobs", "--active")) == 1, 600, pause=0.5)
        row = plane.stargate.json("show", str(kept["id"]))
        assert (row["state"], row["attempt"]) == ("running", kept["attempt"]), row
        orphans = count_strays(plane)
        plane.stargate.run("cancel", str(kept["id"]))
        wait_until("the last job is over", lambda: not plane.stargate.json("jobs", "--active"))
        orphans += count_strays(plane)
        lost, doubled = judge(marks, load.acknowledged)
        cut = cut_replies(plane, load.broken_off)
    what = (f"{rounds} x kill -9, uniform over 0 to 300 ms of {CLIENTS} clients submitting, default sandbox, every {LONG_EVERY}th job of "
            f"1 to 3 s; {len(load.acknowledged)} jobs acknowledged, {len(load.broken_off)} of them after a try that broke off; ")
    return [LOST.figure(len(lost), what + "acknowledged without both of its lines", [len(lost)]),
            DOUBLED.figure(len(doubled), what + "that appended a line twice", [len(doubled)]),
            ORPHANS.figure(orphans, what + "processes that no running attempt accounts for, before `down`: once beside a job that ran "
                           "through all kills, once after its end", [orphans]),
            CUT.figure(len(cut), what + "kills between a commit and its reply", [len(cut)])]


L8 = Measurement("L8", [LOST, DOUBLED, ORPHANS, CUT], measure, is_long=True)
