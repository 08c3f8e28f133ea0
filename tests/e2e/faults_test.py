#!/usr/bin/python3
"""Bad requests and a bad world, on the real binary with real processes: each ends in one clear error or in safety."""

import contextlib
import fcntl
import http.client
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
from harness import BINARY, JOB_USER, Stargate, give_to_job_user, is_alive, scratch_folder, wait_until  # noqa: E402

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
    inode = (state / "attempts" / str(attempt) / "lock").stat().st_ino
    for line in pathlib.Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
            return int(words[4])
    raise AssertionError(f"nobody holds attempt {attempt}")


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

    def assert_refused_to_start(self, done, *words):
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)


@unittest.skipUnless(shutil.which("strace"), "strace is not installed")
class Acknowledged(Machine):
    def test_a_submit_is_synced_before_it_is_answered(self):
        self.stargate.up()
        trace = self.folder / "trace"
        calls = "fdatasync,fsync,pwrite64,recvmsg,recvfrom,sendmsg,sendto,write,writev"
        tracer = subprocess.Popen(["strace", "-f", "-y", "-s", "64", "-e", f"trace={calls}", "-o", str(trace), "-p",
                                   str(self.stargate.pid())], stderr=subprocess.PIPE, text=True)
        try:
            said = tracer.stderr.readline()
            if "attached" not in said:
                self.skipTest(f"no tracing here: {said.strip()}")
            status, body = self.ask("POST", "/api/v1/jobs", {"argv": ["true"], "folder": "/", "held": True})
            self.assertEqual(status, 201, body)
        finally:
            tracer.terminate()
            tracer.communicate(timeout=20)
        lines = trace.read_text().splitlines()
        asked = next(i for i, line in enumerate(lines) if "POST /api/v1/jobs" in line)
        replied = next(i for i, line in enumerate(lines) if i > asked and "HTTP/1.1 201" in line)
        wrote = [i for i in range(asked, replied) if "stargate.db-wal" in lines[i] and "pwrite64(" in lines[i]]
        self.assertTrue(wrote, "the submit is in the log before it is answered")
        thread = lines[wrote[-1]].split()[0]
        synced = [i for i in range(wrote[-1], replied) if lines[i].split()[0] == thread and
                  re.search(r"(fdatasync\(.*stargate\.db-wal>\)|fdatasync resumed.*) += 0", lines[i])]
        self.assertTrue(synced, "the log is synced after its last write and before the reply:\n" +
                        "\n".join(lines[asked:replied + 1]))


@unittest.skipUnless(IS_ROOT, "a file system of our own needs root")
class FullDisk(Machine):
    def setUp(self):
        super().setUp()
        self.state.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0711", "none", str(self.state)],
                                 capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            self.skipTest(f"no file system can be mounted here: {mounted.stderr.strip()}")
        self.doCleanups_before_unmount()

    def doCleanups_before_unmount(self):
        self._cleanups.insert(1, (subprocess.run, (["umount", "-l", str(self.state)],), {"check": False}))

    def fill(self):
        with open(self.state / "filler", "ab", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))

    def free(self):
        (self.state / "filler").unlink()

    def test_a_submit_is_refused_whole_and_work_goes_on(self):
        self.stargate.up()
        self.submit("steady", "for i in 1 2 3 4 5 6 7 8 9 10; do echo tick; sleep 0.2; done; echo done >> done.txt")
        self.stargate.wait_for("steady", "running")
        before = [row["id"] for row in self.stargate.jobs()]
        self.fill()
        status, body = self.ask("POST", "/api/v1/jobs", {"argv": ["true"], "folder": "/"})
        self.assertEqual(status, 507, body)
        self.assertIn("space", body["error"]["remedy"])
        done = self.submit("late", "true", check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, "full")
        done = self.stargate.run("run", "--", "true", check=False, cwd=self.folder)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual([row["id"] for row in self.stargate.jobs()], before, "reads go on, and nothing was kept")
        pid = self.stargate.pid()
        self.free()
        wait_until("submits work again", lambda: self.submit("again", "true", check=False).returncode == 0, 10, 0.2)
        self.assertEqual(self.stargate.wait_for("again", "succeeded")["exit_status"], 0)
        self.assertEqual(self.stargate.wait_for("steady", "succeeded")["exit_status"], 0)
        self.assertEqual(self.lines("done.txt"), ["done"])
        self.assertEqual((self.stargate.pid(), is_alive(pid)), (pid, True))
        self.assertIsNone(self.stargate.job("late"))
        self.assertEqual(self.stargate.run("doctor", "--store").returncode, 0)

    def test_an_end_on_a_full_disk_is_known_once_when_there_is_room(self):
        self.stargate.up()
        self.submit("ends", "echo ran >> ran.txt; sleep 1; exit 3")
        self.submit("ends-too", "echo ran >> ran-too.txt; sleep 1; exit 4")
        for name in ("ends", "ends-too"):
            self.stargate.wait_for(name, "running")
        self.fill()
        time.sleep(1.5)
        self.assertEqual(self.stargate.job("ends")["state"], "running", "an end that is not written is not told")
        self.stargate.kill()
        done = self.stargate.run("up", "--detach", "--cpu-gpus", "4", "--listen", "127.0.0.1:0", check=False)
        self.assert_refused_to_start(done, "full")
        self.free()
        self.stargate.up()
        for name, status in (("ends", 3), ("ends-too", 4)):
            row = self.stargate.wait_for(name, "failed")
            self.assertEqual((row["exit_status"], row["state"]), (status, "failed"))
        self.assertEqual((self.lines("ran.txt"), self.lines("ran-too.txt")), (["ran"], ["ran"]))
        ended = [event for event in self.stargate.events() if event["type"] == "ended"]
        self.assertEqual(len(ended), 2)

    def test_an_end_on_a_full_disk_needs_no_restart(self):
        self.stargate.up()
        self.submit("ends", "sleep 0.7; exit 3")
        self.stargate.wait_for("ends", "running")
        self.fill()
        time.sleep(1.2)
        self.free()
        self.assertEqual(self.stargate.wait_for("ends", "failed", seconds=10)["exit_status"], 3)
        self.assertEqual([event["type"] for event in self.stargate.events()].count("ended"), 1)


class Starting(Machine):
    def start(self, *options):
        return self.stargate.run("up", "--cpu-gpus", "4", *options, check=False, timeout=20)

    def assert_nothing_is_left(self):
        self.assertFalse((self.state / "stargate.pid").exists())
        with open(self.state / "lock", "a", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_a_port_in_use(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = f"127.0.0.1:{taken.getsockname()[1]}"
            for options in (["--detach"], []):
                self.assert_refused_to_start(self.start("--listen", port, *options), port, "in use")
                self.assert_nothing_is_left()
        self.stargate.up()

    def test_an_address_for_others_needs_tls_and_a_token(self):
        for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:7433"):
            self.assert_refused_to_start(self.start("--listen", address, "--detach"), "TLS", "token")
            self.assert_nothing_is_left()
        for address in ("nonsense", "127.0.0.1:70000", "127.0.0.1"):
            done = self.start("--listen", address, "--detach")
            self.assertIn(done.returncode, (1, 2), address)
            self.assertIn("--listen", done.stderr + done.stdout)

    def test_a_state_of_a_newer_version_is_refused_untouched(self):
        self.stargate.up()
        self.stargate.down()
        database = self.state / "stargate.db"
        with contextlib.closing(sqlite3.connect(database)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.commit()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        before = database.read_bytes()
        self.assert_refused_to_start(self.start("--detach"), "newer")
        self.assertEqual(database.read_bytes(), before)
        self.assert_nothing_is_left()

    def test_a_state_that_is_no_database_is_refused_untouched(self):
        self.state.mkdir()
        (self.state / "stargate.db").write_text("something else entirely\n" * 100)
        self.assert_refused_to_start(self.start("--detach"), "stargate.db")
        self.assertEqual((self.state / "stargate.db").read_text(), "something else entirely\n" * 100)

    def test_two_control_planes_on_one_state(self):
        self.stargate.up()
        for options in (["--detach"], []):
            self.assert_refused_to_start(self.start("--listen", "127.0.0.1:0", *options), str(self.stargate.pid()))
        self.assertEqual(self.stargate.run("run", "--", "echo", "still here", cwd=self.folder).stdout, "still here\n")

    def test_a_state_may_hold_other_files(self):
        (self.state / "photos").mkdir(parents=True)
        (self.state / "photos" / "cat.txt").write_text("meow")
        (self.state / "notes.txt").write_text("mine")
        self.stargate.up()
        (self.state / "attempts" / "my notes").mkdir()
        self.stargate.run("run", "--", "true", cwd=self.folder)
        self.stargate.kill()
        self.stargate.up()
        self.stargate.run("run", "--", "true", cwd=self.folder)
        self.assertEqual((self.state / "notes.txt").read_text(), "mine")
        self.assertEqual((self.state / "photos" / "cat.txt").read_text(), "meow")
        self.assertTrue((self.state / "attempts" / "my notes").is_dir())

    def test_an_older_copy_of_the_state_beside_running_work(self):
        self.stargate.up()
        self.submit("first", "true")
        self.stargate.wait_for("first", "succeeded")
        self.submit("queued", "echo queued >> queued.txt", "gpus: 4\n")
        self.stargate.wait_for("queued", "succeeded")
        self.submit("waits", "echo waits >> waits.txt")
        self.stargate.run("hold", "waits", check=False)
        self.stargate.down()
        shutil.copy2(self.state / "stargate.db", self.folder / "older.db")
        self.stargate.up()
        for i in range(3):
            self.submit(f"newer{i}", f"echo newer >> newer{i}.txt; sleep 1100; echo over >> newer{i}.txt")
            self.stargate.wait_for(f"newer{i}", "running")
        foreign = {name: shim_of(self.state, name) for name in self.attempts() if name.isdigit()}
        self.assertEqual(len(foreign), 3)
        self.stargate.kill()
        for extra in ("stargate.db-wal", "stargate.db-shm"):
            (self.state / extra).unlink(missing_ok=True)
        shutil.copy2(self.folder / "older.db", self.state / "stargate.db")
        self.stargate.up()
        self.assertIsNone(self.stargate.job("newer0"))
        # Their ids are taken: the same numbers must not be mistaken for them, nor may they be started again.
        for i in range(5):
            self.submit(f"after{i}", f"echo after >> after{i}.txt; exit {i}")
        for i in range(5):
            row = self.stargate.wait_for(f"after{i}", "failed" if i else "succeeded", seconds=20)
            self.assertEqual(row["exit_status"], i)
            self.assertEqual(self.lines(f"after{i}.txt"), ["after"])
            self.assertEqual(self.stargate.run("logs", f"after{i}").stdout, "")
        for i in range(3):
            self.assertEqual(self.lines(f"newer{i}.txt"), ["newer"])
        for name, shim in foreign.items():
            self.assertEqual(shim_of(self.state, name), shim, "left alone")
        self.stargate.kill()
        self.stargate.down("--jobs")
        wait_until("an operator's word ends what runs here", lambda: not any(map(is_alive, foreign.values())))


@unittest.skipUnless(IS_ROOT and shutil.which("setpriv"), "only root can become somebody else")
class OrdinaryUser(Machine):
    def setUp(self):
        self.folder = scratch_folder("stargate-faults-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        programs = self.folder / "bin"
        programs.mkdir()
        for name in ("stargate", "stargate-shim"):
            shutil.copy2(BINARY.parent / name, programs / name)
        self.home = self.folder / "home"
        self.home.mkdir()
        give_to_job_user(self.home)
        self.state = self.home / "state"
        self.stargate = programs / "stargate"
        self.addCleanup(self.as_user, "down", "--jobs")

    def as_user(self, *words, user=JOB_USER, timeout=30):
        account = pwd.getpwnam(user)
        state = ["--state", str(self.state)]
        return subprocess.run(["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups",
                               "env", "-i", f"HOME={self.home}", f"USER={user}", "PATH=/usr/bin:/bin",
                               str(self.stargate), words[0], *state, *words[1:]], cwd=self.home if user == JOB_USER
                              else "/", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
                              check=False)

    def test_an_ordinary_user_runs_a_control_plane_of_their_own(self):
        done = self.as_user("up", "--detach", "--cpu-gpus", "2", "--listen", "127.0.0.1:0")
        self.assertEqual(done.returncode, 0, done.stderr)
        mode = (self.state / "stargate.sock").stat().st_mode & 0o777
        self.assertEqual(mode, 0o600)
        self.assertEqual((self.state / "token").stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.state.stat().st_mode & 0o777, 0o700)
        account = pwd.getpwnam(JOB_USER)
        done = self.as_user("run", "--", "sh", "-c", "id -u; ls /proc | grep -c '^[0-9]'; pwd; touch mine; exit 6")
        if "sandbox" in done.stderr:
            self.skipTest(f"no user namespaces here: {done.stderr}")
        self.assertEqual(done.returncode, 6, done.stderr)
        uid, processes, where = done.stdout.split()
        self.assertEqual((uid, where), (str(account.pw_uid), str(self.home)))
        self.assertLess(int(processes), 12, "a PID namespace of its own")
        self.assertEqual((self.home / "mine").stat().st_uid, account.pw_uid)
        job = self.home / "bare.yaml"
        job.write_text("kind: batch\nname: bare\nsandbox: none\nrun: ls /proc | grep -c '^[0-9]' > bare.txt\n")
        self.assertEqual(self.as_user("submit", str(job)).returncode, 0, "sandbox: none is the owner's to choose")
        wait_until("it has run", lambda: (self.home / "bare.txt").exists() and (self.home / "bare.txt").read_text())
        self.assertGreater(int((self.home / "bare.txt").read_text()), 3)
        for verb in (["jobs"], ["run", "--", "true"], ["down"]):
            done = self.as_user(*verb, user="nobody")
            self.assertNotEqual((done.returncode, done.stderr), (0, ""), verb)
        self.assertEqual(self.as_user("jobs").returncode, 0, "nobody could not take it down")
        self.assertEqual(self.as_user("down", "--jobs").returncode, 0)


class BadRequests(Machine):
    def job(self, **more):
        return {"argv": ["true"], "folder": str(self.folder), **more}

    def post(self, body, headers=None):
        return self.ask("POST", "/api/v1/jobs", body, headers)

    def assert_error(self, reply, status, *words):
        got, body = reply
        self.assertEqual(got, status, body)
        self.assertTrue({"code", "message", "remedy"} <= body["error"].keys(), body)
        for word in words:
            self.assertIn(word, json.dumps(body))

    def test_what_cannot_be_is_refused_and_nothing_of_it_is_stored(self):
        self.stargate.up()
        # Tenants, classes, quota.
        self.assert_error(self.post(self.job(tenant="nobody/knows")), 422, "tenant")
        status, body = self.ask("PUT", "/api/v1/tenants/lab", {"priorities": ["research"], "weight": 1})
        self.assertEqual(status, 200, body)
        self.assert_error(self.post(self.job(tenant="lab", priority="production")), 403, "class")
        self.assert_error(self.post(self.job(priority="system")), 403, "class")
        self.assert_error(self.post(self.job(priority="urgent")), 422, "priority")
        self.stargate.run("tenants", "set", "poor", "--quota", "0")
        self.assert_error(self.post(self.job(tenant="poor")), 422, "poor", "quota")
        # Commands and folders.
        self.assert_error(self.post(self.job(argv=["no-such-command-here"])), 422, "no-such-command-here")
        self.assert_error(self.post(self.job(argv=["/etc/passwd"])), 422, "/etc/passwd")
        self.assert_error(self.post(self.job(argv=["/etc"])), 422, "/etc")
        self.assert_error(self.post(self.job(argv=[])), 422, "argv")
        self.assert_error(self.post(self.job(argv=[""])), 422, "argv")
        self.assert_error(self.post({"folder": "/"}), 422, "argv")
        self.assert_error(self.post({"argv": ["true"]}), 422, "folder")
        self.assert_error(self.post({"argv": ["true"], "folder": "/no/such/folder"}), 422, "/no/such/folder")
        self.assert_error(self.post({"argv": ["true"], "folder": "/etc/passwd"}), 422, "/etc/passwd")
        if IS_ROOT:
            closed = self.folder / "closed"
            closed.mkdir()
            os.chown(closed, 0, 0)
            closed.chmod(0o700)
            self.assert_error(self.post({"argv": ["true"], "folder": str(closed)}), 422, str(closed))
        # Values.
        for member, value in (("gpus", "-1"), ("gpus", "1e9"), ("gpus", "NaN"), ("gpus", [1]), ("count", 0),
                              ("count", 10**7), ("count", 1.5), ("time", "soon"), ("time", "0s"), ("name", "a b"),
                              ("name", "x" * 300), ("memory", "-1GB"), ("memory", "99999999999999999999GB"),
                              ("sandbox", "perhaps"), ("gpu_type", "quantum"), ("typo", 1), ("after", ["not there"])):
            self.assert_error(self.post(self.job(**{member: value})), 422, member)
        # Bodies.
        self.assert_error(self.post(""), 422)
        self.assert_error(self.post("[]"), 422)
        self.assert_error(self.post("nonsense"), 422)
        self.assert_error(self.post('{"argv": ["true"], "folder": "/"'), 422)
        self.assert_error(self.post("[" * 100_000), 422)
        self.assert_error(self.post('{"env":' * 5000 + "1" + "}" * 5000), 422)
        self.assert_error(self.post(b'{"argv": ["tr\xffue"], "folder": "/"}'), 422, "UTF-8")
        self.assert_error(self.post(b'{"argv": ["true\\u0000"], "folder": "/"}'), 422, "NUL")
        self.assert_error(self.post(self.job(yaml="kind: batch\n" + "a: " * 50_000)), 422)
        self.assert_error(self.post({"yaml": "[" * 50_000, "folder": "/"}), 422)
        bomb = "a: &a [x,x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)},*{chr(97 + i)}]\n"
                                        for i in range(24))
        self.assert_error(self.post({"yaml": bomb, "folder": "/"}), 422)
        self.assertEqual(self.stargate.jobs(), [], "nothing of it is stored")
        # It is not shaken.
        self.assertEqual(self.stargate.run("run", "--", "echo", "well", cwd=self.folder).stdout, "well\n")

    def test_bodies_over_the_limit(self):
        self.stargate.up()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.assert_error(self.post(self.job(env={"A": "x" * (1 << 20)})), 413, "1 MiB")
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(20)
            peer.connect(str(self.state / "stargate.sock"))
            peer.sendall(b"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n")
            self.assertIn(b" 413 ", peer.recv(4096))
        for text in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
                     b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
                     b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
                     b"GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(20)
                peer.connect(str(self.state / "stargate.sock"))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    peer.sendall(text)
                    self.assertRegex(peer.recv(4096), rb"^HTTP/1.1 4", text[:60])
        self.assertEqual(self.ask("GET", "/api/v1/info")[0], 200)

    def test_routes_keys_and_unknown_jobs(self):
        self.stargate.up()
        self.assert_error(self.ask("GET", "/api/v1/nonsense"), 404)
        self.assert_error(self.ask("GET", "/"), 404)
        self.assertIn(self.ask("DELETE", "/api/v1/jobs")[0], (404, 405))
        self.assertIn(self.ask("PUT", "/api/v1/jobs/1/cancel")[0], (404, 405))
        for target in ("/api/v1/jobs/777", "/api/v1/jobs/-1", "/api/v1/jobs/99999999999999999999999",
                       "/api/v1/jobs/no-such", "/api/v1/jobs/777/why", "/api/v1/jobs/777/logs"):
            self.assert_error(self.ask("GET", target), 404)
        self.assert_error(self.ask("POST", "/api/v1/jobs/777/cancel"), 404)
        first = self.post(self.job(held=True), {"Idempotency-Key": "once"})
        again = self.post(self.job(held=True), {"Idempotency-Key": "once"})
        self.assertEqual((first[0], first[1]["id"]), (201, again[1]["id"]))
        self.assert_error(self.post(self.job(held=True, name="other"), {"Idempotency-Key": "once"}), 409, "key")
        self.assert_error(self.post(self.job(held=True), {"Idempotency-Key": "k" * 300}), 422, "Idempotency-Key")
        self.assertEqual(len(self.stargate.jobs()), 1)
        self.assert_error(self.ask("POST", f"/api/v1/jobs/{first[1]['id']}/resize", {"gpus": -3}), 422, "gpus")

    def test_the_loopback_is_for_holders_of_a_token(self):
        self.stargate.up()
        ports = listening_ports(self.stargate.pid())
        self.assertEqual(len(ports), 1)
        token = (self.state / "token").read_text().strip()
        bearer = {"Authorization": f"Bearer {token}"}
        ask = lambda headers, target="/api/v1/jobs": self.ask("GET", target, None, headers, ports[0])  # noqa: E731
        for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {token}x"},
                        {"Authorization": f"Bearer {token[:-1]}"}, {"Authorization": f"Basic {token}"}):
            for target in ("/api/v1/jobs", "/metrics", "/api/v1/events", "/api/v1/nonsense"):
                self.assert_error(ask(headers, target), 401, "token")
        self.assertEqual(ask(bearer)[0], 200)
        for headers in ({"Host": "evil.example"}, {"Host": "127.0.0.1.evil.example"}, {"Host": "localhost.evil:80"},
                        {"Origin": "http://evil.example"}, {"Origin": "null"},
                        {"Origin": "http://127.0.0.1.evil.example"}):
            self.assert_error(ask({**bearer, **headers}), 403)
        self.assertEqual(ask({**bearer, "Host": f"localhost:{ports[0]}"})[0], 200)


class Work(Machine):
    def test_a_killed_shim_is_an_infrastructure_failure_that_is_retried(self):
        self.stargate.up()
        self.submit("victim", "echo $$ >> started.txt; exec sleep 1200", "retries: 1\n")
        first = self.stargate.wait_for("victim", "running")["attempt"]
        wait_until("the rank runs", lambda: len(self.lines("started.txt")) == 1)
        shim = shim_of(self.state, first)
        ranks = [int(pid) for pid in subprocess.run(["pgrep", "-f", "sleep 1200"], capture_output=True, text=True,
                                                    check=False).stdout.split()]
        self.assertTrue(ranks)
        os.kill(shim, signal.SIGKILL)
        wait_until("its ranks die with it", lambda: not any(map(is_alive, ranks)), 5)
        row = wait_until("it runs again", lambda: (row := self.stargate.job("victim"))["state"] == "running" and
                         row["attempt"] != first and row, 15)
        wait_until("the rank runs", lambda: len(self.lines("started.txt")) == 2)
        os.kill(shim_of(self.state, row["attempt"]), signal.SIGKILL)
        row = self.stargate.wait_for("victim", "failed", seconds=10)
        self.assertNotEqual(row["exit_status"], 0)
        self.assertEqual(len(self.lines("started.txt")), 2, "at most `retries` times again")
        self.assertIn("infrastructure", json.dumps(self.stargate.json("show", "victim")))

    def test_a_killed_shim_without_a_sandbox_takes_its_ranks_along(self):
        self.stargate.up()
        self.submit("bare", "echo x >> bare.txt; sleep 1201", "retries: 0\nsandbox: none\n")
        attempt = self.stargate.wait_for("bare", "running")["attempt"]
        wait_until("the rank runs", lambda: self.lines("bare.txt"))
        ranks = [int(pid) for pid in subprocess.run(["pgrep", "-f", "sleep 1201"], capture_output=True, text=True,
                                                    check=False).stdout.split()]
        os.kill(shim_of(self.state, attempt), signal.SIGKILL)
        self.stargate.wait_for("bare", "failed", seconds=10)
        wait_until("its ranks die with it", lambda: not any(map(is_alive, ranks)), 5)

    def test_run_outlives_the_control_plane(self):
        self.stargate.up()
        command = [str(BINARY), "run", "--state", str(self.state), "--", "sh", "-c",
                   "echo ran >> ran.txt; for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.2; done; echo last >&2; exit 5"]
        with subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as client:
            self.assertEqual(client.stdout.readline(), "1\n")
            for _ in range(2):
                self.stargate.kill()
                time.sleep(0.2)
                self.stargate.up()
                time.sleep(0.1)
            out, errors = client.communicate(timeout=30)
        self.assertEqual((out.split(), errors, client.returncode), ([str(i) for i in range(2, 9)], "last\n", 5))
        self.assertEqual(self.lines("ran.txt"), ["ran"])
        self.assertEqual(len(self.stargate.jobs()), 1)

    def test_an_interrupt_cancels_the_job(self):
        self.stargate.up()
        command = [str(BINARY), "run", "--state", str(self.state), "--", "sh", "-c", "echo on; exec sleep 1300"]
        with subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as client:
            self.assertEqual(client.stdout.readline(), "on\n")
            client.send_signal(signal.SIGINT)
            client.communicate(timeout=20)
        self.assertNotEqual(client.returncode, 0)
        row = self.stargate.jobs()[0]
        self.assertEqual(row["state"], "cancelled")
        self.assertEqual(subprocess.run(["pgrep", "-f", "sleep 1300"], capture_output=True, check=False).stdout, b"")

    def test_many_short_jobs_leave_nothing_behind(self):
        self.stargate.up()
        self.submit("many", "true", "count: 200\nsandbox: none\n")
        wait_until("all have ended", lambda: not self.stargate.json("jobs", "--active"), 30, 0.1)
        rows = self.stargate.jobs()
        self.assertEqual([row["state"] for row in rows], ["succeeded"] * 200)
        wait_until("their folders are forgotten", lambda: not self.attempts(), 10)
        mine = subprocess.run(["pgrep", "-P", str(self.stargate.pid()), "stargate-shim"], capture_output=True,
                              text=True, check=False).stdout
        self.assertEqual(mine, "", "no shim is left")
        self.assertEqual(len([event for event in self.stargate.events() if event["type"] == "ended"]), 200)


if __name__ == "__main__":
    unittest.main(verbosity=2)
