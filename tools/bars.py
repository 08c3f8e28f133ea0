#!/usr/bin/python3
"""make bars: measures what we promise, here and now, and prints `bar ID VALUE UNIT LIMIT ok|short` for each row.

Results go to docs/bench/*.json, from which docs/benchmarks.md is made. Rows of over a minute are measured by `make bench`
(--long); `make bars` prints their result when it is of the same sources as these, and else `bar ID - UNIT LIMIT short`.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time

from harness import ROOT, Failed
from measure import MEASUREMENTS
from measure.machine import calibration

FOLDER = ROOT / "docs" / "bench"
PAGE = ROOT / "docs" / "benchmarks.md"
# What a figure depends on. A record is of these sources when their trees in git are the same, whatever else a commit
# holds; so a record that is committed still matches the commit that holds it.
SOURCES = ("src", "apps", "bench", "cmake", "CMakeLists.txt", "CMakePresets.json", "tests/scenario", "tools/harness.py", "tools/terminal.py", "tools/measure")


def git(*words):
    try:
        told = subprocess.run(["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), *words], capture_output=True, text=True,
                              check=False)  # also as root in somebody else's clone
    except FileNotFoundError:
        return None
    return told.stdout.strip() if told.returncode == 0 else None


def sources():
    """The ids in git of what is measured, or None when the files here differ from them."""
    if git("status", "--porcelain", "--", *SOURCES) != "":
        return None
    return {path: git("rev-parse", f"HEAD:{path}") for path in SOURCES}


def machine():
    model = ""
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return f"{model}, {subprocess.check_output(['nproc'], text=True).strip()} cores, Linux {platform.release()}"


def measured(measurement):
    """Measures, between two calibrations; limits that depend on the machine take the mean of both."""
    before = calibration()
    figures = measurement.measure()
    after = calibration()
    fsync_us = statistics.mean([before["fsync_mean_us"], after["fsync_mean_us"]])
    rows = []
    for figure in figures:
        limit = figure.row.limit_at(fsync_us)
        is_ok = limit is None or (figure.value <= limit if figure.row.at_most else figure.value >= limit)
        rows.append({"id": figure.row.id, "value": figure.value, "unit": figure.row.unit, "limit": limit,
                     "at_most": figure.row.at_most, "ok": is_ok, "spread": figure.spread, "command": figure.command,
                     **({"series": figure.series} if figure.series else {})})
    return {"commit": git("rev-parse", "--short", "HEAD") or "unknown", "sources": sources(), "machine": machine(),
            "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "calibration": {"before": before, "after": after},
            "figures": rows}


def recorded(measurement):
    """The record of docs/bench, when it is of these sources."""
    path = FOLDER / f"{measurement.id}.json"
    record = json.loads(path.read_text()) if path.exists() else {}
    now = sources()
    return record if now is not None and record.get("sources") == now else None


def limit_text(row):
    return "-" if row["limit"] is None else f"{'<=' if row['at_most'] else '>='}{row['limit']:.5g}"


def show(row):
    value = "-" if row["value"] is None else f"{row['value']:.5g}"
    print(f"bar {row['id']} {value} {row['unit']} {limit_text(row)} {'ok' if row['ok'] else 'short'}", flush=True)


def unmeasured(measurement):
    """Its rows as they stand while nothing is known: short."""
    return [{"id": row.id, "value": None, "unit": row.unit, "limit": row.limit, "at_most": row.at_most, "ok": False}
            for row in measurement.rows]


def write_page():
    """docs/benchmarks.md, from the records alone."""
    lines = ["# Benchmarks", "", "Made by `make bars` and `make bench` from `docs/bench/*.json`; do not edit. The calibration of the machine is in",
             "microseconds, right before and right after: a durable write (4 KiB at the end of a file, then fdatasync), a",
             "process, a bwrap sandbox. Figures on GPUs of type `cpu` say nothing about real ones.", ""]
    for path in sorted(FOLDER.glob("*.json")):
        record = json.loads(path.read_text())
        before, after = record["calibration"]["before"], record["calibration"]["after"]
        state = f"Commit {record['commit']}" if record["sources"] else f"Commit {record['commit']} with changes"
        lines += [f"## {path.stem}", "", f"{state}, {record['date']}, on {record['machine']}. Calibration: "
                  + ", ".join(f"{key.removesuffix('_us')} {before[key]:.0f} and {after[key]:.0f}" for key in before) + ".", "",
                  "| id | value | limit | | spread (min, median, max) | what was done |", "|---|---|---|---|---|---|"]
        for row in record["figures"]:
            spread = ", ".join(f"{value:.3g}" for value in row["spread"])
            series = f"; series: {' '.join(f'{value:g}' for value in row['series'])}" if "series" in row else ""
            verdict = "" if row["limit"] is None else "ok" if row["ok"] else "short"
            lines.append(f"| {row['id']} | {row['value']:.4g} {row['unit']} | {limit_text(row)} | {verdict} | {spread} | "
                         f"{row['command'].replace('|', chr(92) + '|')}{series} |")
        lines.append("")
    PAGE.write_text("\n".join(lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="measure the rows of over a minute too")
    parser.add_argument("ids", nargs="*", help="only these, as L1; measured even if long")
    options = parser.parse_args()
    unknown = set(options.ids) - MEASUREMENTS.keys()
    if unknown:
        parser.error(f"there is no {' '.join(sorted(unknown))}; there are {' '.join(MEASUREMENTS)}")
    short = 0
    for measurement in MEASUREMENTS.values():
        if options.ids and measurement.id not in options.ids:
            continue
        if measurement.is_long and not options.long and not options.ids:
            record = recorded(measurement)
            if record is None:
                if all(row.limit is None for row in measurement.rows):
                    continue  # nothing was promised
                print(f"bars: {measurement.id} takes over a minute and has not been measured at these sources: run `make bench`",
                      file=sys.stderr, flush=True)
        else:
            try:
                record = measured(measurement)
                FOLDER.mkdir(parents=True, exist_ok=True)
                (FOLDER / f"{measurement.id}.json").write_text(json.dumps(record, indent=1) + "\n")
            except Failed as failure:  # the others can be measured all the same
                print(f"bars: {measurement.id}: {failure}", file=sys.stderr, flush=True)
                record = None
        for row in record["figures"] if record else unmeasured(measurement):
            show(row)
            short += not row["ok"]
    write_page()
    return 1 if short else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failure:
        sys.exit(f"bars: {failure}")
