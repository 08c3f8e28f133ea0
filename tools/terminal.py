"""A program at a terminal of its own, as a person has one."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time


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
