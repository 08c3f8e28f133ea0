"""L5: a hundred thousand waiting jobs, each submitted by itself and (L5a) as arrays of a hundred."""

import json
import statistics
import threading
import time

from harness import processes_of
from measure.figure import Measurement, Row
from measure.machine import memory_bytes
from measure.plane import Plane
from measure.submits import BEHIND

JOBS = 100_000
CONNECTIONS = 16


def rows_of(prefix):
    return [Row(f"{prefix}-memory", "MB", 500), Row(f"{prefix}-recovery", "s", 2), Row(f"{prefix}-list", "ms", 100)]


SINGLES, ARRAYS = rows_of("L5"), rows_of("L5a")


class MemoryWatch:
    """Samples the memory of a control plane, its shims and all their descendants while it is open, in MB."""

    def __init__(self, stargate):
        self.stargate = stargate
        self.over = threading.Event()
        self.samples = []
        self.thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self.look()

    def _watch(self):
        while not self.over.wait(0.5):
            self.look()

    def look(self):
        self.samples.append(memory_bytes(processes_of(self.stargate.state)) / 1e6)


def submit_all(plane, count, size):
    """`count` arrays of `size`, over several connections at once."""
    wrong = []

    def client(number):
        try:
            with plane.client() as connection:
                for i in range(number, count, CONNECTIONS):
                    connection.timed(plane.submit(f"job{i}", size))
        except Exception as error:  # pylint: disable=broad-except
            wrong.append(error)
    threads = [threading.Thread(target=client, args=(i,)) for i in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]


def measure_waiting(rows, size, lives):
    """Submits, then kills and recovers `lives` times; lists in each life."""
    what = f"{JOBS // size} {'single jobs' if size == 1 else f'arrays of {size}'} over {CONNECTIONS} connections, {BEHIND}"
    peaks, recoveries, lists = [], [], []
    with Plane() as plane:
        plane.block()
        with MemoryWatch(plane.stargate) as watch:
            submit_all(plane, JOBS // size, size)
        peaks.append(max(watch.samples))
        for _ in range(lives):
            plane.stargate.kill()
            begin = time.perf_counter()
            plane.stargate.up()
            recoveries.append(time.perf_counter() - begin)
            with MemoryWatch(plane.stargate) as watch:
                for _ in range(5):
                    begin = time.perf_counter()
                    done = plane.stargate.run("jobs", "-o", "json", "--limit", "1000")
                    lists.append((time.perf_counter() - begin) * 1e3)
                    assert len(json.loads(done.stdout)) == 1000
                time.sleep(1)
            peaks.append(max(watch.samples))
        plane.stargate.kill()
    memory, recovery, listing = rows
    return [memory.figure(max(peaks), f"{what}: the most that all processes had at any sample, PSS of the control plane, its follower, "
                          f"the shims and what they run, while submitting and in {lives} lives after a kill -9", peaks),
            recovery.figure(max(recoveries), f"{what}: kill -9, then `up --detach` until it is ready; the longest of {lives}", recoveries),
            listing.figure(statistics.median(lists), f"{what}: `stargate jobs -o json --limit 1000`, the whole command", lists)]


def measure_both():
    return [*measure_waiting(SINGLES, 1, lives=5), *measure_waiting(ARRAYS, 100, lives=5)]


L5 = Measurement("L5", SINGLES + ARRAYS, measure_both)
