#!/usr/bin/python3
"""The queue in people's hands: changes of what was asked for, sweeps, what was used, and the live screen."""

import csv
import datetime
import fcntl
import io
import json
import os
import pty
import pwd
import select
import struct
import subprocess
import termios
import time
import unittest

from machine import Machine, shim_of
from harness import BINARY, wait_until

ME = pwd.getpwuid(os.geteuid()).pw_name


class Queue(Machine):
    def setUp(self):
        super().setUp()
        self.stargate.up()

    def history(self, *words):
        return json.loads(self.stargate.run("history", *words, "-o", "json").stdout)

    def refused(self, *words):
        done = self.stargate.run(*words, check=False)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        return done.stderr

    # Edits.
    def test_waiting_work_is_changed_and_takes_its_new_place(self):
        self.submit("busy", "sleep 600", "gpus: 4\n")
        self.stargate.wait_for("busy", "running")
        self.submit("first", "true", "gpus: 4\n")
        self.submit("second", "sleep 600", "gpus: 4\n")
        self.assertEqual(self.stargate.run("edit", "second", "--priority", "production", "--gpus", "2", "--time", "30m").stdout,
                         "second is changed\n")
        row = self.stargate.job("second")
        self.assertEqual((row["priority"], row["gpus_max"], row["time_limit_s"]), ("production", 2, 1800))
        self.stargate.wait_for("second", "running")  # it may preempt now
        self.assertEqual(self.stargate.job("first")["state"], "waiting")
        self.assertEqual(self.stargate.run("twin", "replay", str(self.state)).returncode, 0)

    def test_a_shorter_time_limit_ends_running_work(self):
        self.submit("long", "sleep 600", "time: 1h\n")
        self.stargate.wait_for("long", "running")
        self.stargate.run("edit", "long", "--time", "1s")
        self.stargate.wait_for("long", "failed")
        self.assertEqual(self.stargate.job("long")["detail"], "its time limit ended it")

    def test_dependencies_are_changed_and_taken_away(self):
        self.submit("data", "true", "held: true\n")
        self.submit("train", "true", "after: [data]\n")
        self.submit("other", "true", "held: true\n")
        self.stargate.run("edit", "train", "--after", "data,other")
        why = json.loads(self.stargate.run("why", "train", "-o", "json").stdout)
        self.assertEqual(why["reasons"][0]["why"], "dependency")
        self.assertIn("it would come after itself", self.refused("edit", "data", "--after", "train"))
        self.stargate.run("edit", "train", "--after", "none")
        self.stargate.wait_for("train", "succeeded")

    def test_an_elastic_job_gets_another_range_and_a_rigid_one_keeps_its_size(self):
        self.submit("elastic", "sleep 600", "gpus: 1..2\n")
        self.stargate.wait_for("elastic", "running")
        self.assertIn("elastic (job 1) runs on 2 GPUs, which the new size does not allow",
                      self.refused("edit", "elastic", "--gpus", "3..4"))
        self.stargate.run("edit", "elastic", "--gpus", "1..3")
        wait_until("it grows", lambda: self.stargate.job("elastic")["gpus"] == 3 and
                   self.stargate.job("elastic")["state"] == "running")
        self.submit("rigid", "sleep 600")
        self.stargate.wait_for("rigid", "running")
        self.assertIn("it always runs on 1 GPU", self.refused("edit", "rigid", "--gpus", "2"))

    def test_what_cannot_be_is_refused_with_a_sentence(self):
        self.submit("array", "sleep 600", "count: 3\n")
        self.assertIn("change all of them: stargate edit 1[]", self.refused("edit", "array[1]", "--time", "1h"))
        self.assertIn("nothing to change; name", self.refused("edit", "array"))
        self.assertIn("time: `x` is no time", self.refused("edit", "array", "--time", "x"))
        self.assertIn("there is no job `nobody`", self.refused("edit", "nobody", "--time", "1h"))
        self.stargate.run("tenants", "set", "default", "--classes", "research")
        self.assertIn("tenant default may not use serving", self.refused("edit", "array", "--priority", "serving"))
        self.assertIn("it needs 9 GPUs", self.refused("submit", str(self.write("big", "gpus: 9\n"))))
        self.submit("held", "true", "held: true\n")
        self.assertIn("it needs 9 GPUs, more than there are: 4", self.refused("edit", "held", "--gpus", "9"))

    def write(self, name, more):
        path = self.folder / f"{name}.yaml"
        path.write_text(f"kind: batch\nname: {name}\nrun: 'true'\n{more}")
        return path

    # Sweeps.
    def test_each_element_of_a_sweep_finds_its_own_values(self):
        told = self.submit("sweep", "echo lr=$LR seed=$SEED task=$STARGATE_TASK",
                           "sweep: {LR: [0.1, 1e-2], SEED: [1, 2, 3]}\n").stdout
        self.assertIn("6 elements, sweep[0] to sweep[5]", told)
        self.stargate.wait_for("sweep[5]", "succeeded")
        for task in range(6):
            self.stargate.wait_for(f"sweep[{task}]", "succeeded")
            output = self.stargate.run("logs", f"sweep[{task}]").stdout
            self.assertEqual(output, f"lr={['0.1', '1e-2'][task // 3]} seed={task % 3 + 1} task={task}\n")
        self.assertIn("LR=1e-2 SEED=2", self.stargate.run("show", "sweep[4]").stdout)

    # What was used.
    def test_history_tells_what_was_used_and_lost(self):
        self.submit("good", "sleep 1", "gpus: 2\n")
        self.submit("bad", "sleep 1; exit 3")
        self.submit("never", "true", "held: true\n")
        self.stargate.wait_for("good", "succeeded")
        self.stargate.wait_for("bad", "failed")
        self.stargate.run("cancel", "never")
        self.submit("waits", "true", "held: true\n")
        rows = {row["name"]: row for row in self.history()}
        self.assertEqual(set(rows), {"good", "bad", "never"})
        self.assertGreaterEqual(rows["good"]["charged_gpu_s"], 2)
        self.assertEqual(rows["good"]["lost_gpu_s"], 0)
        self.assertEqual(rows["bad"]["lost_gpu_s"], rows["bad"]["charged_gpu_s"])
        self.assertEqual(rows["never"]["charged_gpu_s"], 0)
        ended = [row["ended_at"] for row in self.history()]
        self.assertEqual(ended, sorted(ended, reverse=True))
        self.assertEqual(len(self.history("--limit", "1")), 1)
        self.assertEqual(self.history("--until", "1h"), [])
        self.assertEqual(len(self.history("--since", "1h", "--user", ME)), 3)
        yesterday = (datetime.date.today() - datetime.timedelta(days=1)).isoformat()
        self.assertEqual(len(self.history("--since", yesterday)), 3)
        self.assertEqual(self.history("--user", "65533"), [])
        table = self.stargate.run("history").stdout.splitlines()
        self.assertEqual(table[0].split()[:4], ["ID", "NAME", "USER", "TENANT"])
        self.assertIn(ME, table[1])
        used = json.loads(self.stargate.run("usage", "--jobs", "-o", "json").stdout)
        self.assertEqual([(row["tenant"], row["owner"], row["jobs"]) for row in used], [("default", os.geteuid(), 3)])
        self.assertAlmostEqual(used[0]["charged_gpu_s"], sum(row["charged_gpu_s"] for row in rows.values()), places=3)
        self.assertIn("GPU-HOURS", self.stargate.run("usage", "--jobs", "--since", "1d").stdout)
        self.assertEqual(json.loads(self.stargate.run("usage", "-o", "json").stdout), [], "tokens of services, as before")

    def test_a_job_whose_node_failed_has_recovered_and_lost_what_it_had_not_saved(self):
        self.submit("train", "echo 5 > $STARGATE_PROGRESS; sleep 600", "retries: 3\n")
        self.stargate.wait_for("train", "running")
        wait_until("its step is known", lambda: self.stargate.job("train")["step"] == 5)
        time.sleep(1)
        attempt = self.stargate.job("train")["attempt"]
        os.kill(shim_of(self.state, attempt), 9)
        wait_until("it runs again", lambda: self.stargate.job("train")["attempt"] > attempt and
                   self.stargate.job("train")["state"] == "running")
        row = self.stargate.job("train")
        self.assertEqual((row["recovered"], row["preempted"]), (1, 0))
        self.assertGreater(row["lost_gpu_s"], 0.9)
        self.assertLess(row["lost_gpu_s"], row["charged_gpu_s"])

    def test_csv_is_read_by_programs_and_is_no_formula_to_a_spreadsheet(self):
        self.submit("plain", "true")
        self.stargate.wait_for("plain", "succeeded")
        self.assertEqual(self.ask("PUT", "/api/v1/tenants/-2.5", {"quota": 4})[0], 200)
        self.submit("other", "false", "tenant: '-2.5'\nheld: true\n")
        self.submit("behind", "true", "tenant: '-2.5'\nafter: other\n")
        self.stargate.run("release", "other")
        self.stargate.wait_for("behind", "cancelled")
        text = self.stargate.run("history", "-o", "csv").stdout
        rows = list(csv.DictReader(io.StringIO(text)))
        self.assertEqual({row["name"]: row["tenant"] for row in rows}, {"behind": "'-2.5", "other": "'-2.5", "plain": "default"})
        self.assertIn('"job 2, which it comes after, did not succeed"', text)
        rows = [row for row in rows if row["name"] != "other"]
        self.assertEqual(rows[0]["exit_status"], "", "it never ran")
        self.assertEqual(rows[1]["user"], ME)
        self.assertEqual(rows[1]["exit_status"], "0")
        self.assertRegex(rows[1]["ended"], r"^20..-..-..T..:..:..Z$")
        float(rows[1]["gpu_hours"])
        self.assertEqual(list(rows[0]), "id name user tenant class submitted started ended gpu_hours recoveries "
                                        "lost_gpu_hours state exit_status cause".split())
        used = list(csv.DictReader(io.StringIO(self.stargate.run("usage", "--jobs", "-o", "csv").stdout)))
        self.assertEqual([(row["tenant"], row["jobs"]) for row in used], [("'-2.5", "2"), ("default", "1")])

    def test_what_is_asked_wrongly_of_the_history_is_refused(self):
        self.assertIn("--since yesterday: no time; give how long ago", self.refused("history", "--since", "yesterday"))
        self.assertIn("--user no-such-user: this machine has no such user", self.refused("history", "--user", "no-such-user"))
        self.assertIn("there is no tenant `nobody`", self.refused("history", "--tenant", "nobody"))
        self.assertIn("--jobs", self.refused("usage", "--since", "1d"))

    # The live screen.
    def test_top_prints_once_where_nobody_looks(self):
        self.submit("runs", "sleep 600", "gpus: 2\n")
        self.stargate.wait_for("runs", "running")
        self.submit("waits", "true", "gpus: 3\n")
        text = self.stargate.run("top").stdout
        self.assertNotIn("\x1b", text)
        for part in ("2 of 4 GPUs in use", "nodes (1)", "running (1)", "waiting (1)", "runs", "waits", "no_gpus"):
            self.assertIn(part, text)

    def look(self, ending):
        """What comes out of `top` at a terminal until it ends, and the terminal's settings before and after."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        before = termios.tcgetattr(slave)
        process = subprocess.Popen([BINARY, "top", "--state", self.state], stdin=slave, stdout=slave, stderr=slave,
                                   start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        out = b""
        deadline = time.monotonic() + 20
        while out.count(b"GPUs in use") < 2 and time.monotonic() < deadline:  # shown, and shown anew
            if select.select([master], [], [], 0.2)[0]:
                out += os.read(master, 65536)
        os.write(master, ending)
        wait_until("it leaves", lambda: process.poll() is not None)
        while select.select([master], [], [], 0.2)[0]:
            out += os.read(master, 65536)
        after = termios.tcgetattr(slave)
        os.close(master)
        os.close(slave)
        return out.decode(), process.returncode, before, after

    def test_top_is_live_and_leaves_the_terminal_as_it_was(self):
        self.submit("runs", "sleep 600")
        self.stargate.wait_for("runs", "running")
        for ending in (b"q", b"\x03"):
            out, status, before, after = self.look(ending)
            self.assertEqual(status, 0)
            self.assertGreaterEqual(out.count("GPUs in use"), 2)
            self.assertIn("runs", out)
            self.assertTrue(out.endswith("\x1b[?25h\x1b[?1049l"), out[-40:])
            self.assertEqual(before, after)
            screen = out[out.index("GPUs in use"):].split("\x1b[H")[0]
            self.assertLessEqual(screen.count("\n"), 24, "it fits")


if __name__ == "__main__":
    unittest.main()
