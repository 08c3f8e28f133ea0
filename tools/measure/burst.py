"""G1, G2: a burst on a service whose standby replicas get their GPUs from a training that runs. How long until it is told,
and until they wake?

The control plane's instants are of `stargate events`; the victim and the replicas note when they are told, on the same clock.
"""

import pathlib
import re
import statistics
import time

from harness import BINARY, wait_until
from measure.figure import Measurement, Row
from measure.plane import Plane
from measure.stream import Streams


def a_fsync_more(milliseconds):
    return lambda fsync_us: milliseconds + fsync_us / 1e3


WARN = Row("G1-warn", "ms", a_fsync_more(20))
WAKE = Row("G1-wake", "ms", a_fsync_more(20))
FIRST = Row("G2", "ms", 60)

ROUNDS = 12
DEAF_ROUND = 5       # in it the victim ignores its warning and is ended at its deadline
BURST = 20           # requests at once, where there was one
TOKENS = 150
ENGINE = f"exec {BINARY} mock-engine --port $PORT --tokens-per-s 100 --max-batch 4"

VICTIM = """import os, random, signal, sys, time
def warned(*_):
    now = time.time()
    with open("warned", "a", encoding="ascii") as file:
        file.write(f"{now * 1e6:.0f}\\n")
    if os.path.exists("deaf"):
        return
    time.sleep(random.uniform(0.05, 0.15))
    os._exit(0)
signal.signal(signal.SIGTERM, warned)
while True:
    time.sleep(1)
"""


class Lending:
    """A service of one replica and two that sleep, over a training of one to three GPUs that computes on their seats."""

    def __init__(self, plane):
        self.stargate = plane.stargate
        self.folder = plane.folder
        (self.folder / "victim.py").write_text(VICTIM)
        self.submit("train", "kind: training\nname: train\ngpus: 1..3\ncheckpoint: {grace: 1s}\nrun: exec python3 victim.py\n")
        self.stargate.wait_for("train", "running")
        self.submit("chat", "kind: service\nname: chat\nmodel: mock\nreplicas: {min: 1, max: 3, standby: 2}\nmax_concurrency: 4\n"
                    f"run: {ENGINE}\n")
        self.key = self.stargate.run("token", "create", "--gateway").stdout.strip()

    def submit(self, name, text):
        path = self.folder / f"{name}.yaml"
        path.write_text(text)
        self.stargate.run("submit", str(path))

    def address(self):
        return (self.stargate.state / "gateway.address").read_text().strip()

    def rest(self):
        def holds():
            row = self.stargate.json("services")[0]
            return (row["serving"], row["asleep"], self.stargate.job("train")["gpus"]) == (1, 2, 3)
        wait_until("one serves, two sleep and training has three GPUs", holds, 60, pause=0.2)
        wait_until("the training has kept its size long enough to lend again", self.is_settled, 60, pause=0.2)

    def is_settled(self):
        told = [event["type"] for event in self.stargate.events() if event["type"] in ("resized", "settled", "running")]
        return "settled" in told[len(told) - told[::-1].index("resized"):] if "resized" in told else True

    def wakes(self):
        """When replicas were told to wake, in us of the epoch, by job."""
        told = {}
        for row in self.stargate.jobs():
            if row["name"].startswith("chat"):
                said = self.stargate.run("logs", row["name"], check=False).stdout
                told[row["id"]] = [int(at) for at in re.findall(r"wake_up at (\d+)", said)]
        return told

    def warnings(self):
        path = pathlib.Path(self.folder / "warned")
        return [int(line) for line in path.read_text().split()] if path.exists() else []


def first_after(instants, at):
    return min(each for each in instants if each >= at)


def one_round(lending, begin):
    """(warning, wake, first token) of a burst, in ms. `begin`: of the round, in us of the epoch."""
    with Streams(lending.address(), lending.key, "chat") as streams:
        streams.begin(1, 3000)
        time.sleep(0.3)
        streams.begin(BURST - 1, TOKENS)
        streams.read_until_all_have_begun()
    # The replica that serves takes three more; the fourth of the others is the first that waits.
    waited = sorted(streams.streams[1:], key=lambda each: each.sent)[3:]
    sent, token = waited[0].sent * 1e6, min(each.first for each in waited) * 1e6
    events = [event for event in lending.stargate.events() if event["at"] >= begin]

    def all_of(kind, **members):
        return [e for e in events if e["type"] == kind and all(e[name] == value for name, value in members.items())]
    over = all_of("demand", over_limit=True)[0]["at"]
    warned = first_after(lending.warnings(), begin)
    train = all_of("warned")[0]["attempt"]
    freed = max(event["at"] for event in all_of("part_ended", attempt=train) if event["at"] <= token)
    woken = all_of("woken")[0]
    told = first_after(lending.wakes()[woken["job"]], begin)
    return (warned - over) / 1e3, (told - freed) / 1e3, (token - sent - (freed - warned)) / 1e3


def measure(rounds=ROUNDS):
    figures = []
    with Plane(cpu_gpus=4) as plane:
        lending = Lending(plane)
        for number in range(rounds):
            lending.rest()
            deaf = lending.folder / "deaf"
            if number == DEAF_ROUND:
                deaf.touch()
            figures.append(one_round(lending, time.time() * 1e6))
            deaf.unlink(missing_ok=True)
    warnings, wakes, firsts = (list(column) for column in zip(*figures))
    what = (f"{rounds} bursts 1 -> {BURST} on mock engines; two standby replicas over an elastic training that leaves 50 to 150 ms "
            "after its warning, and in one round never (ended at its deadline); ")
    return [WARN.figure(max(warnings), what + "from `demand` with over_limit in the log to the training's own note of SIGTERM; the longest",
                        warnings),
            WAKE.figure(max(wakes), what + "from the last `part_ended` of the training to the replica's own note of /wake_up; the longest",
                        wakes),
            FIRST.figure(statistics.median(firsts), what + "from sending the first request that waits to its first token, less the "
                         "training's time from SIGTERM to its last `part_ended`; the median", firsts)]


G1 = Measurement("G1", [WARN, WAKE, FIRST], measure, is_long=True)
