"""L6, L7: does the twin's memory stay flat, and how fast is it?"""

import contextlib
import json
import shutil
import sqlite3
import statistics
import subprocess
import tempfile
import time

from harness import BINARY, ROOT
from measure.figure import Measurement, Row
from measure.machine import memory_bytes, scratch_folder

GROWTH = Row("L6", "%", 10)
UNCHECKED = Row("L7-unchecked", "events/s", 200_000, at_most=False)
CHECKED = Row("L7-checked", "events/s", 20_000, at_most=False)


def has_retired(store):
    """Whether a first job has left State for the history table. Reads beside the running twin."""
    with contextlib.suppress(sqlite3.Error), \
            contextlib.closing(sqlite3.connect(f"file:{store}/stargate.db?mode=ro", uri=True, timeout=1)) as database:
        return database.execute("SELECT EXISTS (SELECT 1 FROM history)").fetchone()[0] == 1
    return False


def measure_memory(jobs=2_000_000):
    store = scratch_folder("twin-")
    command = [str(BINARY), "twin", "run", str(ROOT / "tests/scenario/endless.yaml"), "--store", str(store), "-o", "json"]
    samples = []  # MB, from the first retirement on
    with tempfile.TemporaryFile("w+") as report, subprocess.Popen(command, stdout=report) as run:
        while run.poll() is None:
            time.sleep(0.5)
            if samples or has_retired(store):
                samples.append(memory_bytes([run.pid]) / 1e6)
        report.seek(0)
        report = json.load(report)
    assert run.returncode == 0 and report["broken"] is None and report["jobs"] >= jobs, report
    size = sum(path.stat().st_size for path in store.iterdir()) / 1e6
    shutil.rmtree(store)
    samples = [sample for sample in samples if sample > 0]  # the last may have met its end
    growth = (max(samples) / min(samples) - 1) * 100
    every = max(1, len(samples) // 60)
    return [GROWTH.figure(growth, f"twin run endless.yaml --store, {report['jobs']} jobs, {size:.0f} MB of store: most over least of "
                          f"{len(samples)} samples of memory (PSS) from the first retirement to the end; the series is in MB",
                          [(sample / samples[0] - 1) * 100 for sample in samples],
                          [round(sample, 1) for sample in samples[::every]])]


def measure_speed(rounds=3):
    figures = []
    for row, every in ((UNCHECKED, 0), (CHECKED, 1000)):
        rates = []
        for seed in range(1, rounds + 1):
            command = [str(BINARY), "twin", "run", str(ROOT / "tests/scenario/churn.yaml"), "--seed", str(seed), "-o", "json", "--set",
                       f"check_every={every}"]
            begin = time.perf_counter()
            report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            rates.append(report["events"] / (time.perf_counter() - begin))
        checks = "local ones after every event, whole-state ones every 1000" if every else "none"
        figures.append(row.figure(statistics.median(rates), f"twin run churn.yaml --set check_every={every}, seeds 1 to {rounds}, the "
                                  f"whole process; checks: {checks}", rates))
    return figures


L6 = Measurement("L6", [GROWTH], measure_memory, is_long=True)
L7 = Measurement("L7", [UNCHECKED, CHECKED], measure_speed)
