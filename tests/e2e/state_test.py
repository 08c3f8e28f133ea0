#!/usr/bin/python3
"""The state folder on the real binary: who may write in it, what a detached control plane keeps of its caller, how the
log stays small, and what `down --jobs` leaves alone."""

import contextlib
import os
import pathlib
import re
import shlex
import socket
import sqlite3
import subprocess
import unittest

import machine
from harness import ANY_PORTS, BINARY, give_to_job_user, is_alive, wait_until


class Machine(machine.Machine):
    def doctor(self):
        return self.stargate.run("doctor", "--store").stdout


class Folder(Machine):
    def test_a_folder_that_others_can_write_in_is_refused(self):
        self.state.mkdir()
        for mode in (0o777, 0o775):
            self.state.chmod(mode)
            done = self.stargate.run("up", "--detach", *ANY_PORTS, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("chmod go-w", done.stderr)
            self.assertEqual(list(self.state.iterdir()), [])
        self.state.chmod(0o711)
        self.stargate.up()

    @unittest.skipUnless(os.geteuid() == 0, "giving a folder away needs root")
    def test_a_folder_of_somebody_else_is_refused(self):
        self.state.mkdir()
        give_to_job_user(self.state)
        done = self.stargate.run("up", "--detach", *ANY_PORTS, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("belongs to user", done.stderr)

    def test_a_link_in_the_place_of_a_file_is_not_followed(self):
        self.state.mkdir(mode=0o711)
        precious = self.folder / "precious"
        precious.write_text("keep me\n")
        (self.state / "stargate.log").symlink_to(precious)
        done = self.stargate.run("up", "--detach", *ANY_PORTS, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot open", done.stderr)
        self.assertEqual(precious.read_text(), "keep me\n")

    def test_a_detached_control_plane_keeps_nothing_of_its_caller(self):
        read_end, write_end = os.pipe()
        try:
            command = [str(BINARY), "up", "--state", "state", "--detach", *ANY_PORTS]
            subprocess.run(command, cwd=self.folder, pass_fds=(read_end, write_end), stdout=subprocess.DEVNULL, check=True,
                           timeout=60)
            pid = self.stargate.pid()
            self.assertEqual(os.readlink(f"/proc/{pid}/cwd"), "/")
            ours = os.readlink(f"/proc/self/fd/{write_end}")
            theirs = [os.readlink(link) for link in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
            self.assertNotIn(ours, theirs)
        finally:
            os.close(read_end)
            os.close(write_end)
        self.stargate.run("run", "--", "true")

    def test_a_caller_may_have_closed_the_standard_descriptors(self):
        command = f"exec {BINARY} up --state {self.state} --detach --listen 127.0.0.1:0 --gateway 127.0.0.1:0 <&- >&- 2>&-"
        self.assertEqual(subprocess.run(["sh", "-c", command], timeout=60, check=False).returncode, 0)
        self.assertEqual(os.readlink(f"/proc/{self.stargate.pid()}/fd/0"), "/dev/null")
        self.stargate.run("run", "--", "true")

    def test_up_says_where_it_is_and_notes_the_port_that_it_was_given(self):
        said = self.stargate.up().stdout
        address = (self.state / "stargate.address").read_text().strip()
        for word in (str(self.state), address, str(self.stargate.pid()), f"stargate down --state {self.state}"):
            self.assertIn(word, said)
        with socket.create_connection((address.split(":")[0], int(address.split(":")[1])), timeout=20) as peer:
            peer.sendall(b"GET /healthz HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
            self.assertIn(b" 200 ", peer.recv(100))
        self.stargate.down()
        self.assertFalse((self.state / "stargate.address").exists())

    def test_what_is_to_be_typed_is_quoted_where_the_folder_has_a_space(self):
        self.stargate.state = self.state = self.folder / "my state"
        line = next(line for line in self.stargate.up().stdout.splitlines() if "stargate down" in line)
        self.assertEqual(shlex.split(line), ["stargate", "down", "--state", str(self.state)])
        self.stargate.down()
        said = self.stargate.run("jobs", check=False).stderr
        self.assertEqual(shlex.split(said.split("start it with: ")[1])[-1], str(self.state))

    @unittest.skipUnless(os.geteuid() == 0, "only root's jobs need an account of their own")
    def test_an_account_for_roots_jobs_that_is_not_there_is_refused_at_once(self):
        for name, word in (("no-such-account", "useradd"), ("root", "another account"), ("0", "another account"),
                           ("4242424", "uid 4242424")):
            done = self.stargate.run("up", "--detach", *ANY_PORTS, "--job-user", name, check=False)
            self.assert_refused_to_start(done, f"--job-user {name}", word, status=2)
        self.assertFalse((self.state / "stargate.db").exists())

    def test_a_port_in_use_is_found_before_anything_is_changed(self):
        self.stargate.up()
        self.stargate.down()
        term = re.search(r"term (\d+)", self.doctor()).group(1)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            done = self.stargate.run("up", "--detach", "--listen", f"127.0.0.1:{port}", "--gateway", "127.0.0.1:0",
                                     check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("choose another port", done.stderr)
        self.assertEqual(re.search(r"term (\d+)", self.doctor()).group(1), term, "no office was taken")


class Damage(Machine):
    def test_whoever_finds_it_says_where_it_is_and_what_to_do(self):
        self.stargate.up()
        self.stargate.run("run", "--", "true", cwd=self.folder)
        self.stargate.down()
        whole = (self.state / "stargate.db").read_bytes()

        def altered(sql):
            (self.state / "stargate.db").write_bytes(whole)
            with contextlib.closing(sqlite3.connect(self.state / "stargate.db")) as database:
                database.execute(sql)
                database.commit()

        def cut():
            (self.state / "stargate.db").write_bytes(whole[:len(whole) // 2])

        remedy = "; stop the control plane, keep a copy of the folder, and put back the newest copy from before\n"
        for damage in (cut, lambda: altered("UPDATE facts SET checksum = 1 WHERE seq = 3"),
                       lambda: altered("DELETE FROM facts WHERE seq = 3"), lambda: altered("DELETE FROM store")):
            damage()
            said = [self.stargate.run("up", *ANY_PORTS, check=False, timeout=20),
                    self.stargate.run("up", "--detach", *ANY_PORTS, check=False),
                    subprocess.run([str(BINARY), "twin", "replay", str(self.state)], capture_output=True, text=True,
                                   timeout=60, check=False)]
            for done in said:
                self.assert_refused_to_start(done, f"stargate: the store in {self.state}: ", remedy)
                self.assertEqual(done.stderr.count("; "), 1, done.stderr)
            found = self.stargate.run("doctor", "--store", check=False)
            self.assertEqual(found.returncode, 1)
            for line in found.stdout.splitlines(keepends=True):
                self.assertTrue(line.startswith("BAD ") and line.endswith(remedy), line)
                self.assertEqual(line.count("; "), 1, line)


class Down(Machine):
    def test_it_does_not_wait_for_an_answer_of_one_that_is_gone(self):
        self.state.mkdir()
        with socket.socket(socket.AF_UNIX) as server, subprocess.Popen(["sleep", "2.2"]) as going:
            server.bind(str(self.state / "stargate.sock"))
            server.listen()
            body = b'{"pid":%d,"running":0}' % going.pid
            with subprocess.Popen([str(BINARY), "down", "--state", str(self.state)], stdout=subprocess.PIPE,
                                  text=True) as client:
                self.addCleanup(client.kill)
                link = server.accept()[0]
                with link:
                    link.recv(64 << 10)
                    link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                going.wait()
                try:
                    out = client.communicate(timeout=5)[0]
                finally:
                    client.kill()
        self.assertEqual((client.returncode, out), (0, "the control plane is down; nothing was running\n"))

    def downs_at_once(self, *words):
        pid = self.stargate.pid()
        downs = [subprocess.Popen([str(BINARY), "down", "--state", str(self.state), *words], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True) for _ in range(4)]
        for each in downs:
            out, err = each.communicate(timeout=60)
            self.assertEqual(each.returncode, 0, out + err)
            self.assertFalse(is_alive(pid), "it is down when any of them says so")

    def test_of_several_at_once_all_succeed(self):
        for words in ((), ("--jobs",), ()):
            self.stargate.up()
            self.downs_at_once(*words)

    def test_of_several_at_once_that_end_jobs_without_a_control_plane_all_succeed(self):
        self.stargate.up()
        self.submit("saves", "trap 'sleep 3; exit 0' TERM; echo ready; while :; do sleep 0.05; done",
                    "checkpoint: {grace: 30s}\n")
        wait_until("it has begun", lambda: "ready" in self.stargate.run("logs", "saves", check=False).stdout)
        self.stargate.kill()
        self.downs_at_once("--jobs")
        self.assertEqual([each.name for each in (self.state / "attempts").glob("[0-9]*")], ["1"])
        self.stargate.up()
        self.assertEqual(self.stargate.wait_for("saves", "cancelled")["state"], "cancelled")

    def test_with_jobs_it_starts_nothing_of_the_queue_and_leaves_a_drain_alone(self):
        self.stargate.up()
        node = self.stargate.json("fleet")[0]["name"]
        self.submit("runs", "sleep 1000", "gpus: 4\n")
        self.submit("waits", "touch started.txt", "gpus: 4\n")
        pid = self.stargate.pid()
        self.stargate.wait_for("runs", "running")
        self.stargate.run("drain", node)
        done = self.stargate.down("--jobs")
        self.assertIn("1 running job was ended: runs", done.stdout)
        wait_until("it is gone", lambda: not is_alive(pid))
        self.assertEqual([each.name for each in (self.state / "attempts").glob("[0-9]*")], [])
        self.stargate.up()
        self.assertEqual(self.stargate.job("runs")["state"], "cancelled")
        self.assertEqual(self.stargate.job("waits")["state"], "waiting")
        self.stargate.run("undrain", node)
        self.stargate.wait_for("waits", "succeeded")


class Log(Machine):
    def setUp(self):
        super().setUp()
        self.stargate.options = ["--snapshot-every", "300", "--keep-segments", "3"]

    def first_fact(self):
        return int(re.search(r"facts from (\d+) on", self.doctor()).group(1))

    def test_it_is_trimmed_and_still_recovers_replays_and_is_sound(self):
        self.stargate.up()
        for batch in range(4):
            self.submit(f"many{batch}", "true", "count: 150\nsandbox: none\n")
            wait_until("all have ended", lambda: not self.stargate.json("jobs", "--active"), 120, 0.1)
        wait_until("old rows have gone", lambda: self.first_fact() > 900, 60, 0.2)
        wait_until("old segments have gone", lambda: len(list((self.state / "segments").iterdir())) <= 3, 60)
        first = 0

        def stands_still():
            nonlocal first
            before, first = first, self.first_fact()
            return before == first

        wait_until("nothing more is trimmed", stands_still, 60, 1)
        self.assertGreater(first, 900)
        said = self.stargate.run("events", "--from", "7", "-o", "jsonl").stderr
        self.assertIn(f"facts 7 to {first - 1} are no longer in the log", said)
        self.assertEqual(self.stargate.run("events", "--from", str(first)).stderr, "")
        self.stargate.kill()
        self.stargate.up()
        rows = self.stargate.jobs()
        self.assertEqual([row["state"] for row in rows], ["succeeded"] * 600)
        self.assertNotIn("BAD", self.doctor())
        replayed = subprocess.run([str(BINARY), "twin", "replay", str(self.state)], capture_output=True, text=True,
                                  timeout=120, check=False)
        self.assertEqual(replayed.returncode, 0, replayed.stdout + replayed.stderr)
        self.assertIn("no difference", replayed.stdout)

    def test_an_altered_segment_is_found(self):
        self.stargate.up()
        for batch in range(3):
            self.submit(f"many{batch}", "true", "count: 100\nsandbox: none\n")
            wait_until("all have ended", lambda: not self.stargate.json("jobs", "--active"), 120, 0.1)
        wait_until("a segment is sealed", lambda: self.first_fact() > 1, 60, 0.2)
        self.stargate.down()
        segment = sorted((self.state / "segments").glob("*.segment"))[0]
        content = bytearray(segment.read_bytes())
        content[len(content) // 2] ^= 1
        segment.write_bytes(content)
        done = self.stargate.run("doctor", "--store", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("is damaged", done.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
