"""What the end-to-end tests of faults share: a state folder with a control plane for each test, and raw requests."""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
from harness import Stargate, give_to_job_user, is_alive, scratch_folder  # noqa: E402

IS_ROOT = os.geteuid() == 0


class OverUnixSocket(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=20)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self.path)


def listening_ports(pid):
    """The TCP ports that this process listens on."""
    inodes = set()
    for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(link))
    ports = []
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
            ports.append(int(words[1].split(":")[1], 16))
    return ports


def shim_of(state, attempt):
    """The process that stands by this attempt: whoever holds the lock of its folder."""
    inode = (state / "attempts" / str(attempt)).stat().st_ino
    for line in pathlib.Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
            return int(words[4])
    raise AssertionError(f"nobody holds attempt {attempt}")


def living(command):
    """The living processes with exactly this command line; a test puts its own pid into it, so that it is nobody else's."""
    found = subprocess.run(["pgrep", "-x", "-f", command], capture_output=True, text=True, check=False).stdout.split()
    return [int(pid) for pid in found if is_alive(int(pid))]


class Machine(unittest.TestCase):
    """A state folder and a control plane for each test."""

    def setUp(self):
        self.folder = scratch_folder("stargate-faults-")
        give_to_job_user(self.folder)
        self.state = self.folder / "state"
        self.stargate = Stargate(self.state, cpu_gpus=4)
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.addCleanup(self.stargate.down, "--jobs")

    def submit(self, name, run, more="", check=True):
        path = self.folder / f"{name}.yaml"
        path.write_text(f"kind: batch\nname: {name}\n{more}run: {json.dumps(run)}\n")
        return self.stargate.run("submit", str(path), check=check)

    def ask(self, method, target, body=None, headers=None, port=None):
        """One raw request; returns its status and its JSON."""
        peer = http.client.HTTPConnection("127.0.0.1", port, timeout=20) if port else \
            OverUnixSocket(self.state / "stargate.sock")
        with contextlib.closing(peer):
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
            peer.request(method, target, body, headers or {})
            reply = peer.getresponse()
            text = reply.read()
            return reply.status, json.loads(text) if text.strip().startswith(b"{") else text

    def lines(self, name):
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def attempts(self):
        return sorted(each.name for each in (self.state / "attempts").iterdir())

    def assert_refused_to_start(self, done, *words, status=1):
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)
