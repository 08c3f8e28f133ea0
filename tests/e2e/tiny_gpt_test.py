#!/usr/bin/python3
"""examples/tiny-gpt: two ranks are warned, stop on one step, and one rank goes on from there; what they wrote is served;
and under Stargate, through sizes one after the other."""

import http.client
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

from machine import Machine
from harness import copy_for_jobs, wait_until

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "tiny-gpt"
TRAIN = EXAMPLE / "train.py"
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


class Trained(unittest.TestCase):
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


class TinyGpt(Trained):
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
        self.assertIn(f"warned, 1 GPU next: stopped at step {stopped}", two.printed())
        self.assertEqual(len(two.hashes()), 2)
        self.assertEqual(len(set(two.hashes())), 1, two.printed())
        self.assertLessEqual(len(list((self.folder / "checkpoints").iterdir())), 2)

        one = self.start(1, 2, "--steps", str(stopped + 1))
        self.assertEqual(one.wait(60), [0], one.printed())
        self.assertIn(f"resumed from step {stopped} with 1 rank", one.printed())
        self.assertEqual(one.hashes()[0], two.hashes()[0])

    def test_a_torn_checkpoint_is_passed_over(self):
        first = self.start(1, 1, "--steps", "2", "--checkpoint-every", "1")
        self.assertEqual(first.wait(60), [0], first.printed())
        newest = self.folder / "checkpoints" / "step-00000002.pt"
        os.truncate(newest, newest.stat().st_size // 2)
        again = self.start(1, 2, "--steps", "3")
        self.assertEqual(again.wait(60), [0], again.printed())
        self.assertIn("resumed from step 1 with 1 rank", again.printed())

    def test_a_warning_before_the_first_step_is_obeyed_at_once(self):
        ranks = self.start(2, 1)
        # Time for the interpreter to install its handler, not enough to import torch and to take a step. Where the
        # machine is faster than that, ranks are warned in the middle of training instead, which ends the same; where it
        # is much slower, the signal itself ends them.
        time.sleep(0.5)
        ranks.warn()
        for status in ranks.wait(20):
            self.assertIn(status, (0, -signal.SIGTERM), ranks.printed())


class TinyChat(Trained):
    """serve.py, by itself, over a checkpoint that train.py wrote."""

    def ask(self, method, target, body=None):
        peer = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            peer.request(method, target, body and json.dumps(body))
            reply = peer.getresponse()
            return reply, json.loads(reply.read())
        finally:
            peer.close()

    def answer(self):
        """What it says when nothing is left to chance, and by which checkpoint."""
        body = {"model": "tiny-gpt", "prompt": "The licence", "max_tokens": 24, "temperature": 0}
        reply, told = self.ask("POST", "/v1/completions", body)
        self.assertEqual(reply.status, 200, told)
        return told["choices"][0]["text"], self.ask("GET", "/v1/models")[1]["data"][0]["owned_by"]

    def is_up(self):
        try:
            return self.ask("GET", "/health")[0].status == 200
        except OSError:
            return False

    def test_it_answers_by_the_newest_checkpoint_and_asleep_it_computes_nothing(self):
        import torch
        first = self.start(1, 1, "--steps", "2")
        self.assertEqual(first.wait(60), [0], first.printed())
        checkpoints = self.folder / "checkpoints"
        self.port = free_port()
        server = subprocess.Popen([sys.executable, str(EXAMPLE / "serve.py"), "--dir", str(checkpoints), "--port",
                                   str(self.port)], stdout=subprocess.DEVNULL)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        wait_until("it serves", self.is_up, 60)
        before = self.answer()
        self.assertEqual(before[1], "step-00000002.pt")
        self.assertEqual(self.answer(), before)
        # What a longer training would have written; by hand, because that would take a while.
        state = torch.load(checkpoints / "step-00000002.pt")
        state["model"]["head.weight"] = state["model"]["head.weight"].roll(1, 0)
        torch.save(state, checkpoints / "step-00000100.pt")
        self.assertEqual(self.answer(), before, "it is loaded when it wakes, not before")
        self.assertEqual(self.ask("POST", "/sleep")[0].status, 200)
        reply, told = self.ask("POST", "/v1/completions", {"prompt": "x"})
        self.assertEqual((reply.status, reply.headers["x-stargate-asleep"]), (503, "1"), told)

        def rests():
            before = self.ticks(server.pid)
            time.sleep(3)
            return self.ticks(server.pid) - before <= 0.03 * os.sysconf("SC_CLK_TCK")
        wait_until("its threads have come to rest", rests, 20)
        self.assertTrue(rests(), "and they stay there: 1 % of the time at most")
        self.assertEqual(self.ask("POST", "/wake_up")[0].status, 200)
        after = self.answer()
        self.assertEqual(after[1], "step-00000100.pt")
        self.assertNotEqual(after[0], before[0])

    @staticmethod
    def ticks(pid):
        """Of CPU that it has used with all its threads."""
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])


class Resized(Machine):
    """Under Stargate: whatever its size, all ranks hold the same, and no step is trained that was there already."""

    def test_ranks_agree_after_each_resize_and_no_checkpoint_is_lost(self):
        self.stargate.up()
        folder = copy_for_jobs(EXAMPLE, self.folder / "example")
        (folder / "train.yaml").write_text("kind: training\nname: tiny-gpt\ngpus: 1..2\n"
                                           "checkpoint: {dir: checkpoints, grace: 30s}\n"
                                           "run: /usr/bin/python3 train.py --checkpoint-every 5 --print-every 1\n")
        self.stargate.run("submit", str(folder / "train.yaml"))
        for ranks in (2, 1, 2):
            if self.printed():
                self.stargate.run("resize", "tiny-gpt", str(ranks))
            seen = self.printed().count(f"ranks {ranks} ")
            wait_until(f"it has trained with {ranks}", lambda: self.printed().count(f"ranks {ranks} ") > seen + 6, 90)
        self.stargate.run("cancel", "tiny-gpt")
        self.stargate.wait_for("tiny-gpt", "cancelled")
        text = self.printed()
        stopped = [int(step) for step in re.findall(r"stopped at step (\d+)", text)]
        resumed = [(int(step), int(ranks)) for step, ranks in re.findall(r"resumed from step (\d+) with (\d)", text)]
        self.assertEqual(resumed, list(zip(stopped, (1, 2))), text)
        steps = [int(step) for step in re.findall(r"^.*?step (\d+) loss", text, re.MULTILINE)]
        self.assertEqual(steps, sorted(set(steps)), "each step once, in order")
        hashes = re.findall(r"rank (\d) parameters (\w+)", text)
        by_end = [{value for _, value in hashes[begin:begin + count]}
                  for begin, count in ((0, 2), (2, 1), (3, 1), (4, 2), (6, 2))]
        self.assertEqual([len(each) for each in by_end], [1] * 5, text)
        self.assertEqual(by_end[0], by_end[1], "it went on with what it had saved")
        self.assertEqual(by_end[2], by_end[3])

    def printed(self):
        return self.stargate.run("logs", "tiny-gpt", check=False).stdout


if __name__ == "__main__":
    if importlib.util.find_spec("torch") is None:
        print("skipped: there is no torch for this Python (Debian: python3-torch)")
        sys.exit(SKIPPED)
    unittest.main()
