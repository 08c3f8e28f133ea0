#!/usr/bin/python3
"""The tools that judge us are judged too: a bar that cannot fail, or a patch that no longer applies, must be seen."""

import contextlib
import io
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tools"))
import bars  # noqa: E402
import harness  # noqa: E402
import mutants  # noqa: E402
import tour_live  # noqa: E402
from measure import MEASUREMENTS, kills, machine, plane, served  # noqa: E402
from measure.figure import Measurement, Row  # noqa: E402

CALIBRATED = {"fsync_mean_us": 500.0}


def printed(call, *arguments):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        result = call(*arguments)
    return result, out.getvalue()


class Bars(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.row = Row("X", "ms", lambda fsync_us: fsync_us / 100)
        self.value = 4.0
        long = Measurement("X", [Row("X", "ms", 5)], lambda: [self.row.figure(self.value, "done", [self.value])], is_long=True)
        for what in (mock.patch.object(bars, "FOLDER", self.folder / "bench"), mock.patch.object(bars, "PAGE", self.folder / "page.md"),
                     mock.patch.object(bars, "MEASUREMENTS", {"X": long}), mock.patch.object(bars, "calibration", lambda: CALIBRATED),
                     mock.patch.object(bars, "sources", lambda: self.sources)):
            what.start()
            self.addCleanup(what.stop)
        self.sources = {"src": "a"}

    def run_bars(self, *arguments):
        with mock.patch.object(sys, "argv", ["bars.py", *arguments]):
            return printed(bars.main)

    def test_a_row_that_was_not_measured_is_short(self):
        self.assertEqual(self.run_bars(), (1, "bar X - ms <=5 short\n"))

    def test_a_limit_may_depend_on_the_fsync_around_the_measurement(self):
        self.assertEqual(self.run_bars("--long"), (0, "bar X 4 ms <=5 ok\n"))
        self.value = 6.0
        self.assertEqual(self.run_bars("--long"), (1, "bar X 6 ms <=5 short\n"))

    def test_a_record_counts_for_the_same_sources_alone(self):
        self.run_bars("--long")
        self.assertEqual(self.run_bars(), (0, "bar X 4 ms <=5 ok\n"))
        self.sources = {"src": "b"}
        self.assertEqual(self.run_bars()[0], 1)
        self.sources = None  # the tree is not clean
        self.assertEqual(self.run_bars()[0], 1)

    def test_each_bar_of_the_stage_is_there_with_its_limit(self):
        rows = {row.id: row.limit_at(500) for measurement in MEASUREMENTS.values() for row in measurement.rows}
        promised = {"L1": 1.5, "L1-start": 5.5, "L2": 3, "L3": 1000, "L4": 20_000, "L5-memory": 500, "L5-recovery": 2, "L5-list": 100,
                    "L6": 10, "L7-unchecked": 200_000, "L7-checked": 20_000, "L8-lost": 0, "L8-doubled": 0, "L8-orphans": 0,
                    "L8-cut-replies": 1}
        self.assertEqual({name: rows.get(name) for name in promised}, promised)

    @unittest.skipUnless(os.path.isdir("/dev/shm"), "no memory file system here")
    def test_memory_is_no_place_for_durable_writes(self):
        with mock.patch.dict(os.environ, STARGATE_SCRATCH="/dev/shm"), self.assertRaises(harness.Failed):
            machine.scratch()


class Kills(unittest.TestCase):
    def test_a_job_that_ran_not_to_its_end_is_lost_and_one_that_ran_twice_is_doubled(self):
        with tempfile.TemporaryDirectory() as folder:
            marks = pathlib.Path(folder)
            for key, lines in {"good": "began ended", "cut": "began", "twice": "began began ended", "again": "began ended began ended",
                               "unacknowledged": "began began"}.items():
                (marks / key).write_text(lines.replace(" ", "\n") + "\n")
            lost, doubled = kills.judge(marks, ["good", "cut", "never", "twice"])
            self.assertEqual(lost, ["cut", "never"])
            self.assertEqual(sorted(doubled), ["again", "twice", "unacknowledged"])


class Planes(unittest.TestCase):
    def test_a_set_up_that_fails_leaves_no_control_plane_and_no_folder_behind(self):
        for broken, fails_at in ((plane.Plane(cpu_gpus=1), "up"), (served.Served(""), "submit")):
            asked = []

            def run(*words, asked=asked, fails_at=fails_at, **_):
                asked.append(words[0])
                if words[0] == fails_at:
                    raise harness.Failed(fails_at)
            with mock.patch.object(broken.stargate, "run", run), self.assertRaises(harness.Failed):
                with broken:
                    self.fail("it is not set up")
            self.assertEqual(asked[-2:], [fails_at, "down"])
            self.assertFalse(broken.folder.exists())
            self.assertFalse(broken.scratch.exists())


class Client(unittest.TestCase):
    def test_a_reply_that_comes_in_pieces_is_read_whole_and_a_cut_one_is_an_error(self):
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
            server.bind(f"{folder}/socket")
            server.listen()

            def serve():
                peer, _ = server.accept()
                with peer:
                    peer.recv(100)
                    for piece in (b"HTTP/1.1 201 Created\r\nContent-", b"Length: 5\r\n\r", b"\nhel", b"lo"):
                        peer.sendall(piece)
                    peer.recv(100)
                    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut")
            thread = threading.Thread(target=serve)
            thread.start()
            with plane.Client(f"{folder}/socket", timeout=10) as client:
                self.assertEqual(client.ask(b"x"), (201, b"hello"))
                with self.assertRaises(OSError):
                    client.ask(b"y")
            thread.join()


class Mutants(unittest.TestCase):
    def test_a_patch_that_no_longer_applies_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            patch = pathlib.Path(folder) / "stale.patch"
            patch.write_text("# what: nothing\n# tests: base_test\n--- a/LICENSE\n+++ b/LICENSE\n@@ -1,1 +1,1 @@\n-not there\n+nor this\n")
            stale, said = printed(mutants.check, [patch])
        self.assertEqual(stale, 1)
        self.assertIn("stale.patch", said)


class Packages(unittest.TestCase):
    def installed_for(self, *more):
        """What the script would install on a machine that has all of packages.txt: apt-get's words."""
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name in ("packages.txt", "tools/ensure_packages.sh"):
                (root / name).parent.mkdir(exist_ok=True)
                shutil.copy(harness.ROOT / name, root / name)
            listed = " ".join(line.split("#")[0].strip() for line in (root / "packages.txt").read_text().splitlines())
            for name, does in (("dpkg-query", f"for each in {listed}; do echo \"ii  $each\"; done"), ("id", "echo 1000"),
                               ("sudo", "exec \"$@\""), ("apt-get", f"echo \"$*\" >>{root}/log"),
                               ("dpkg", f"mkdir -p {root}/build/nginx.part/usr")):
                (root / name).write_text(f"#!/bin/sh\n{does}\n")
                (root / name).chmod(0o755)
            subprocess.run([root / "tools/ensure_packages.sh", *more], env={**os.environ, "PATH": f"{root}:{os.environ['PATH']}"},
                           check=True, capture_output=True)
            log = root / "log"
            return log.read_text().splitlines() if log.exists() else []

    def test_only_who_measures_needs_nginx(self):
        self.assertEqual(self.installed_for(), [])
        self.assertEqual(self.installed_for("nginx")[-1], "download nginx")


class Tour(unittest.TestCase):
    def test_warning_checkpoint_and_loan_are_told_as_they_come(self):
        live = tour_live.Live(mock.Mock(), "train")
        parts = lambda gpus: [{"gpus": (1 << gpus) - 1}]  # noqa: E731
        story = [{"type": "submitted", "first": 1, "count": 1, "spec": {"name": "train"}},
                 {"type": "submitted", "first": 2, "count": 2, "spec": {"name": "chat"}},
                 {"type": "started", "job": 1, "attempt": 7, "parts": parts(3)},
                 {"type": "started", "job": 3, "attempt": 8, "parts": parts(1)},
                 {"type": "running", "attempt": 7, "generation": 1},
                 {"type": "warned", "at": 1_000_000, "attempt": 7, "ending": {"cause": "resize", "next": parts(2)}, "for_job": 3},
                 {"type": "part_ended", "at": 1_100_000, "attempt": 7, "acknowledged": True, "step": 52},
                 {"type": "resized", "attempt": 7, "gpus": 2},
                 {"type": "lent", "lender": 1, "borrower": 3, "gpus": 1},
                 {"type": "running", "at": 1_200_000, "attempt": 7, "generation": 2},
                 {"type": "returned", "lender": 1, "borrower": 3, "gpus": 1},
                 {"type": "warned", "at": 2_000_000, "attempt": 7, "ending": {"cause": "resize", "next": parts(3)}, "for_job": 0},
                 {"type": "warned", "at": 3_000_000, "attempt": 8, "ending": {"cause": "cancel", "next": []}, "for_job": 0},
                 {"type": "pass_cut_off"}]
        _, told = printed(lambda: [live.tell_event(json.dumps(event)) for event in story])
        live.tell_output("step 3 loss 2\n")
        _, said = printed(live.tell_output, "resumed from step 52 with 2 ranks\n")
        self.assertEqual([line.split("] ")[1].strip() for line in (told + said).splitlines()],
                         ["train is warned: it shall go on with 2 GPUs instead of 3, for chat[1]",
                          "train has left, with a checkpoint of step 52, 100 ms after the warning",
                          "1 GPU of train lent to chat[1]",
                          "its ranks are up again, on 2 GPUs, 200 ms after the warning",
                          "1 GPU given back to train by chat[1]",
                          "train is warned: it shall go on with 3 GPUs instead of 2: GPUs are spare",
                          "train prints: resumed from step 52 with 2 ranks"])

    def test_a_process_that_is_another_one_is_not_the_same(self):
        who = [("train", rank) for rank in range(3)]
        _, told = printed(tour_live.show_ranks, {who[0]: (10, 5), who[1]: (11, 5), who[2]: (12, 5)}, {who[0]: (10, 5), who[1]: (11, 6)})
        self.assertEqual(["same" in line for line in told.splitlines()], [False, True, False, False])
        self.assertIn("gone", told.splitlines()[3])


class Processes(unittest.TestCase):
    def test_descendants_are_found_to_any_depth(self):
        def process(pid, parent):
            one = mock.Mock()
            one.pid, one.parent = pid, parent
            return one
        table = {pid: process(pid, parent) for pid, parent in ((1, 0), (2, 1), (3, 2), (4, 3), (9, 1))}
        self.assertEqual(harness.with_descendants([2, 77], table), {2, 3, 4})


if __name__ == "__main__":
    unittest.main(verbosity=2)
