#!/usr/bin/python3
"""examples/tiny-gpt without Stargate: two ranks are warned, stop on one step, and one rank goes on from there."""

import importlib.util
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

TRAIN = pathlib.Path(__file__).resolve().parents[2] / "examples" / "tiny-gpt" / "train.py"
SKIPPED = 77  # what ctest takes for "skipped"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Ranks:
    """One generation of the training: its processes, and what each printed."""

    def __init__(self, folder, world, generation, *arguments):
        self.outputs = [folder / f"generation-{generation}-rank-{rank}" for rank in range(world)]
        common = dict(os.environ, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()), WORLD_SIZE=str(world),
                      STARGATE_NOTICE=str(folder / "notice"), STARGATE_PROGRESS=str(folder / "progress"),
                      STARGATE_CHECKPOINT_DIR=str(folder / "checkpoints"), STARGATE_GENERATION=str(generation))
        self.processes = []
        for rank, output in enumerate(self.outputs):
            with open(output, "wb") as file:
                self.processes.append(subprocess.Popen(
                    [sys.executable, str(TRAIN), *arguments], stdout=file, stderr=subprocess.STDOUT,
                    env=dict(common, RANK=str(rank), LOCAL_RANK=str(rank))))

    def warn(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)

    def wait(self, seconds):
        return [process.wait(seconds) for process in self.processes]

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()

    def printed(self):
        return "".join(output.read_text() for output in self.outputs)

    def hashes(self):
        return re.findall(r"rank \d+ parameters (\w+)", self.printed())


class TinyGpt(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def start(self, *arguments):
        ranks = Ranks(self.folder, *arguments)
        self.addCleanup(ranks.end)
        return ranks

    def wait_for(self, what, ranks, seconds=60):
        until = time.monotonic() + seconds
        while not what():
            ended = [process.poll() for process in ranks.processes]
            self.assertTrue(any(status is None for status in ended), ranks.printed())
            self.assertLess(time.monotonic(), until, ranks.printed())
            time.sleep(0.05)

    def progress(self):
        return int((self.folder / "progress").read_text())

    def test_warned_ranks_stop_together_and_one_rank_goes_on_from_their_step(self):
        two = self.start(2, 1, "--checkpoint-every", "5")
        self.wait_for((self.folder / "progress").exists, two)
        periodic = self.progress()
        (self.folder / "notice").write_text('{"deadline_ms": 10000, "gpus": 1}')
        two.warn()
        two.warn()  # a second one changes nothing
        self.assertEqual(two.wait(20), [0, 0], two.printed())
        stopped = self.progress()
        self.assertGreaterEqual(stopped, periodic)
        self.assertIn(f"warned, 1 GPUs next: stopped at step {stopped}", two.printed())
        self.assertEqual(len(two.hashes()), 2)
        self.assertEqual(len(set(two.hashes())), 1, two.printed())
        self.assertLessEqual(len(list((self.folder / "checkpoints").iterdir())), 2)

        one = self.start(1, 2, "--steps", str(stopped + 1))
        self.assertEqual(one.wait(60), [0], one.printed())
        self.assertIn(f"resumed from step {stopped} with 1 ranks", one.printed())
        self.assertEqual(one.hashes()[0], two.hashes()[0])

    def test_a_torn_checkpoint_is_passed_over(self):
        first = self.start(1, 1, "--steps", "2", "--checkpoint-every", "1")
        self.assertEqual(first.wait(60), [0], first.printed())
        newest = self.folder / "checkpoints" / "step-00000002.pt"
        os.truncate(newest, newest.stat().st_size // 2)
        again = self.start(1, 2, "--steps", "3")
        self.assertEqual(again.wait(60), [0], again.printed())
        self.assertIn("resumed from step 1 with 1 ranks", again.printed())

    def test_a_warning_before_the_first_step_is_obeyed_at_once(self):
        ranks = self.start(2, 1)
        # Time for the interpreter to install its handler, not enough to import torch and to take a step. Where the
        # machine is faster than that, ranks are warned in the middle of training instead, which ends the same; where it
        # is much slower, the signal itself ends them.
        time.sleep(0.5)
        ranks.warn()
        for status in ranks.wait(20):
            self.assertIn(status, (0, -signal.SIGTERM), ranks.printed())


if __name__ == "__main__":
    if importlib.util.find_spec("torch") is None:
        print("skipped: there is no torch for this Python (Debian: python3-torch)")
        sys.exit(SKIPPED)
    unittest.main()
