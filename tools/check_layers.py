#!/usr/bin/python3
"""Fails on an include against the arrows of the layout, on I/O, clocks, threads or libm in the core, on a third-party
library in a header, on a header without #pragma once, and on a file that grew too long.

    tools/check_layers.py               checks this source tree
    tools/check_layers.py --self-test   plants one violation of each rule and sees it found
"""

import argparse
import pathlib
import re
import sys
import tempfile

LONGEST_FILE = 600  # lines; most files stay within 300

# What a folder of src/ may include besides itself.
ARROWS = {
    "base": "",
    "net": "base",
    "fleet": "base",
    "work": "base",
    "plan": "base fleet work",
    "energy": "base fleet work",
    "core": "base fleet work plan energy",
    "view": "base fleet work plan energy core",
}
BELOW_ADAPTERS = "base net fleet work plan energy core view"
ADAPTERS = "twin live engine store api cli gateway steward data serving telemetry".split()
ARROWS.update({folder: BELOW_ADAPTERS for folder in [*ADAPTERS, "loop"]})
ARROWS = {folder: set(below.split()) for folder, below in ARROWS.items()}

# Adapters do not know each other; the two worlds share the loop, and drive the others through their ports.
for world in ("live", "twin"):
    ARROWS[world].add("loop")
PORT_HEADERS = {"store/port.hpp", "store/rows.hpp", "store/segment.hpp", "store/room.hpp", "store/damage.hpp", "engine/serving_port.hpp",
                "engine/port.hpp"}
PORTS = {folder: PORT_HEADERS for folder in ("live", "twin", "loop")}
PORTS["live"] = PORT_HEADERS | {"api/control.hpp"}  # what the API asks of a control plane; live is the one that runs
PORTS["twin"] = PORT_HEADERS | {"store/memory_store.hpp"}  # the disk of the simulated world
PORTS["cli"] = {"api/json.hpp", "api/frame.hpp"}  # the wire, whose two ends have to agree
PORTS["serving"] = {"api/json.hpp"}
PORTS["steward"] = {"engine/serving_port.hpp", "engine/port.hpp", "gateway/messages.hpp"}
PORTS["gateway"] = {"api/json.hpp"}

# Nothing here touches the outside world.
PURE = {"base", "fleet", "work", "plan", "energy", "core"}
OUTSIDE = re.compile(
    r"(thread|mutex|shared_mutex|atomic|condition_variable|future|stop_token|semaphore|latch|barrier"
    r"|fstream|iostream|filesystem|ctime|time\.h|unistd\.h|fcntl\.h|pthread\.h|netdb\.h|poll\.h|signal\.h|csignal"
    r"|sys/.*|linux/.*|arpa/.*|netinet/.*|boost/(asio|beast|filesystem|process|thread)\b.*|sqlite3\.h|spdlog/.*)"
)
CLOCK = re.compile(r"\w+_clock\b|\bgetenv\b")
# Durable writes and the faults planted under them are base's one door to the disk.
DOOR = re.compile(r"src/base/(file|fault_plan|(posix_)?disk|posix|scratch_folder)[^/]*")

# Here a result must match to the bit on every machine and library, and not depend on the order of a hash.
EXACT = {"fleet", "work", "core"}
INEXACT = re.compile(r"(cmath|math\.h|tgmath\.h|complex|random|unordered_map|unordered_set)")

# Third-party libraries stay in the .cpp that calls them, but for the vocabulary of our own types and for these headers.
VOCABULARY = re.compile(r"boost/(describe|mp11|container)\b.*")
THIRD_PARTY = re.compile(r"(boost|CLI|spdlog|openssl|tl|simdjson|hwloc)/.*|(sqlite3|libpq-fe|sodium|yaml|hwloc)\.h")
THIRD_PARTY_IN_HEADER = {
    "src/base/result.hpp": "tl/",
    "src/net/loop_impl.hpp": "boost/asio/",
}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
COMMENT_OR_STRING = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)


def without_comments(text):
    """The code alone; lines keep their numbers, include lines their names."""
    def blank(match):
        found = match.group()
        return found if found.startswith('"') else "\n" * found.count("\n")

    return COMMENT_OR_STRING.sub(blank, text)


def check_include(path, folder, is_test, bracket, target):
    if bracket == '"':
        head = target.split("/")[0]
        if folder is None or "/" not in target or head == folder:
            return
        if is_test and folder in ADAPTERS and head in ADAPTERS:
            return  # a test wires real adapters together, as an app does
        allowed = head in ARROWS[folder] or target in PORTS.get(folder, ())
        if head in ARROWS and not allowed:
            yield f"{folder} may not include {target}"
        return
    is_door = DOOR.fullmatch(path)
    if folder in PURE and not is_test and not is_door and OUTSIDE.fullmatch(target):
        yield f"<{target}> touches the outside world, {folder} does not"
    if folder in EXACT and not is_test and INEXACT.fullmatch(target):
        yield f"<{target}> differs between machines or libraries, {folder} must not"
    if path.endswith(".hpp") and THIRD_PARTY.fullmatch(target) and not VOCABULARY.fullmatch(target):
        allowed = THIRD_PARTY_IN_HEADER.get(path)
        if allowed is None or not target.startswith(allowed):
            yield f"<{target}> belongs in a .cpp"


def check_file(path, text):
    """Yields (line, sentence) for each violation. `path` is relative to the source tree."""
    parts = path.split("/")
    folder = parts[1] if parts[0] == "src" and len(parts) > 2 else None
    if folder is not None and folder not in ARROWS:
        yield 1, f"src/{folder} is not in the layout: give it its arrows in tools/check_layers.py"
        return
    lines = text.count("\n")
    if lines > LONGEST_FILE:
        yield lines, f"{lines} lines, {LONGEST_FILE} at most: look for the second idea in it"
    if not path.endswith((".hpp", ".cpp")):
        return
    code = without_comments(text)
    if path.endswith(".hpp") and not re.search(r"^#pragma once$", code, re.MULTILINE):
        yield 1, "a header without #pragma once"
    is_test = path.endswith(("_test.cpp", "_testing.hpp"))
    for number, line in enumerate(code.split("\n"), start=1):
        include = INCLUDE.match(line)
        if include:
            for sentence in check_include(path, folder, is_test, *include.groups()):
                yield number, sentence
        elif folder in PURE and not is_test and not DOOR.fullmatch(path):
            found = CLOCK.search(line)
            if found:
                yield number, f"{found.group()}: {folder} reads no clock and no environment"


def check_tree(root):
    violations = []
    for top in ("src", "apps", "tests", "bench", "tools", "examples"):
        for file in sorted((root / top).rglob("*")):
            if file.suffix in (".hpp", ".cpp", ".py", ".sh") and file.is_file():
                path = file.relative_to(root).as_posix()
                violations += [f"{path}:{line}: {what}" for line, what in check_file(path, file.read_text())]
    return violations


PLANTED = [  # path, text, what must be said ("" where nothing may be)
    ("src/core/up.hpp", '#pragma once\n#include "store/port.hpp"\n', "2: core may not include store/port.hpp"),
    ("src/base/up.cpp", '#include "work/job.hpp"\n', "1: base may not include work/job.hpp"),
    ("src/work/side.cpp", '#include "fleet/node.hpp"\n', "1: work may not include fleet/node.hpp"),
    ("src/api/side.cpp", '#include "store/port.hpp"\n', "1: api may not include store/port.hpp"),
    ("src/live/deep.cpp", '#include "store/sqlite/log.hpp"\n', "1: live may not include store/sqlite/log.hpp"),
    ("src/live/side.cpp", '#include "api/routes.hpp"\n', "1: live may not include api/routes.hpp"),
    ("src/loop/up.cpp", '#include "twin/world.hpp"\n', "1: loop may not include twin/world.hpp"),
    ("src/cli/side.cpp", '#include "api/routes.hpp"\n', "1: cli may not include api/routes.hpp"),
    ("src/view/up.cpp", '#include "api/routes.hpp"\n', "1: view may not include api/routes.hpp"),
    ("src/core/up_test.cpp", '#include "store/port.hpp"\n', "1: core may not include store/port.hpp"),
    ("src/new/a.cpp", "int a;\n", "1: src/new is not in the layout"),
    ("src/core/thread.cpp", "#include <thread>\n", "1: <thread> touches the outside world"),
    ("src/plan/socket.cpp", "#include <sys/socket.h>\n", "1: <sys/socket.h> touches the outside world"),
    ("src/base/asio.cpp", "#include <boost/asio.hpp>\n", "1: <boost/asio.hpp> touches the outside world"),
    ("src/core/now.cpp", "/* why\n */\nauto t = std::chrono::steady_clock::now();\n", "3: steady_clock: core reads no"),
    ("src/work/home.cpp", 'auto h = std::getenv("HOME");\n', "1: getenv: work reads no"),
    ("src/core/root.cpp", "#include <cmath>\n", "1: <cmath> differs between machines"),
    ("src/fleet/hash.hpp", "#pragma once\n#include <unordered_map>\n", "2: <unordered_map> differs"),
    ("src/store/db.hpp", "#pragma once\n#include <sqlite3.h>\n", "2: <sqlite3.h> belongs in a .cpp"),
    ("apps/x/main.hpp", "#pragma once\n#include <CLI/CLI.hpp>\n", "2: <CLI/CLI.hpp> belongs in a .cpp"),
    ("src/api/bare.hpp", "int a();\n", "1: a header without #pragma once"),
    ("src/api/commented.hpp", "// #pragma once\n", "1: a header without #pragma once"),
    ("src/api/long.cpp", "\n" * (LONGEST_FILE + 1), f"{LONGEST_FILE + 1}: {LONGEST_FILE + 1} lines"),
    # And what must stay allowed.
    ("src/core/fine.cpp", '#include "core/a.hpp"\n#include "work/job.hpp"\n// steady_clock\n#include <map>\n', ""),
    ("src/live/fine.cpp", '#include "store/port.hpp"\n#include "view/view.hpp"\n#include <thread>\n', ""),
    ("src/twin/fine.cpp", '#include "loop/round.hpp"\n#include "engine/port.hpp"\n#include <cmath>\n', ""),
    ("src/api/fine.cpp", '#include "view/view.hpp"\n#include <boost/beast.hpp>\n', ""),
    ("src/base/file_posix.cpp", "#include <fcntl.h>\n#include <unistd.h>\n", ""),
    ("src/base/result.hpp", "#pragma once\n#include <tl/expected.hpp>\n", ""),
    ("src/work/named.hpp", "#pragma once\n#include <boost/describe.hpp>\n", ""),
    ("src/plan/fine.cpp", "#include <cmath>\n", ""),
    ("src/core/fine_test.cpp", '#include <random>\n#include "core/fine.hpp"\n', ""),
    ("src/live/fine_test.cpp", '#include "store/sqlite/log.hpp"\n', ""),
    ("apps/x/main.cpp", '#include "store/sqlite/log.hpp"\n#include "api/routes.hpp"\n#include <CLI/CLI.hpp>\n', ""),
]


def self_test():
    wrong = []
    for path, text, expected in PLANTED:
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, path)
            file.parent.mkdir(parents=True)
            file.write_text(text)
            found = check_tree(pathlib.Path(folder))
        as_expected = len(found) == 1 and found[0].startswith(f"{path}:{expected}") if expected else not found
        if not as_expected:
            wrong.append(f"{path}: expected {expected or 'nothing'!r}, found {found}")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("root", nargs="?", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    args = parser.parse_args()
    violations = self_test() if args.self_test else check_tree(args.root)
    print(*violations, sep="\n", end="\n" if violations else "")
    sys.exit(1 if violations else 0)


if __name__ == "__main__":
    main()
