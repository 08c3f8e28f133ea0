"""What the API costs by itself (bench/api.cpp): no promise, a figure to compare with."""

import json
import statistics
import subprocess

from harness import ROOT
from measure.figure import Measurement, Row

RUNS = [(Row("API-whoami", "us"), "whoami"), (Row("API-submit", "us"), "submit_one_job_file"),
        (Row("API-list", "ms"), "list_a_thousand_of/100000")]


def measure():
    done = subprocess.run([str(ROOT / "build" / "bin" / "bench_api"), "--benchmark_format=json", "--benchmark_repetitions=5"],
                          check=True, capture_output=True, text=True)
    runs = [run for run in json.loads(done.stdout)["benchmarks"] if run["run_type"] == "iteration"]
    figures = []
    for row, name in RUNS:
        times = [run["real_time"] for run in runs if run["run_name"].startswith(name)]
        figures.append(row.figure(statistics.median(times), f"bench_api, {name}: one client on the unix socket, a control plane in memory",
                                  times))
    return figures


API = Measurement("API", [row for row, _ in RUNS], measure, is_long=True)
