#!/usr/bin/python3
"""make lint's last step: clang-tidy on the sources that changed since a commit, or on all of them.

Only files that are compiled are looked at, with the commands of build/compile_commands.json. A header is judged with the
sources that include it. Status 1 when anything was found.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def compiled():
    return {pathlib.Path(entry["directory"], entry["file"]).resolve()
            for entry in json.loads((ROOT / "build" / "compile_commands.json").read_text())}


def changed_since(commit):
    told = subprocess.run(["git", "diff", "--name-only", "--diff-filter=d", commit, "--", "*.cpp"], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    if told.returncode != 0:
        sys.exit(f"tidy: git cannot tell what changed since {commit}: {told.stderr.strip()}; name another commit with BASE=, "
                 "or look at everything with FULL=1")
    return {(ROOT / name).resolve() for name in told.stdout.split()}


def tidy(path):
    """(path, what it found)"""
    done = subprocess.run(["clang-tidy", "-p", "build", "--quiet", str(path)], cwd=ROOT, capture_output=True, text=True, check=False)
    return path, done.stdout + (done.stderr if done.returncode != 0 else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--since", metavar="COMMIT")
    which.add_argument("--all", action="store_true")
    options = parser.parse_args()
    paths = sorted(path for path in (compiled() if options.all else compiled() & changed_since(options.since)) if path.is_relative_to(ROOT))
    found = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, text in pool.map(tidy, paths):
            if text.strip():
                found += 1
                print(f"--- {path.relative_to(ROOT)}\n{text.rstrip()}", flush=True)
    print(f"clang-tidy: {len(paths)} sources, {found} with findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
