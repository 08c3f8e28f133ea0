#!/usr/bin/python3
"""A bad world around the real binary with real processes: full disks, wall clocks that jump, taken ports, older and newer
states, killed processes. Each ends in one clear error or in safety."""

import contextlib
import fcntl
import itertools
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time
import unittest

from machine import IS_ROOT, Machine, living, shim_of
from harness import (ANY_PORTS, BINARY, JOB_USER, give_to_job_user, is_alive, scratch_folder,  # found by way of machine
                     shims_of, wait_until)

FAKETIME = [str(path) for path in pathlib.Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]


@unittest.skipUnless(IS_ROOT, "a file system of our own needs root")
class FullDisk(Machine):
    def setUp(self):
        super().setUp()
        self.numbers = itertools.count()
        self.state.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0711", "none", str(self.state)],
                                 capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            self.skipTest(f"no file system can be mounted here: {mounted.stderr.strip()}")
        self.doCleanups_before_unmount()

    def doCleanups_before_unmount(self):
        self._cleanups.insert(1, (subprocess.run, (["umount", "-l", str(self.state)],), {"check": False}))

    def use_up(self):
        """Fills the disk and has the control plane use up what it keeps back for ends, too."""
        self.fill()
        wait_until("nothing can be written any more", lambda: self.ask(
            "PUT", f"/api/v1/tenants/t{next(self.numbers)}", {})[0] == 507, 20, 0)

    def fill(self):
        with open(self.state / "filler", "ab", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))

    def room(self):
        disk = os.statvfs(self.state)
        return disk.f_bavail * disk.f_frsize

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

    def test_a_snapshot_that_finds_no_room_ends_nobody(self):
        # What it says of it goes to a log on the same disk.
        self.stargate.options += ["--snapshot-every", "10"]
        self.stargate.up()
        pid = self.stargate.pid()
        for i in range(8):
            self.submit(f"j{i}", "until [ -e over ]; do sleep 0.1; done; echo done >> done.txt", "gpus: 0\n")
        wait_until("all run", lambda: {row["state"] for row in self.stargate.jobs()} == {"running"}, 20, 0.1)
        self.fill()
        (self.folder / "over").touch()
        wait_until("all have ended", lambda: {row["state"] for row in self.stargate.jobs()} == {"succeeded"}, 40, 0.2)
        self.assertEqual((self.stargate.pid(), is_alive(pid)), (pid, True))
        self.free()
        self.assertEqual(self.lines("done.txt"), ["done"] * 8)

    def test_why_names_the_full_disk_to_what_could_start(self):
        self.stargate.up()
        self.submit("runs", "until [ -e over ]; do sleep 0.1; done", "gpus: 4\n")
        self.stargate.wait_for("runs", "running")
        self.submit("waits", "true")
        self.use_up()
        self.assertIn("the disk that holds the state folder is full", self.stargate.run("why", "waits").stdout)
        self.free()
        (self.folder / "over").touch()
        self.stargate.wait_for("waits", "succeeded")
        self.assertEqual(self.stargate.run("doctor", "--store").returncode, 0)

    def test_a_job_that_fills_the_disk_of_the_state_ends_and_is_cancelled_as_any_other(self):
        self.stargate.up()
        self.submit("ends", "sleep 1; exit 3")
        self.submit("fills", "yes 'something that nobody wants to read'")
        for name in ("ends", "fills"):
            self.stargate.wait_for(name, "running")
        wait_until("the disk is full", lambda: self.room() < 64 << 10, 20)
        self.assertEqual(self.stargate.wait_for("ends", "failed")["exit_status"], 3)
        wait_until("nothing new is taken", lambda: self.submit("late", "true", check=False).returncode == 1, 10)
        done = self.submit("late", "true", check=False)
        for words in (str(self.state), "full", "free some space", str(self.state / "logs")):
            self.assertIn(words, done.stderr)
        doctor = self.stargate.run("doctor", check=False)
        self.assertEqual(doctor.returncode, 1)
        self.assertIn(f"BAD  the disk that holds the state folder {self.state} is full", doctor.stdout)
        self.assertEqual(self.stargate.run("cancel", "fills").returncode, 0)
        self.stargate.wait_for("fills", "cancelled")
        output = self.stargate.run("logs", "fills").stdout + self.stargate.run("logs", "fills").stderr
        self.assertLessEqual(output.count("bytes of output were lost"), 2, "not one note for each try")
        for log in (self.state / "logs").iterdir():
            log.unlink()
        wait_until("new work is taken", lambda: self.submit("again", "true", check=False).returncode == 0, 10, 0.2)
        self.stargate.wait_for("again", "succeeded")
        self.assertEqual(self.stargate.run("doctor").returncode, 0)

    def test_what_waits_on_a_full_disk_says_so(self):
        self.stargate.up()
        command = [str(BINARY), "run", "--state", str(self.state), "--", "sh", "-c", "sleep 2; exit 6"]
        with subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as client:
            wait_until("it runs", lambda: self.stargate.json("jobs", "--active"))
            self.use_up()
            self.assertIn(f"the disk that holds the state folder {self.state} is full", client.stderr.readline())
            self.assertIsNone(client.poll(), "its end cannot be written")
            self.free()
            out, errors = client.communicate(timeout=20)
        self.assertEqual((client.returncode, out, errors), (6, "", ""))
        wait_until("new work is taken", lambda: self.submit("stays", "sleep 1600", check=False).returncode == 0, 10)
        self.stargate.wait_for("stays", "running")
        self.use_up()
        command = [str(BINARY), "down", "--jobs", "--state", str(self.state)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
            self.assertIn(f"the disk that holds the state folder {self.state} is full", client.stderr.readline())
            self.free()
            client.communicate(timeout=20)
        self.assertEqual(client.returncode, 0)

    def test_a_start_on_a_full_disk_names_it_and_what_to_do(self):
        self.stargate.up()
        self.stargate.down()
        self.fill()
        for options in (["--detach"], []):
            done = self.stargate.run("up", "--cpu-gpus", "4", *ANY_PORTS, *options, check=False,
                                     timeout=20)
            self.assert_refused_to_start(done, "full", str(self.state), "free some space")
            self.assertNotIn("SQLite", done.stderr)
        done = self.stargate.run("doctor", check=False)
        self.assertIn("is full; free some space", done.stdout)
        self.assertNotIn("restore", done.stdout, "the store is not damaged")
        self.free()
        self.stargate.up()

    def test_an_end_on_a_full_disk_is_known_once_when_there_is_room(self):
        self.stargate.up()
        self.submit("ends", "echo ran >> ran.txt; sleep 2; exit 3")
        self.submit("ends-too", "echo ran >> ran-too.txt; sleep 2; exit 4")
        for name in ("ends", "ends-too"):
            self.stargate.wait_for(name, "running")
        self.use_up()
        time.sleep(2.5)
        self.assertEqual(self.stargate.job("ends")["state"], "running", "an end that is not written is not told")
        self.stargate.kill()
        done = self.stargate.run("up", "--detach", "--cpu-gpus", "4", *ANY_PORTS, check=False)
        self.assert_refused_to_start(done, "full")
        self.free()
        self.stargate.up()
        for name, status in (("ends", 3), ("ends-too", 4)):
            row = self.stargate.wait_for(name, "failed")
            self.assertEqual((row["exit_status"], row["state"]), (status, "failed"))
        self.assertEqual((self.lines("ran.txt"), self.lines("ran-too.txt")), (["ran"], ["ran"]))
        ended = [event for event in self.stargate.events() if event["type"] == "ended"]
        self.assertEqual(len(ended), 2)

    def test_jobs_that_start_while_the_disk_fills_and_empties_run_once_each(self):
        self.stargate.up()
        over = threading.Event()

        def fill_and_free():
            while not over.wait(1.3):
                self.fill()
                over.wait(0.3)
                self.free()
        disk = threading.Thread(target=fill_and_free)
        disk.start()
        accepted = []
        try:
            for i in range(60):
                # One after another, so that some start while the disk is full.
                text = (f"kind: batch\nname: once{i}\ngpus: 4\nranks: per_node\nretries: 20\n"
                        f"run: echo $STARGATE_ATTEMPT >> once{i}.txt; sleep 0.05\n")
                status, reply = self.ask("POST", "/api/v1/jobs", {"yaml": text, "file": "once.yaml", "folder": str(self.folder)})
                self.assertIn(status, (201, 507), reply)
                if status == 201:
                    accepted.append(i)
                time.sleep(0.1)
        finally:
            over.set()
            disk.join()
        self.assertGreater(len(accepted), 10)
        self.assertLess(len(accepted), 60, "the disk was full now and then")
        wait_until("all are over", lambda: not self.stargate.json("jobs", "--active"), 60, 0.1)
        states = {row["name"]: row["state"] for row in self.stargate.jobs()}
        self.assertEqual(states, {f"once{i}": "succeeded" for i in accepted})
        for i in range(60):
            self.assertEqual(len(self.lines(f"once{i}.txt")), i in accepted, i)
        wait_until("their folders are forgotten", lambda: not self.attempts(), 10)
        self.assertEqual(self.stargate.run("doctor", "--store").returncode, 0)

    def test_an_end_on_a_full_disk_needs_no_restart(self):
        self.stargate.up()
        self.submit("ends", "sleep 1.5; exit 3")
        self.stargate.wait_for("ends", "running")
        self.use_up()
        time.sleep(2)
        self.free()
        self.assertEqual(self.stargate.wait_for("ends", "failed", seconds=10)["exit_status"], 3)
        self.assertEqual([event["type"] for event in self.stargate.events()].count("ended"), 1)


@unittest.skipUnless(FAKETIME, "libfaketime is not installed")
class WallClock(Machine):
    def jump(self, by):
        """Sets the wall clock of the running control plane apart from the machine's; the monotonic ones go on."""
        replacement = self.folder / "wall.new"
        replacement.write_text(by + "\n")
        replacement.rename(self.folder / "wall")

    def up(self):
        self.stargate.up(env=dict(os.environ, LD_PRELOAD=FAKETIME[0], FAKETIME_TIMESTAMP_FILE=str(self.folder / "wall"),
                                  FAKETIME_NO_CACHE="1", FAKETIME_DONT_FAKE_MONOTONIC="1", FAKETIME_DONT_RESET="1"))

    def test_a_wall_clock_that_jumps_a_year_both_ways_moves_nothing(self):
        begin = time.time()
        self.jump("+0")
        self.up()
        self.submit("steady", "sleep 6; echo done >> done.txt", "time: 1h\n")
        self.submit("limited", "sleep 60", "time: 3s\n")
        self.submit("waits", "true", "gpus: 4\n")
        for name in ("steady", "limited"):
            self.stargate.wait_for(name, "running")
        for by in ("+365d", "-365d"):
            self.jump(by)
            time.sleep(0.7)
            self.assertEqual([self.stargate.job(name)["state"] for name in ("steady", "limited", "waits")],
                             ["running", "running", "waiting"], by)
        self.assertIn("time limit", self.stargate.wait_for("limited", "failed")["detail"])
        self.stargate.kill()
        self.up()  # with the wall a year back
        self.assertEqual(self.stargate.wait_for("steady", "succeeded")["exit_status"], 0)
        self.stargate.wait_for("waits", "succeeded")
        self.assertEqual(self.lines("done.txt"), ["done"])
        events = self.stargate.events()
        at = [event["at"] for event in events]
        self.assertEqual(at, sorted(at))
        self.assertGreaterEqual(at[0], (begin - 60) * 1e6)
        self.assertLessEqual(at[-1], (time.time() + 60) * 1e6, "the year never entered the log")
        attempt = self.stargate.job("limited")["attempt"]
        instant = {event["type"]: event["at"] for event in events if event.get("attempt") == attempt}
        self.assertAlmostEqual((instant["ended"] - instant["running"]) / 1e6, 3, delta=2)


@unittest.skipUnless(IS_ROOT, "another boot id needs a mount of our own")
class AnotherBoot(Machine):
    def up_after_a_reboot(self):
        """In a mount namespace where the kernel tells another boot id. What ran before must be dead already."""
        boot = self.folder / "boot_id"
        boot.write_text("11111111-2222-3333-4444-555555555555\n")
        start = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"', str(boot),
                 str(BINARY), "up", "--detach", "--state", str(self.state), "--cpu-gpus", "4", *ANY_PORTS]
        done = subprocess.run(start, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        if "mount" in done.stderr:
            self.skipTest(f"no other boot id here: {done.stderr.strip()}")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_an_end_on_disk_counts_and_what_the_reboot_ended_runs_again(self):
        self.stargate.up()
        self.submit("ended", "echo $STARGATE_ATTEMPT >> ended.txt; sleep 1.5; exit 7")
        self.submit("cut", "echo $STARGATE_ATTEMPT >> cut.txt; [ -e second ] || sleep 1400")
        rows = {name: self.stargate.wait_for(name, "running") for name in ("ended", "cut")}
        wait_until("both run", lambda: self.lines("ended.txt") and self.lines("cut.txt"))
        self.stargate.kill()
        exit_record = self.state / "attempts" / str(rows["ended"]["attempt"]) / "exit"
        wait_until("its end is on disk", exit_record.exists)
        (self.folder / "second").touch()
        shim = shim_of(self.state, rows["cut"]["attempt"])
        os.kill(shim, signal.SIGKILL)  # as the power cut does: no last word
        wait_until("all are dead", lambda: not is_alive(shim) and not shims_of(self.state))
        self.up_after_a_reboot()
        self.assertEqual(self.stargate.wait_for("ended", "failed")["exit_status"], 7)
        again = self.stargate.wait_for("cut", "succeeded")
        self.assertNotEqual(again["attempt"], rows["cut"]["attempt"])
        self.assertEqual([len(self.lines(name)) for name in ("ended.txt", "cut.txt")], [1, 2])
        self.assertEqual(self.stargate.run("twin", "replay", str(self.state)).returncode, 0)


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
        for option in ("--listen", "--gateway"):
            for address in ("nonsense", "127.0.0.1:70000", "127.0.0.1", "127.0.0.1:", "no.where:80", "::1:80"):
                words = (option, address, "write 127.0.0.1:")
                self.assert_refused_to_start(self.start(option, address, "--detach"), *words, status=2)
        self.assertEqual(self.start("--listen", "[::1]:0", "--gateway", "localhost:0", "--detach").returncode, 0)

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
            self.assert_refused_to_start(self.start(*ANY_PORTS, *options), str(self.stargate.pid()))
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


    def test_an_older_copy_of_the_state_still_rules_the_work_that_it_knows(self):
        self.stargate.up()
        self.submit("stays", "sleep 1700")
        self.stargate.wait_for("stays", "running")
        self.stargate.down()
        shutil.copy2(self.state / "stargate.db", self.folder / "older.db")
        for _ in range(3):  # the shim obeys later terms
            self.stargate.up()
            self.stargate.kill()
        for extra in ("stargate.db-wal", "stargate.db-shm"):
            (self.state / extra).unlink(missing_ok=True)
        shutil.copy2(self.folder / "older.db", self.state / "stargate.db")
        self.stargate.up()
        self.assertEqual(self.stargate.json("jobs")[0]["state"], "running")
        self.stargate.run("cancel", "stays")
        self.stargate.wait_for("stays", "cancelled", seconds=10)


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
        done = self.as_user("up", "--detach", "--cpu-gpus", "2", *ANY_PORTS)
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
        doctor = self.as_user("doctor", user="nobody")
        self.assertEqual(doctor.returncode, 1)
        self.assertRegex(doctor.stdout, r"^\?    the store in .* cannot be looked at: .*; ask as its owner or as root\n")
        for verb in (["jobs"], ["run", "--", "true"], ["down"]):
            done = self.as_user(*verb, user="nobody")
            self.assertNotEqual((done.returncode, done.stderr), (0, ""), verb)
        self.assertEqual(self.as_user("jobs").returncode, 0, "nobody could not take it down")
        self.assertEqual(self.as_user("down", "--jobs").returncode, 0)


class Work(Machine):
    def test_a_killed_shim_is_an_infrastructure_failure_that_is_retried(self):
        self.stargate.up()
        sleep = f"sleep 1200.{os.getpid()}"
        self.submit("victim", f"echo $$ >> started.txt; exec {sleep}", "retries: 1\n")
        first = self.stargate.wait_for("victim", "running")["attempt"]
        wait_until("the rank runs", lambda: len(self.lines("started.txt")) == 1)
        shim = shim_of(self.state, first)
        ranks = wait_until("it sleeps", lambda: living(sleep))
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
        sleep = f"sleep 1201.{os.getpid()}"
        self.submit("bare", f"echo x >> bare.txt; {sleep}", "retries: 0\nsandbox: none\n")
        attempt = self.stargate.wait_for("bare", "running")["attempt"]
        ranks = wait_until("it sleeps", lambda: living(sleep))
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
        sleep = f"sleep 1300.{os.getpid()}"
        command = [str(BINARY), "run", "--state", str(self.state), "--", "sh", "-c", f"echo on; exec {sleep}"]
        with subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as client:
            self.assertEqual(client.stdout.readline(), "on\n")
            client.send_signal(signal.SIGINT)
            client.communicate(timeout=20)
        self.assertNotEqual(client.returncode, 0)
        row = self.stargate.jobs()[0]
        self.assertEqual(row["state"], "cancelled")
        self.assertEqual(living(sleep), [])

    def test_many_short_jobs_leave_nothing_behind(self):
        self.stargate.up()
        self.submit("many", "true", "count: 200\nsandbox: none\n")
        wait_until("all have ended", lambda: not self.stargate.json("jobs", "--active"), 30, 0.1)
        rows = self.stargate.jobs()
        self.assertEqual([row["state"] for row in rows], ["succeeded"] * 200)
        wait_until("their folders are forgotten", lambda: not self.attempts(), 10)
        mine = subprocess.run(["pgrep", "-P", str(self.stargate.pid()), "-f", "stargate-shim attempt"], capture_output=True,
                              text=True, check=False).stdout
        self.assertEqual(mine, "", "no shim is left")
        self.assertEqual(len([event for event in self.stargate.events() if event["type"] == "ended"]), 200)


if __name__ == "__main__":
    unittest.main(verbosity=2)
