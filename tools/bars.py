#!/usr/bin/python3
"""make bars: measures what we promise, here and now, and prints `bar ID VALUE UNIT LIMIT ok|short` for each.

Rows of over a minute are measured by `make bench` (--long); their results are printed when they are of this commit.
Results go to docs/bench/*.json, from which docs/benchmarks.md is made.
"""

import argparse
import dataclasses
import json
import platform
import subprocess
import sys
import time

from harness import ROOT
from measure import BARS, LONG, Figure, calibration

FOLDER = ROOT / "docs" / "bench"


def commit():
    told = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"], capture_output=True,
                          text=True, check=False)
    return told.stdout.strip() or "unknown"


def machine():
    model = ""
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return f"{model}, {subprocess.check_output(['nproc'], text=True).strip()} cores, Linux {platform.release()}"


def save(name, figures, calibrated):
    FOLDER.mkdir(parents=True, exist_ok=True)
    record = {"commit": commit(), "machine": machine(), "date": time.strftime("%Y-%m-%d"), "calibration": calibrated,
              "figures": [dataclasses.asdict(figure) | {"ok": figure.ok()} for figure in figures]}
    (FOLDER / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")


def load(name):
    path = FOLDER / f"{name}.json"
    if not path.exists():
        return None
    record = json.loads(path.read_text())
    return record if record["commit"].split("-")[0] == commit().split("-")[0] else None


def show(figure):
    print(f"bar {figure.id} {figure.value:.4g} {figure.unit.replace(' ', '_')} {'<=' if figure.at_most else '>='}{figure.limit:.4g} "
          f"{'ok' if figure.ok() else 'short'}", flush=True)


def write_page():
    """docs/benchmarks.md, from the records alone."""
    lines = ["# Benchmarks", "", "Made by `make bars` and `make bench` from `docs/bench/*.json`; do not edit.", ""]
    for path in sorted(FOLDER.glob("*.json")):
        record = json.loads(path.read_text())
        lines += [f"## {path.stem}", "", f"Commit {record['commit']}, {record['date']}, on {record['machine']}. Calibration: "
                  + ", ".join(f"{key} {value:.0f}" for key, value in record["calibration"].items()) + ".", "",
                  "| id | value | limit | | spread (min, median, max) | what was run |", "|---|---|---|---|---|---|"]
        for row in record["figures"]:
            spread = ", ".join(f"{value:.3g}" for value in row["spread"])
            lines.append(f"| {row['id']} | {row['value']:.4g} {row['unit']} | {'≤' if row['at_most'] else '≥'} {row['limit']:.4g} | "
                         f"{'ok' if row['ok'] else 'short'} | {spread} | {row['command']} |")
        lines.append("")
    (ROOT / "docs" / "benchmarks.md").write_text("\n".join(lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true", help="also measure the rows of over a minute")
    parser.add_argument("ids", nargs="*", help="only these, as L1")
    options = parser.parse_args()
    calibrated = calibration()
    print("calibration " + " ".join(f"{key}={value:.0f}" for key, value in calibrated.items()), flush=True)
    short = 0
    for name, measure in BARS.items():
        if options.ids and name not in options.ids:
            continue
        if name in LONG and not options.long and name not in options.ids:
            record = load(name)
            if record is None:
                print(f"bar {name} - not measured at this commit: run `make bench`")
                continue
            figures = [Figure(**{key: value for key, value in row.items() if key != "ok"}) for row in record["figures"]]
        else:
            figures = measure(calibrated)
            save(name, figures, calibrated)
        for figure in figures:
            show(figure)
            short += not figure.ok()
    write_page()
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
