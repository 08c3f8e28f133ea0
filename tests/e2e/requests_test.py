#!/usr/bin/python3
"""Requests, good and bad, to the real binary: acknowledged means synced, and a bad one is one clear error."""

import contextlib
import json
import os
import pty
import re
import shutil
import socket
import subprocess
import tempfile
import unittest

from machine import IS_ROOT, Machine, listening_ports
from harness import BINARY, give_to_job_user


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

    def test_the_command_line_says_what_is_too_large(self):
        self.stargate.up()
        file = self.folder / "large.yaml"
        for size in (300_000, 30_000_000):
            file.write_text("kind: batch\nname: large\nrun: 'true'\nenv: {A: " + "x" * size + "}\n")
            done = self.stargate.run("submit", str(file), check=False)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertRegex(done.stderr, r"large\.yaml:\d+: .*larger than 256 KiB")
        done = self.stargate.run("run", "--", "true", *["x" * 100_000] * 12, check=False, cwd=self.folder)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("1 MiB", done.stderr)
        self.assertEqual(self.stargate.jobs(), [])

    def test_routes_keys_and_unknown_jobs(self):
        self.stargate.up()
        self.assert_error(self.ask("GET", "/api/v1/nonsense"), 404)
        self.assert_error(self.ask("GET", "/index.html"), 404)
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

    def test_of_a_variable_that_the_environment_holds_twice_the_first_is_sent(self):
        class Twice(dict):
            def items(self):
                return [*super().items(), ("WORD", "first"), ("WORD", "second")]
        self.stargate.up()
        done = self.stargate.run("run", "--", "true", cwd=self.folder, env=Twice(os.environ), check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        if not IS_ROOT:  # root's jobs run as another user, with that one's environment
            told = self.stargate.run("run", "--", "printenv", "WORD", cwd=self.folder, env=Twice(os.environ))
            self.assertEqual(told.stdout, "first\n")
        self.assert_error(self.post('{"argv": ["true"], "folder": "/", "gpus": 1, "gpus": 2}'), 400, "gpus")

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


class JobFiles(Machine):
    """What `submit` takes in the place of a file."""

    def hand_in(self, path, **keywords):
        """Runs `submit PATH` in our folder, whatever its standard input is."""
        command = [str(BINARY), "submit", "--state", str(self.state), "-o", "name", path]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False, **keywords)

    def text(self, name, more=""):
        return f"kind: batch\nname: {name}\n{more}run: pwd\n"

    def assert_ran_in_our_folder(self, done, name):
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, f"{name}\n", ""))
        self.stargate.wait_for(name, "succeeded")
        self.assertEqual(self.stargate.run("logs", name).stdout.strip(), str(self.folder))

    def test_it_may_come_through_a_pipe_and_starts_in_the_callers_folder(self):
        self.stargate.up()
        self.assert_ran_in_our_folder(self.hand_in("-", input=self.text("dash")), "dash")
        self.assert_ran_in_our_folder(self.hand_in("/dev/stdin", input=self.text("stdin")), "stdin")
        read, write = os.pipe()
        os.write(write, self.text("substituted").encode())
        os.close(write)
        self.assert_ran_in_our_folder(self.hand_in(f"/dev/fd/{read}", pass_fds=[read]), "substituted")
        os.close(read)
        named = self.folder / "named"
        os.mkfifo(named)
        with subprocess.Popen(["sh", "-c", 'printf %s "$1" > "$2"', "sh", self.text("fifo"), str(named)]):
            self.assert_ran_in_our_folder(self.hand_in(str(named)), "fifo")
        with tempfile.TemporaryFile("w+") as gone:  # as the shell's here-documents
            gone.write(self.text("unlinked"))
            gone.seek(0)
            self.assert_ran_in_our_folder(self.hand_in("/dev/stdin", stdin=gone), "unlinked")

    def test_a_file_as_standard_input_has_a_folder_only_where_it_is_named(self):
        self.stargate.up()
        folder = self.folder / "its own"
        folder.mkdir()
        (folder / "job.yaml").write_text(self.text("own"))
        give_to_job_user(folder)
        with open(folder / "job.yaml", encoding="utf-8") as file:
            self.assertEqual(self.hand_in("/dev/stdin", stdin=file).returncode, 0)
            self.stargate.wait_for("own", "succeeded")
            self.assertEqual(self.stargate.run("logs", "own").stdout.strip(), str(folder))
            file.seek(0)
            self.assert_ran_in_our_folder(self.hand_in("-", stdin=file), "own")

    def test_what_is_wrong_with_it_names_it_as_it_was_given(self):
        self.stargate.up()
        for path, name in (("-", "standard input"), ("/dev/stdin", "/dev/stdin")):
            done = self.hand_in(path, input=self.text("x", "gpus: many\n"))
            self.assertEqual((done.returncode, done.stderr[:len(name) + 9]), (2, f"{name}:3: gpus:"), done.stderr)
            done = self.hand_in(path, input="# " + "x" * (300 << 10))
            self.assertEqual(done.returncode, 2)
            self.assertTrue(done.stderr.startswith(f"{name}:1: file: larger than 256 KiB"), done.stderr)
        done = self.hand_in("-", input="")
        self.assertEqual((done.returncode, done.stderr[:29]), (2, "standard input:1: file: holds"), done.stderr)
        done = self.hand_in("-", preexec_fn=lambda: os.close(0))
        self.assertEqual((done.returncode, done.stderr),
                         (2, "stargate: standard input: cannot be read: Bad file descriptor; name a job file\n"))
        done = self.hand_in("nowhere.yaml")
        self.assertEqual((done.returncode, done.stderr),
                         (2, "stargate: nowhere.yaml: cannot be read: No such file or directory; name a job file\n"))
        self.assertEqual(self.stargate.jobs(), [])

    def test_of_a_terminal_it_says_that_it_waits_for_it(self):
        self.stargate.up()
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        command = [str(BINARY), "submit", "--state", str(self.state), "-o", "name", "-"]
        with subprocess.Popen(command, cwd=self.folder, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True) as client:
            os.close(theirs)
            self.addCleanup(client.kill)
            self.assertIn("reading the job file from the terminal", client.stderr.readline())
            os.write(ours, self.text("typed").encode() + b"\x04")
            out, _ = client.communicate(timeout=30)
        self.assertEqual((client.returncode, out), (0, "typed\n"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
