#!/usr/bin/python3
"""make mutants FULL=1: after the planted bugs, edits that nobody chose: seeded draws of one operator, constant or statement of
src/core changed. Shows which the tests find. 80 of 100 have to be found; what survives is explained in
tests/mutants/survivors.md, or is a gap.

An edit that does not compile is not counted, and another is drawn. The same seed on the same sources draws the same edits.
"""
import argparse
import os
import queue
import random
import re
import sys
import threading
import time

from mutants import ROOT, Copy, finder_in, run

TESTS = ("core_test", "twin_test")
TEST_LIMIT_S = 120
ENOUGH = 0.8

# What is found in code, outside texts and comments, and what it becomes.
OPERATORS = [(r" == ", " != "), (r" != ", " == "), (r" < ", " <= "), (r" <= ", " < "), (r" > ", " >= "), (r" >= ", " > "),
             (r" && ", " || "), (r" \|\| ", " && "), (r" \+ ", " - "), (r" - ", " + "), (r" \+= ", " -= "), (r" -= ", " += "),
             (r"\+\+(?=\w)", "--"), (r"(?<=[( ])!(?=\w)", ""), (r"std::min\b", "std::max"), (r"std::max\b", "std::min"),
             (r"\btrue\b", "false"), (r"\bfalse\b", "true")]
CONSTANT = re.compile(r"(?<![\w.])(\d+)(?![\w.'])")
# A statement on a line of its own that does something: a call or an assignment, and `continue`, `break`, `return;`.
STATEMENT = re.compile(r"^\s+(?!return\b(?! ?;)|const\b|auto\b|using\b|case\b|default\b|else\b|static|CHECK)"
                       r"(?:[\w.\->\[\]():&*]+ [-+*/]?= .+;|[\w.\->]+(?:\[.+\])?\.\w+\(.*\);|\w+\(.*\);|continue;|break;|return;)$")


def blanked(line):
    """Its texts and its comment as blanks, so that places stay where they are."""
    line = re.sub(r'"(?:[^"\\]|\\.)*"', lambda text: " " * len(text.group()), line)
    return re.sub(r"//.*", lambda comment: " " * len(comment.group()), line)


def edits_of(path):
    """(line number, the line as it becomes, what is said of it), of one source."""
    for number, line in enumerate(path.read_text().split("\n"), 1):
        code = blanked(line)
        if code.lstrip().startswith(("#", "template", "CHECK", "static_assert", "BOOST_")) or not code.strip():
            continue
        for pattern, becomes in OPERATORS:
            for found in re.finditer(pattern, code):
                changed = line[:found.start()] + becomes + line[found.end():]
                yield number, changed, f"`{found.group().strip()}` became `{becomes.strip() or 'nothing'}`"
        for found in CONSTANT.finditer(code):
            value = int(found.group())
            for other in {value + 1, max(value - 1, 0)} - {value}:
                yield number, line[:found.start()] + str(other) + line[found.end():], f"{value} became {other}"
        if STATEMENT.match(code):
            yield number, "", f"deleted: {line.strip()}"


def all_edits():
    for path in sorted((ROOT / "src" / "core").glob("*.[ch]pp")):
        if not path.stem.endswith("_test") and path.stem != "given":  # of tests
            for edit in edits_of(path):
                yield (path.relative_to(ROOT), *edit)


def judge(copy, edit):
    """(found, or None where it does not compile, what happened)"""
    name, number, changed, _what = edit
    path = copy.folder / name
    before = path.read_text()
    lines = before.split("\n")
    lines[number - 1] = changed
    path.write_text("\n".join(lines))
    try:
        for test in TESTS:
            status, _ = copy.build(test)
            if status != 0:
                return None, "does not compile"
            status, output = run([f"build/bin/{test}", "--gtest_fail_fast"], copy.folder, TEST_LIMIT_S)
            if status != 0:
                return True, f"{test}: {finder_in(output) if status != -1 else 'did not end'}"
        return False, "SURVIVES"
    finally:
        path.write_text(before)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--count", type=int, default=60)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--jobs", type=int, default=os.cpu_count(), help="copies at once (default: one a core)")
    arguments.add_argument("--list", action="store_true", help="only show the first draws")
    options = arguments.parse_args()
    drawn = list(all_edits())
    random.Random(options.seed).shuffle(drawn)
    if options.list:
        for name, number, changed, what in drawn[:options.count]:
            print(f"{name}:{number}: {what}\n    {changed.strip()}")
        return 0
    os.environ.setdefault("RC_PARAMS", "seed=1")  # what is found is found again
    work = queue.SimpleQueue()
    for edit in drawn:
        work.put(edit)
    judged, show = [], threading.Lock()

    def worker():
        copy = Copy()
        while True:
            with show:
                if len(judged) >= options.count:
                    return
            try:
                edit = work.get_nowait()
            except queue.Empty:
                return
            begun = time.monotonic()
            found, what = judge(copy, edit)
            if found is None:
                continue
            with show:
                if len(judged) >= options.count:
                    return
                judged.append(found)
                print(f"{'found' if found else 'alive':6} {edit[0]}:{edit[1]}: {edit[3]}   {time.monotonic() - begun:.0f} s  {what}",
                      flush=True)

    threads = [threading.Thread(target=worker) for _ in range(max(1, options.jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not judged:
        sys.exit("mutate: none of these edits compiles")
    share = sum(judged) / len(judged)
    print(f"{sum(judged)} of {len(judged)} found, {100 * share:.0f} %; {ENOUGH:.0%} have to be")
    return 0 if share >= ENOUGH else 1


if __name__ == "__main__":
    sys.exit(main())
