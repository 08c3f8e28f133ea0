"""Drives the real binary from scripts: the tour, the end-to-end tests and the bars. Standard library only."""

import fcntl
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
# Several control planes run on a machine that tests.
ANY_PORTS = ("--listen", "127.0.0.1:0", "--gateway", "127.0.0.1:0")


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
    """A control plane on a state folder of its own, and its command line. `cpu_gpus=None`: as many as by default."""

    def __init__(self, state, cpu_gpus=4, options=()):
        self.state = pathlib.Path(state)
        self.cpu_gpus = cpu_gpus
        self.options = list(options)

    def up(self, **keywords):
        self.state.mkdir(parents=True, exist_ok=True)
        gpus = [] if self.cpu_gpus is None else ["--cpu-gpus", str(self.cpu_gpus)]
        return self.run("up", "--detach", *gpus, *ANY_PORTS, *self.options, **keywords)

    def pid(self):
        return int((self.state / "stargate.pid").read_text())

    def kill(self):
        """kill -9, and waits until the process is gone."""
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        wait_until("the control plane's process is gone", lambda: not is_alive(pid))

    def is_up(self):
        """Whether a control plane holds this state, or is about to."""
        try:
            with open(self.state / "lock", "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

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
        return wait_until(f"{name}: {' or '.join(states)}",
                          lambda: (row := self.job(name)) and row["state"] in states and row, seconds)

    def events(self):
        return [json.loads(line) for line in self.run("events", "-o", "jsonl").stdout.splitlines()]


def is_alive(pid):
    """Not yet dead with all its threads: while one of them is left, the process holds its files and locks."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            if stat.read().rsplit(")", 1)[1].split()[0] != "Z":
                return True
        return len(os.listdir(f"/proc/{pid}/task")) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


class Process:
    """One line of the process table, and where it works."""

    def __init__(self, pid):
        self.pid = pid
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        self.parent = int(fields[1])
        self.start = int(fields[19])  # clock ticks since boot: with the pid it names a process for ever
        self.is_dead = fields[0] == "Z"
        try:
            self.folder = os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            self.folder = ""


def process_table():
    """All processes that are not dead, by pid."""
    table = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            process = Process(int(entry.name))
        except OSError:
            continue  # it has ended meanwhile
        if not process.is_dead:
            table[process.pid] = process
    return table


def with_descendants(roots, table):
    """The pids in `roots` and of everything they started, as far as the parents still live."""
    children = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process.pid)
    found, left = set(), [pid for pid in roots if pid in table]
    while left:
        pid = left.pop()
        if pid not in found:
            found.add(pid)
            left += children.get(pid, [])
    return found


def shims_of(state, table=None):
    """The pids of the shims of this state by attempt, whoever their parent is by now: each works in its attempt's folder."""
    attempts = pathlib.Path(state).resolve() / "attempts"
    shims = {}
    for process in (table or process_table()).values():
        folder = pathlib.Path(process.folder)
        if folder.parent == attempts and folder.name.isdigit():
            shims.setdefault(int(folder.name), []).append(process.pid)
    return shims


def processes_of(state):
    """The control plane of this state, its shims, those that it adopted too, and everything these started."""
    table = process_table()
    roots = [pid for pids in shims_of(state, table).values() for pid in pids]
    try:
        roots.append(int((pathlib.Path(state) / "stargate.pid").read_text()))
    except (OSError, ValueError):
        pass  # it is down
    return with_descendants(roots, table)


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
