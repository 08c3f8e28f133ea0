"""Drives the real binary from scripts: the tour, the end-to-end tests and the bars. Standard library only."""

import json
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = pathlib.Path(os.environ.get("STARGATE_BINARY", ROOT / "build" / "bin" / "stargate"))
JOB_USER = "stargate-job"


class Failed(Exception):
    """A step did not do what it should; the message says which and shows what was printed."""


def wait_until(what, holds, seconds=30.0, pause=0.02):
    """Polls until `holds()` is truthy and returns it; raises Failed naming `what` when it never is."""
    deadline = time.monotonic() + seconds
    while True:
        value = holds()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(pause)


class Stargate:
    """A control plane on a state folder of its own, and its command line."""

    def __init__(self, state, cpu_gpus=4, options=()):
        self.state = pathlib.Path(state)
        self.cpu_gpus = cpu_gpus
        self.options = list(options)

    def up(self):
        self.state.mkdir(parents=True, exist_ok=True)
        return self.run("up", "--detach", "--cpu-gpus", str(self.cpu_gpus), "--listen", "127.0.0.1:0",
                        "--gateway", "127.0.0.1:0", *self.options)

    def pid(self):
        return int((self.state / "stargate.pid").read_text())

    def kill(self):
        """kill -9, and waits until the process is gone."""
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        wait_until("the control plane's process is gone", lambda: not is_alive(pid))

    def down(self, *options):
        return self.run("down", *options, check=False)

    def run(self, *words, check=True, **keywords):
        """Runs a verb; returns the finished process with its output as text."""
        verb, rest = words[0], list(words[1:])
        at = rest.index("--") if "--" in rest else len(rest)
        command = [str(BINARY), verb, "--state", str(self.state), *rest[:at], *rest[at:]]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=keywords.pop("timeout", 120), **keywords)
        if check and done.returncode != 0:
            raise Failed(f"`stargate {' '.join(words)}` ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def json(self, *words):
        return json.loads(self.run(*words, "-o", "json").stdout)

    def jobs(self):
        return self.json("jobs")

    def job(self, name):
        """The newest job of this name, or None."""
        found = [row for row in self.jobs() if row["name"] == name]
        return max(found, key=lambda row: row["id"]) if found else None

    def wait_for(self, name, *states, seconds=60):
        return wait_until(f"{name} is {' or '.join(states)}",
                          lambda: (row := self.job(name)) and row["state"] in states and row, seconds)

    def events(self):
        return [json.loads(line) for line in self.run("events", "-o", "jsonl").stdout.splitlines()]


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def scratch_folder(prefix):
    """A folder that both we and the job user can use; as root our own jobs run as that user."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o755)
    return folder


def give_to_job_user(path):
    """Hands a tree to the account that our jobs run as."""
    if os.geteuid() != 0:
        return
    account = pwd.getpwnam(JOB_USER)
    for each in [path, *path.rglob("*")]:
        os.chown(each, account.pw_uid, account.pw_gid)


def copy_for_jobs(source, target):
    shutil.copytree(source, target)
    give_to_job_user(target)
    return target
