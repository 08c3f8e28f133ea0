#!/usr/bin/python3
"""Same inputs, same facts, to the bit: runs scenarios in builds of other compilers and optimisations and compares their
digests with those of the release build.

    tools/same_digest.py [BUILD ...]     all builds, or some of: clang-O3 clang-O0 gcc-O3 gcc-O0
"""
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = "bench_twin_run"
RUNS = (
    ("chaos.yaml", "7"),
    ("chaos.yaml", "11", "check_every=0"),
    ("churn.yaml", "1", "duration=20s"),
)
COMPILERS = {"gcc": ("gcc", "g++"), "clang": ("clang", "clang++")}
BUILDS = [f"{compiler}-{level}" for compiler in COMPILERS for level in ("O3", "O0")]


def build(name):
    """The program of this build; only what it needs is built."""
    folder = ROOT / "build" / name
    compiler, level = name.split("-")
    c, cxx = COMPILERS[compiler]
    subprocess.run(["cmake", "-G", "Ninja", "-S", ROOT, "-B", folder, f"-DCMAKE_C_COMPILER={c}",
                    f"-DCMAKE_CXX_COMPILER={cxx}", "-DCMAKE_BUILD_TYPE=Release",
                    f"-DCMAKE_CXX_FLAGS_RELEASE=-{level} -DNDEBUG"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", folder, TARGET], check=True, stdout=subprocess.DEVNULL)
    return folder / "bin" / TARGET


def digests(program):
    found = []
    for scenario, *rest in RUNS:
        done = subprocess.run([program, ROOT / "tests" / "scenario" / scenario, *rest], check=True,
                              capture_output=True, text=True)
        report = json.loads(done.stdout.split("\n")[0])
        found.append((report["digest"], report["facts"]))
    return found


def main():
    wanted = sys.argv[1:] or BUILDS
    if not set(wanted) <= set(BUILDS):
        sys.exit(__doc__)
    os.chdir(ROOT)
    subprocess.run(["cmake", "--preset", "release"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", "build", TARGET], check=True, stdout=subprocess.DEVNULL)
    expected = digests(ROOT / "build" / "bin" / TARGET)
    differ = 0
    for name in wanted:
        for run, ours, theirs in zip(RUNS, expected, digests(build(name))):
            same = ours == theirs
            differ += not same
            print(f"{name:9} {' '.join(run):32} {theirs[0]} {theirs[1]:8} facts  {'same' if same else 'DIFFERS'}", flush=True)
    print(f"{len(wanted) * len(RUNS) - differ} passed, {differ} failed")
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
