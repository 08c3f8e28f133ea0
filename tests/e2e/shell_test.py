"""`stargate shell` at a real terminal: what is typed, what comes back, losing it and taking it up again."""

import os
import signal
import subprocess
import unittest

from machine import Machine
from harness import BINARY, wait_until
from terminal import AtTerminal


class Shell(Machine):
    def setUp(self):
        super().setUp()
        self.stargate.up()

    def at_terminal(self, *words, **keywords):
        made = AtTerminal([str(BINARY), "shell", "--state", str(self.state), *words], self.folder, **keywords)
        self.addCleanup(made.close)
        return made

    def job(self):
        return self.stargate.job("shell")

    def test_it_is_a_shell_at_a_terminal_with_gpus(self):
        shell = self.at_terminal("-g", "2", rows=30, columns=100)
        shell.expect(r"\$ ")
        shell.type("echo gpus $STARGATE_GPUS in $(basename $PWD); tty; stty size\n")
        shell.expect(rf"gpus 2 in {self.folder.name}")
        shell.expect(r"/dev/pts/\d+")
        shell.expect(r"30 100")
        shell.set_window(50, 120)
        os.kill(shell.process.pid, signal.SIGWINCH)
        shell.type("\n")
        wait_until("the new size has come", lambda: shell.type("stty size\n") or shell.read(0.3) and "50 120" in shell.seen)
        shell.type("sleep 600\n")
        shell.expect("sleep 600")
        wait_until("it sleeps", lambda: subprocess.run(["pgrep", "-f", "^sleep 600$"], capture_output=True, check=False).returncode == 0)
        shell.type("\x03")
        shell.expect(r"\$ ")
        shell.type("exit 7\n")
        self.assertEqual(shell.end(), 7)
        self.assertEqual((self.job()["kind"], self.job()["state"], self.job()["exit_status"]), ("shell", "failed", 7))

    def test_a_lost_terminal_is_no_lost_shell(self):
        shell = self.at_terminal()
        shell.expect(r"\$ ")
        shell.type("kept=before\n")
        shell.expect("kept=before")
        os.kill(shell.process.pid, signal.SIGHUP)  # as when the connection is lost
        shell.process.wait()
        self.assertEqual(self.job()["state"], "running")
        again = self.at_terminal("--attach", "shell")
        again.expect("kept=before")  # what was on the screen
        again.type("echo $kept and after\n")
        again.expect("before and after")
        again.type("\n~.")
        again.expect(f"shell --attach {self.job()['id']}")
        self.assertEqual(again.end(), 0)
        self.assertEqual(self.job()["state"], "running")
        third = self.at_terminal("--attach", str(self.job()["id"]))
        third.expect("and after")
        third.type("\x04")
        self.assertEqual(third.end(), 0)
        self.assertEqual(self.job()["state"], "succeeded")

    def test_it_outlives_the_control_plane(self):
        shell = self.at_terminal()
        shell.expect(r"\$ ")
        shell.type("kept=before\n")
        shell.expect("kept=before")
        self.stargate.kill()
        shell.type("echo $kept and after\n")
        self.stargate.up()
        shell.expect("before and after")
        shell.type("exit\n")
        self.assertEqual(shell.end(), 0)

    def test_one_that_waits_says_why_and_can_be_given_up(self):
        self.submit("big", "sleep 600", "gpus: 4\n")
        self.stargate.wait_for("big", "running")
        shell = self.at_terminal("-g", "1")
        shell.expect("waits: it needs 1 GPU, and 0 are free; Ctrl-C gives it up")
        shell.type("\x03")
        self.assertEqual(shell.end(), 130)
        self.stargate.wait_for("shell", "cancelled")

    def test_one_that_was_preempted_can_be_typed_at_when_it_is_back(self):
        shell = self.at_terminal("-g", "1")
        shell.expect(r"\$ ")
        self.submit("urgent", "sleep 2", "gpus: 4\npriority: production\n")
        self.stargate.wait_for("urgent", "running")
        shell.type("lost\n")  # nobody is there
        self.stargate.wait_for("urgent", "succeeded")
        wait_until("it is back", lambda: (row := self.job())["state"] == "running" and row["attempt"] > 1)
        shell.expect(r"\$ ")
        shell.type("echo it hea''rs\n")
        shell.expect("it hears")
        shell.type("\n~.")
        self.assertEqual(shell.end(), 0)

    def test_only_shells_are_attached_to(self):
        self.submit("plain", "sleep 600")
        self.stargate.wait_for("plain", "running")
        for reference, words in (("plain", "plain has no terminal"), ("nobody", "there is no job `nobody`")):
            done = self.stargate.run("shell", "--attach", reference, check=False)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(words, done.stderr)

    def test_what_is_typed_may_come_from_a_file(self):
        for typed in ("echo $((6*7))\n", "echo $((6*7))", "~.\necho $((6*7))\n"):
            done = subprocess.run([str(BINARY), "shell", "--state", str(self.state)], input=typed, text=True,
                                  capture_output=True, cwd=self.folder, timeout=60, check=False)
            self.assertEqual(self.job()["state"], "succeeded" if "~" not in typed else self.job()["state"], done.stderr)
            self.assertIn("42\n", done.stdout.replace("\r", ""), typed)

    def test_a_command_that_is_warned_saves(self):
        program = "import os, signal, time\ndef told(*_):\n  os.write(1, b'saved'); os._exit(0)\n" \
                  "signal.signal(signal.SIGTERM, told); os.write(1, b'ready'); time.sleep(600)"
        shell = self.at_terminal("--name", "train", "--", "/usr/bin/python3", "-c", program)
        shell.expect("ready")
        self.stargate.run("cancel", "train")
        shell.expect("saved")
        shell.end()
        self.assertEqual(self.stargate.job("train")["state"], "cancelled")

    def test_a_command_of_ones_own_ends_as_it_does(self):
        shell = self.at_terminal("--", "/bin/sh", "-c", "read line; echo got $line; exit 3")
        shell.type("this\n")
        shell.expect("got this")
        self.assertEqual(shell.end(), 3)
        self.assertEqual(self.stargate.job("sh")["exit_status"], 3)


if __name__ == "__main__":
    unittest.main()
