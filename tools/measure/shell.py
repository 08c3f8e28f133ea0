"""W4: what `stargate shell` adds to each key, beside a bash at the same kind of terminal."""

import random
import statistics
import time

from harness import BINARY
from measure.figure import Measurement, Row
from measure.plane import Plane
from terminal import AtTerminal

ECHO = Row("W4", "ms", 5)


def echoes(terminal, keys):
    """Milliseconds from each key to its echo, at the pace of a quick typist."""
    chance = random.Random(1)
    terminal.type("PS1=; echo be''gun\n")
    terminal.expect(r"begun\r?\n")
    took = []
    for _ in range(keys):
        time.sleep(chance.uniform(0.02, 0.08))
        terminal.seen = ""
        begin = time.perf_counter()
        terminal.type("x")
        while "x" not in terminal.seen:
            terminal.read(5)
        took.append((time.perf_counter() - begin) * 1e3)
        if len(took) % 60 == 0:  # a line that is as long as lines are
            terminal.type("\x15")
            time.sleep(0.1)
            terminal.read(0.1)
    return took


def measure_echo(keys=600):
    plain = AtTerminal(["/bin/bash", "--norc", "-i"], "/")
    with Plane() as plane:
        ours = AtTerminal([str(BINARY), "shell", "--state", str(plane.stargate.state), "--", "/bin/bash", "--norc", "-i"], plane.folder)
        try:
            ours.expect(r"\$ ")
            bare = echoes(plain, keys)
            through = echoes(ours, keys)
        finally:
            plain.close()
            ours.close()
    added = sorted(through)[int(len(through) * 0.99)] - statistics.median(bare)
    return [ECHO.figure(added, f"{keys} keys 20 to 80 ms apart: 99th percentile of `stargate shell -- bash` less the median of a bash at a "
                        "terminal beside it", through)]


W4 = Measurement("W4", [ECHO], measure_echo)
