"""`stargate shell` at a real terminal: what is typed, what comes back, losing it and taking it up again."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import unittest

from machine import Machine
from harness import BINARY, wait_until


class AtTerminal:
    """A program at a terminal of its own, as a person has one."""

    def __init__(self, command, folder, rows=24, columns=80):
        self.master, slave = pty.openpty()
        self.set_window(rows, columns)
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, cwd=folder, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
                                        env={**os.environ, "TERM": "dumb"})
        os.close(slave)
        self.seen = ""

    def set_window(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.master, text.encode())

    def read(self, seconds):
        if select.select([self.master], [], [], seconds)[0]:
            try:
                self.seen += os.read(self.master, 65536).decode(errors="replace")
            except OSError:
                return False  # nobody is at the other end
        return True

    def expect(self, pattern, seconds=30):
        """Waits until the pattern is on the screen, and forgets what came up to it."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.seen)):
            if time.monotonic() > deadline or not self.read(0.1):
                raise AssertionError(f"{pattern!r} never came; the screen has {self.seen!r}")
        self.seen = self.seen[found.end():]
        return found

    def end(self):
        """Waits for its end; its exit status."""
        deadline = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read(0.05)
        return self.process.wait(timeout=1)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)


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

    def test_only_shells_are_attached_to(self):
        self.submit("plain", "sleep 600")
        self.stargate.wait_for("plain", "running")
        for reference, words in (("plain", "plain has no terminal"), ("nobody", "there is no job `nobody`")):
            done = self.stargate.run("shell", "--attach", reference, check=False)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(words, done.stderr)

    def test_what_is_typed_may_come_from_a_file(self):
        done = subprocess.run([str(BINARY), "shell", "--state", str(self.state)], input="echo $((6*7))\n", text=True,
                              capture_output=True, cwd=self.folder, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("\n42", done.stdout.replace("\r", ""))

    def test_a_command_of_ones_own_ends_as_it_does(self):
        shell = self.at_terminal("--", "/bin/sh", "-c", "read line; echo got $line; exit 3")
        shell.type("this\n")
        shell.expect("got this")
        self.assertEqual(shell.end(), 3)
        self.assertEqual(self.stargate.job("sh")["exit_status"], 3)


if __name__ == "__main__":
    unittest.main()
