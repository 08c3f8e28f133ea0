#!/usr/bin/python3
"""The command line in odd hands: closed or full standard streams, signals, strange words and folders."""

import os
import shutil
import signal
import subprocess
import unittest

import machine
from harness import BINARY, Stargate, give_to_job_user, scratch_folder

VERBS = ("up down run submit jobs top fleet services usage history tenants show why logs cancel hold release edit resize drain undrain events "
         "token doctor gateway twin mock-engine bench-serve").split()
NOT_WRITTEN = "stargate: standard output did not take all of it; see whether its disk is full\n"


class Cli(unittest.TestCase):
    """One control plane for all tests of the class; each test uses names of its own."""

    @classmethod
    def setUpClass(cls):
        cls.folder = scratch_folder("stargate-cli-")
        give_to_job_user(cls.folder)
        cls.stargate = Stargate(cls.folder / "state", cpu_gpus=4)
        cls.stargate.up()

    @classmethod
    def tearDownClass(cls):
        cls.stargate.down("--jobs")
        shutil.rmtree(cls.folder, ignore_errors=True)

    def tearDown(self):
        for row in self.stargate.jobs():
            if row["state"] in ("waiting", "starting", "running"):
                self.stargate.run("cancel", str(row["id"]), check=False)

    def shell(self, line, **keywords):
        """What a shell makes of it; $S is the binary, and the state is known to it."""
        env = {**os.environ, "S": str(BINARY), "STARGATE_STATE": str(self.stargate.state)}
        return subprocess.run(["sh", "-c", line], env=env, capture_output=True, check=False, timeout=60,
                              cwd=keywords.pop("cwd", self.folder), **keywords)

    def submit(self, name, text):
        (self.folder / f"{name}.yaml").write_text(f"kind: batch\nname: {name}\n{text}\n")
        self.stargate.run("submit", str(self.folder / f"{name}.yaml"))

    def test_what_is_written_to_a_closed_stream_goes_nowhere_and_the_job_goes_on(self):
        job = "-- sh -c 'echo out; echo err >&2; echo out; touch gone-on; exit 7'"
        for closed, out, err in (("2>&-", b"out\nout\n", b""), (">&-", b"", b"err\n"), ("<&-", b"out\nout\n", b"err\n"),
                                 ("<&- >&- 2>&-", b"", b""), ("2</dev/null", b"out\nout\n", b"")):
            done = self.shell(f"$S run {job} {closed}")
            self.assertEqual((done.returncode, done.stdout, done.stderr), (7, out, err), closed)
            self.assertTrue((self.folder / "gone-on").exists(), closed)
            (self.folder / "gone-on").unlink()

    def test_no_file_of_ours_gets_the_number_of_a_closed_stream(self):
        self.submit("quiet", "run: 'true'")
        for words in ("jobs", "show quiet", "events", "logs quiet", "--help", "cancel nobody", "no-verb"):
            open_ones, closed = self.shell(f"$S {words} </dev/null >/dev/null 2>/dev/null"), \
                self.shell(f"$S {words} <&- >&- 2>&-")
            self.assertEqual(closed.returncode, open_ones.returncode, words)
        done = self.shell("$S run -- true <&- >&- 2>&- & p=$!; $S run -- sleep 0.2; wait $p")
        self.assertEqual(done.returncode, 0)

    def test_a_closed_standard_input_cannot_be_read(self):
        done = self.shell("$S submit - <&-")
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr.decode(), r"^stargate: standard input: cannot be read: Bad file descriptor; .+\n$")

    def test_help_that_is_not_taken_is_told(self):
        for words in ("--help", "--version", "tenants set --help", "token list --help", "twin run --help",
                      *(f"{verb} --help" for verb in VERBS)):
            done = self.shell(f"$S {words} > /dev/full")
            self.assertEqual((done.returncode, done.stderr.decode()), (1, NOT_WRITTEN), words)

    def test_listings_that_are_not_taken_are_told(self):
        self.submit("told", "run: 'true'")
        for words in ("jobs", "jobs -o name", "jobs -o jsonl", "fleet", "tenants", "services", "usage", "show told",
                      "show told -o json", "why told", "events", "events -o json", "token", "token list", "doctor --store"):
            done = self.shell(f"$S {words} > /dev/full")
            self.assertEqual((done.returncode, done.stderr.decode()), (1, NOT_WRITTEN), words)

    def test_a_reader_that_has_gone_is_no_news(self):
        self.submit("many", "run: sleep 60\ncount: 2000\ngpus: 4")  # more than a pipe holds
        self.stargate.run("cancel", "many")
        for words in ("--help", "jobs", "jobs -o jsonl", "events", "events -f"):
            done = self.shell(f"{{ $S {words}; echo $? >&2; }} | head -c 1 >/dev/null")
            self.assertRegex(done.stderr.decode(), r"^(0|141)\n$", words)

    def test_a_folder_that_is_not_utf8_is_named(self):
        bad = os.fsencode(self.folder) + b"/caf\xe9"
        os.mkdir(bad)
        (self.folder / "good.yaml").write_text("kind: batch\nname: good\nrun: 'true'\n")
        shutil.copy(self.folder / "good.yaml", bad + b"/bad.yaml")
        shown = f"{self.folder}/caf?"
        for words in ("run -- true", "submit - <bad.yaml", "submit bad.yaml"):
            done = self.shell(f"cd {self.folder}/caf* && $S {words}")
            self.assertEqual(done.returncode, 2, words)
            self.assertIn(shown, done.stderr.decode(), words)
            self.assertRegex(done.stderr.decode(), r"not UTF-8; rename it.*\n$", words)
            self.assertNotIn("PWD", done.stderr.decode(), words)
        done = self.shell(f"cd {self.folder}/caf* && $S submit ../good.yaml && cd .. && $S run -- true")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_an_element_has_one_name(self):
        self.submit("array", "run: 'true'\ncount: 2")
        self.stargate.run("show", "array[1]")
        for strange in ("array[00]", "array[01]", "array[+1]", "array[ 1]", "array[-0]", "array[2]", "array[]", "array["):
            for verb in ("show", "why", "logs", "cancel", "hold", "release"):
                done = self.stargate.run(verb, strange, check=False)
                self.assertEqual((done.returncode, done.stdout), (2, ""), (verb, strange))
                self.assertIn(f"there is no job `{strange}`", done.stderr)

    def test_a_cancel_tells_how_many_elements_have_their_grace(self):
        for name, gpus, told in (("alone", 3, "1 of 3 elements is told to end, and killed if it is still there after its grace"),
                                 ("both", 2, "2 of 3 elements are told to end, and killed if they are still there after their grace")):
            self.submit(name, f"run: sleep 60\ncount: 3\ngpus: {gpus}")
            self.stargate.wait_for(f"{name}[{4 // gpus - 1}]", "running")
            self.assertEqual(self.stargate.run("cancel", name).stdout, f"{name} is cancelled; {told}\n")
            self.stargate.wait_for(f"{name}[{4 // gpus - 1}]", "cancelled")

    def test_what_is_written_wrong_is_told_in_plain_words(self):
        for words, told in (("jobs -o", "--output: its value is missing; see: stargate jobs --help"),
                            ("jobs --limit", "--limit: its value is missing; "),
                            ("jobs --limit 1 --limit 2", "--limit: is given more than once; "),
                            ("run --count 99999999999 -- true", "`99999999999` is too large; write a smaller number"),
                            ("run --count 2147483647 -- true", "from 1 to 100000"),
                            ("events --from 9223372036854775808", "`9223372036854775808` is too large; "),
                            ("events --from -9223372036854775809", "is no number from 1 on; "),
                            ("mock-engine --port 99999", "`99999` is no number from 0 to 65535; write one"),
                            ("up --job-user ''", "--job-user: is empty; name an account"),
                            ("submit ''", "the job file's name is empty; name a job file"),
                            ("token revoke ''", "there is no token ``; "),
                            ("show \"$(printf 'caf\\351')\"", "there is no job `caf?`; ")):
            done = self.shell(f"$S {words}")
            self.assertEqual((done.returncode, done.stdout), (2, b""), words)
            self.assertIn(told, done.stderr.decode(), words)
            self.assertEqual(done.stderr.count(b"\n"), 1, done.stderr)

    def test_limits_of_the_caller_are_named(self):
        done = self.shell("ulimit -n 4; $S jobs")
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertRegex(done.stderr.decode(), r"^stargate: cannot ask the control plane at .*: Too many open files; .*ulimit -n\n$")

    @unittest.skipUnless(machine.IS_ROOT, "needs root to be somebody else")
    def test_a_folder_that_may_not_be_looked_into_is_told(self):
        closed = self.folder / "closed"
        closed.mkdir(mode=0o700)
        for verb in ("jobs", "down", "down --jobs", "run -- true"):
            done = self.shell(f"setpriv --reuid 65534 --regid 65534 --clear-groups $S {verb}".replace(
                verb.split()[0], f"{verb.split()[0]} --state {closed}/state", 1))
            self.assertEqual((done.returncode, done.stdout), (1, b""), verb)
            self.assertRegex(done.stderr.decode(), r"^stargate: .*closed/state belongs to another user; .+\n$", verb)


class ControlPlaneAway(machine.Machine):
    def interrupted(self, **keywords):
        """`run` of a long command, once it runs; then the first Ctrl-C with what is done to the control plane before."""
        running = subprocess.Popen([str(BINARY), "run", "--name", "long", "--state", str(self.state), "--", "sleep", "60"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=self.folder, **keywords)
        self.addCleanup(running.stderr.close)
        self.addCleanup(running.kill)
        self.stargate.wait_for("long", "running")
        return running

    def test_a_second_interrupt_leaves_also_when_nobody_answers_the_first(self):
        self.stargate.up()
        running = self.interrupted()
        plane = self.stargate.pid()
        os.kill(plane, signal.SIGSTOP)
        self.addCleanup(os.kill, plane, signal.SIGCONT)
        running.send_signal(signal.SIGTERM)
        self.assertIn("cancelling", running.stderr.readline())
        running.send_signal(signal.SIGTERM)
        self.assertEqual(running.wait(timeout=20), 128 + signal.SIGTERM)

    def test_an_interrupt_while_the_control_plane_is_away_is_told_to_the_next(self):
        self.stargate.up()
        running = self.interrupted()
        self.stargate.kill()
        running.send_signal(signal.SIGTERM)
        self.assertIn("cancelling", running.stderr.readline())
        self.stargate.up()
        self.assertEqual(running.wait(timeout=20), 128 + signal.SIGTERM)
        self.assertEqual(self.stargate.job("long")["state"], "cancelled")


if __name__ == "__main__":
    unittest.main(verbosity=2)
