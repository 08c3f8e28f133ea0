#!/usr/bin/python3
"""make mutants: plants each bug of tests/mutants/*.patch in a copy of the tree and shows what finds it.

A patch begins with lines `# what: one sentence` and `# tests: core_test twin_test`: the test binaries that are built and
run, in this order, until one fails. Copies live under build/mutants/ and are built incrementally; two runs at once take
different copies. Ends with `N passed, M failed`; status 1 when a bug survives or a patch does not apply.

With --check nothing is built: it only looks whether each patch still fits the sources to the letter (a test does this).
"""
import argparse
import fcntl
import os
import pathlib
import queue
import re
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
COPIES = ROOT / "build" / "mutants"
COPIED = ("CMakeLists.txt", "CMakePresets.json", "cmake", "src", "apps", "bench", "tests", "tools", "docs")
BUILD_LIMIT_S = 3600
TEST_LIMIT_S = 300


class Copy:
    """A tree of its own, held by a lock as long as this process lives."""

    def __init__(self):
        COPIES.mkdir(parents=True, exist_ok=True)
        for number in range(64):
            self.folder = COPIES / f"tree{number}"
            self.lock = open(COPIES / f"tree{number}.lock", "w")
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                self.lock.close()
        else:
            sys.exit("mutants: no free copy under build/mutants")
        self.refresh()

    def refresh(self):
        """Makes the copy equal to the tree, touching only files that differ, so that the build stays incremental."""
        told = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", *COPIED], cwd=ROOT, check=False,
                              capture_output=True, text=True)
        if told.returncode != 0:
            sys.exit(f"mutants: git cannot list the sources: {told.stderr.strip()}; planting bugs needs a clone")
        listed = told.stdout.split("\n")
        wanted = {name for name in listed if name and (ROOT / name).is_file()}
        for name in wanted:
            source, target = ROOT / name, self.folder / name
            data = source.read_bytes()
            if target.is_file() and target.read_bytes() == data:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            target.chmod(source.stat().st_mode & 0o777)
        for part in COPIED:
            for path in (self.folder / part).rglob("*") if (self.folder / part).is_dir() else ():
                if path.is_file() and str(path.relative_to(self.folder)) not in wanted:
                    path.unlink()
        (self.folder / "build").mkdir(exist_ok=True)
        boost = self.folder / "build" / "boost"
        if (ROOT / "build" / "boost").exists() and not boost.exists():
            boost.symlink_to(ROOT / "build" / "boost")
        if not (self.folder / "build" / "build.ninja").exists():
            run(["cmake", "--preset", "release", "-B", "build"], self.folder, BUILD_LIMIT_S)

    def build(self, target):
        return run(["ninja", "-C", "build", target], self.folder, BUILD_LIMIT_S)



def apply(patch, folder, *options):
    """To the letter: a patch that fits only nearly may break something else than it says."""
    return run(["patch", "-p1", "-F0", "-s", "--no-backup-if-mismatch", *options, "-i", str(patch)], folder, 60)


def run(command, folder, limit):
    environment = dict(os.environ, CCACHE_BASEDIR=str(folder), CCACHE_NOHASHDIR="1")
    try:
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", timeout=limit, env=environment)
        return done.returncode, done.stdout
    except subprocess.TimeoutExpired:
        return -1, f"did not end within {limit} s"


def header(patch, word, default=""):
    found = re.search(rf"^# {word}: (.*)$", patch.read_text(), re.MULTILINE)
    return found.group(1) if found else default


def finder_in(output):
    """The first test that failed, as gtest names it."""
    failed = re.search(r"\[  FAILED  \] ([\w.]+)", output)
    if failed:
        return failed.group(1)
    begun = re.findall(r"\[ RUN      \] ([\w.]+)", output)
    return (begun[-1] + " (died)") if begun else "died"


def judge(copy, patch):
    """(found, what happened)"""
    status, output = apply(patch, copy.folder)
    if status != 0:
        copy.refresh()
        return False, "the patch does not apply: " + output.strip().split("\n")[0]
    try:
        for test in header(patch, "tests", "core_test twin_test").split():
            status, output = copy.build(test)
            if status != 0:
                return False, "does not build: " + next((line for line in output.split("\n") if "error" in line), "?")
            status, output = run([f"build/bin/{test}", "--gtest_fail_fast"], copy.folder, TEST_LIMIT_S)
            if status != 0:
                return True, f"{test}: {finder_in(output) if status != -1 else 'did not end'}"
        return False, "SURVIVES"
    finally:
        copy.refresh()


def check(patches):
    """How many patches do not fit the sources as they are; says which."""
    stale = 0
    for patch in patches:
        status, output = apply(patch, ROOT, "--dry-run", "--batch")
        if status != 0:
            stale += 1
            print(f"FAILED {patch.name} does not apply: {output.strip()}")
        elif not header(patch, "what") or not header(patch, "tests"):
            stale += 1
            print(f"FAILED {patch.name} does not say `# what:` and `# tests:`")
    print(f"{len(patches) - stale} passed, {stale} failed")
    return stale


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("patches", nargs="*", help="only these (part of a name is enough)")
    arguments.add_argument("--check", action="store_true", help="only look whether they apply")
    arguments.add_argument("--jobs", type=int, default=os.cpu_count(), help="copies at once (default: one a core)")
    options = arguments.parse_args()
    patches = sorted((ROOT / "tests" / "mutants").glob("*.patch"))
    if options.patches:
        patches = [patch for patch in patches if any(word in patch.name for word in options.patches)]
    if not patches:
        sys.exit("mutants: no patch of that name")
    if options.check:
        return 1 if check(patches) else 0
    work = queue.Queue()
    for patch in patches:
        work.put(patch)
    results, show = {}, threading.Lock()

    def worker():
        copy = Copy()
        while True:
            try:
                patch = work.get_nowait()
            except queue.Empty:
                return
            begun = time.monotonic()
            found, what = judge(copy, patch)
            with show:
                results[patch] = found
                print(f"{'found' if found else 'FAILED':7} {patch.stem:36} {time.monotonic() - begun:6.1f} s  {what}",
                      flush=True)

    # Tests must pass before a bug is planted: else they prove nothing.
    copy = Copy()
    for test in sorted({test for patch in patches for test in header(patch, "tests", "core_test twin_test").split()}):
        status, output = copy.build(test)
        if status == 0:
            status, output = run([f"build/bin/{test}"], copy.folder, TEST_LIMIT_S)
        if status != 0:
            sys.exit(f"mutants: {test} does not pass without any bug:\n{output[-2000:]}")
    copy.lock.close()
    threads = [threading.Thread(target=worker) for _ in range(max(1, options.jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = sum(not found for found in results.values()) + len(patches) - len(results)
    print(f"{len(patches) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
