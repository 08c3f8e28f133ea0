#!/usr/bin/python3
"""The command line's contract, on the real binary with real processes: what scripts may rely on."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import unittest
from http import client

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
from harness import ANY_PORTS, BINARY, Stargate, give_to_job_user, is_alive, scratch_folder, wait_until  # noqa: E402

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"


def http(port, target, token=None):
    """Asks over loopback TCP; returns status and body."""
    connection = client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", target, headers={"Authorization": f"Bearer {token}"} if token else {})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


class Contract(unittest.TestCase):
    """One control plane for all tests of the class; each test uses names of its own."""

    @classmethod
    def setUpClass(cls):
        cls.folder = scratch_folder("stargate-e2e-")
        give_to_job_user(cls.folder)
        cls.stargate = Stargate(cls.folder / "state", cpu_gpus=4)
        cls.stargate.up()

    @classmethod
    def tearDownClass(cls):
        cls.stargate.down("--jobs")
        shutil.rmtree(cls.folder, ignore_errors=True)

    def tearDown(self):
        for row in self.stargate.jobs():
            if row["state"] in ("waiting", "starting", "running"):
                self.stargate.run("cancel", str(row["id"]), check=False)

    def tcp_port(self):
        """Where the control plane listens on TCP, by the kernel's word."""
        sockets = {os.readlink(fd) for fd in pathlib.Path(f"/proc/{self.stargate.pid()}/fd").iterdir()}
        for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                return int(words[1].split(":")[1], 16)
        self.fail("it does not listen on TCP")

    def verb(self, verb, sub, *words):
        """A verb of two words: --state stands behind both."""
        done = subprocess.run([str(BINARY), verb, sub, "--state", str(self.stargate.state), *words], capture_output=True,
                              text=True, check=True, timeout=60)
        return json.loads(done.stdout)

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def submit(self, text, name="job.yaml"):
        return self.stargate.run("submit", self.write(name, text), check=False)

    def test_run_gives_the_commands_output_and_status_and_nothing_else(self):
        done = self.stargate.run("run", "--", "sh", "-c", "echo out; echo err >&2; exit 7", check=False, cwd=self.folder)
        self.assertEqual((done.stdout, done.stderr, done.returncode), ("out\n", "err\n", 7))

    def test_run_executes_directly_in_the_callers_folder(self):
        done = self.stargate.run("run", "--", "pwd", cwd=self.folder)
        self.assertEqual(done.stdout.strip(), str(self.folder))
        done = self.stargate.run("run", "--", "printf", "%s|", "a b", "$HOME", cwd=self.folder)
        self.assertEqual(done.stdout, "a b|$HOME|")

    def test_a_signal_is_told_as_a_shell_does(self):
        done = self.stargate.run("run", "--", "sh", "-c", "kill -9 $$", check=False, cwd=self.folder)
        self.assertEqual(done.returncode, 137)

    def test_an_array_sees_its_task_and_its_worst_status_counts(self):
        done = self.stargate.run("run", "--count", "3", "--", "sh", "-c", "echo task $STARGATE_TASK; exit $STARGATE_TASK",
                                 check=False, cwd=self.folder)
        self.assertEqual(sorted(done.stdout.split("\n")), ["", "task 0", "task 1", "task 2"])
        self.assertEqual(done.returncode, 2)

    def test_ranks_find_each_other(self):
        done = self.stargate.run("run", "-g", "2", "--", "sh", "-c",
                                 "echo $RANK/$WORLD_SIZE $LOCAL_RANK ${MASTER_PORT:+port} $MASTER_ADDR", cwd=self.folder)
        self.assertEqual(sorted(done.stdout.splitlines()), ["0/2 0 port 127.0.0.1", "1/2 1 port 127.0.0.1"])

    def test_a_mount_is_made_or_refused_at_once(self):
        head = "kind: batch\nname: mounting\nrun: cat /data/x /usr/local/stargate/x /etc/stargate/x > seen\n"
        (self.folder / "shown").mkdir()
        (self.folder / "shown" / "x").write_text("x\n")
        for entry in ("/proc:/x", "state:/x", "shown:/usr/", "shown:/dev/x", f"shown:{self.stargate.state}/x"):
            done = self.submit(f"{head}mounts: ['{entry}']\n", "mounting.yaml")
            self.assertEqual(done.returncode, 2, entry)
            self.assertRegex(done.stderr, r"mounting\.yaml:4: mounts: .+; .+")
        done = self.submit(head + "mounts: [shown:/data/, shown:/usr/local/stargate, shown:/etc//stargate/]\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.stargate.wait_for("mounting", "succeeded")
        self.assertEqual((self.folder / "seen").read_text(), "x\n" * 3)

    def test_what_can_never_run_is_refused_at_once_and_not_stored(self):
        before = len(self.stargate.jobs())
        for words in (["-g", "5", "--", "true"], ["--", "no-such-command-here"]):
            done = self.stargate.run("run", *words, check=False, cwd=self.folder)
            self.assertEqual(done.returncode, 2, words)
            self.assertEqual(done.stdout, "")
            self.assertTrue(done.stderr.strip(), words)
        self.assertEqual(len(self.stargate.jobs()), before)

    def test_the_documents_tell_what_a_rank_finds(self):
        done = self.stargate.run("run", "--", "env", cwd=self.folder)
        names = {line.split("=")[0] for line in done.stdout.splitlines()}
        theirs = set() if os.geteuid() == 0 else set(os.environ)
        words = set(re.findall(r"\w+", (DOCS / "job-file.md").read_text()))
        self.assertEqual(names - theirs - words, set())
        done = subprocess.run([str(BINARY), "run", "--state", str(self.stargate.state), "--", "readlink", "/proc/self/fd/0"],
                              cwd=self.folder, input="not passed on", capture_output=True, text=True, check=False, timeout=60)
        self.assertEqual(done.stdout, "/dev/null\n")
        for said in ((DOCS / "cli.md").read_text(), self.stargate.run("run", "--help").stdout):
            self.assertRegex(said, "standard input is `?/dev/null")

    def test_what_is_written_wrong_is_refused_in_one_line_with_its_remedy(self):
        self.submit("kind: batch\nname: here\nrun: sleep 1000\n")
        self.stargate.wait_for("here", "running")
        for words, remedy in ((["tenants", "set", "lab", "--quota", "abc"], "`none` for no limit"),
                              (["tenants", "set", "lab", "--quota", "-1"], "`none` for no limit"),
                              (["tenants", "set", "lab", "--weight", "0"], "from 1 to 1000000"),
                              (["tenants", "frobnicate"], "--help"),
                              (["submit", str(self.folder)], "is a folder; name a job file"),
                              (["submit", "no-such-file"], "name a job file"),
                              (["drain", "no-such-node"], "stargate fleet"),
                              (["show", "no-such-job"], "stargate: there is no job"),
                              (["show"], "stargate show --help"),
                              (["hold", "here"], "stargate cancel here"),
                              (["logs", "--attempt", "999999", "here"], "its last one is"),
                              (["logs", "--attempt", "-1", "here"], "from 1 on"),
                              (["run", "--count", "0", "--", "true"], "from 1 on"),
                              (["run", "--count", "100001", "--", "true"], "from 1 to 100000"),
                              (["jobs", "--limit", "0"], "from 1 to 100000"),
                              (["resize", "here", "many"], "from 0 to 10000000"),
                              (["events", "--from", "0"], "from 1 on"),
                              (["up", "--cpu-gpus", "65"], "from 0 to 64"),
                              (["logs", "here", "-o", "json"], "logs: there is no option `-o`;"),
                              (["logs", "--folow", "here"], "did you mean `--follow`?"),
                              (["hold", "here", "there", "-x"], "`there` is one word too many;"),
                              (["events", "-o", "name"], "{table,json,jsonl}"),
                              (["hold", "here", "-o", "name"], "{table,json,jsonl}"),
                              (["frobnicate"], "stargate --help"),
                              (["twin", "frobnicate"], "stargate twin --help"),
                              (["jobs", "--state", ""], "name a folder"),
                              (["run", "--time", "soon", "--", "true"], "stargate: time: "),
                              (["twin", "run", str(self.folder)], "name a scenario file")):
            done = subprocess.run([str(BINARY), *words], capture_output=True, text=True, check=False, timeout=60,
                                  env=dict(os.environ, STARGATE_STATE=str(self.stargate.state)))
            self.assertEqual((done.returncode, done.stdout), (2, ""), words)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertIn(remedy, done.stderr, words)

    def test_one_job_is_shown_in_each_form(self):
        self.submit("kind: batch\nname: shown\nheld: true\nrun: 'true'\n")
        for verb in ("show", "why"):
            self.assertEqual(self.stargate.run(verb, "shown", "-o", "name").stdout, "shown\n")
            self.assertEqual(json.loads(self.stargate.run(verb, "shown", "-o", "jsonl").stdout)["name"], "shown")

    def test_cancel_says_whether_a_job_has_its_grace(self):
        self.submit("kind: batch\nname: busy\nrun: trap '' TERM; touch busy.up; sleep 1000\ncheckpoint: {grace: 200ms}\n")
        self.submit("kind: batch\nname: idle\nheld: true\nrun: 'true'\n", "idle.yaml")
        wait_until("it has begun", (self.folder / "busy.up").exists)
        self.assertIn("told to end", self.stargate.run("cancel", "busy").stdout)
        self.assertIn("is cancelled", self.stargate.run("cancel", "idle").stdout)

    def test_a_bad_file_is_refused_with_file_line_and_field(self):
        before = len(self.stargate.jobs())
        done = self.submit("kind: batch\nname: x\ngpus: many\nrun: 'true'\n", "bad.yaml")
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, r"bad\.yaml:3: gpus: .+; .+")
        done = self.submit("kind: batch\nname: x\nname: y\nrun: 'true'\n", "twice.yaml")
        self.assertRegex(done.stderr, r"twice\.yaml:3: name: ")
        done = self.submit("kind: batch\nname: x\ngpu: 1\nrun: 'true'\n", "unknown.yaml")
        self.assertRegex(done.stderr, r"unknown\.yaml:3: gpu: ")
        self.assertEqual(len(self.stargate.jobs()), before)

    def test_submit_runs_in_the_files_folder_by_the_shell(self):
        done = self.submit("kind: batch\nname: where\nrun: pwd && echo $((1 + 1))\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.stargate.wait_for("where", "succeeded")
        self.assertEqual(self.stargate.run("logs", "where").stdout.split(), [str(self.folder), "2"])

    def test_a_held_job_waits_until_it_is_released(self):
        self.submit("kind: batch\nname: later\ngpus: 4\nrun: sleep 30\n")
        self.submit("kind: batch\nname: kept\ngpus: 4\nrun: 'true'\n", "kept.yaml")
        self.stargate.run("hold", "kept")
        row = self.stargate.job("kept")
        self.assertEqual((row["state"], row["reason"]), ("waiting", "held"))
        self.assertIn("held", self.stargate.run("why", "kept").stdout)
        self.stargate.run("cancel", "later")
        self.stargate.wait_for("later", "cancelled")
        self.assertEqual(self.stargate.job("kept")["state"], "waiting")
        self.stargate.run("release", "kept")
        self.stargate.wait_for("kept", "succeeded")

    def test_why_names_who_holds_what_a_job_waits_for(self):
        self.submit("kind: batch\nname: holder\ngpus: 3\nrun: sleep 30\n")
        self.stargate.wait_for("holder", "running")
        self.submit("kind: batch\nname: blocked\ngpus: 2\nrun: 'true'\n", "blocked.yaml")
        said = self.stargate.run("why", "blocked").stdout
        self.assertIn("holder", said)
        self.assertRegex(said, r"\b2\b")

    def test_a_job_after_another_waits_for_its_success(self):
        self.submit("kind: batch\nname: prepare\nrun: sleep 0.3\n")
        self.submit("kind: batch\nname: train\nafter: [prepare]\nrun: 'true'\n", "after.yaml")
        self.assertEqual(self.stargate.job("train")["state"], "waiting")
        self.stargate.wait_for("train", "succeeded")

    def test_a_higher_class_preempts_and_the_victim_runs_again(self):
        self.submit("kind: batch\nname: low\npriority: opportunistic\ngpus: 4\nrun: sleep 1\n")
        first = self.stargate.wait_for("low", "running")["attempt"]
        self.submit("kind: batch\nname: high\npriority: production\ngpus: 4\nrun: 'true'\n", "high.yaml")
        self.stargate.wait_for("high", "succeeded")
        row = self.stargate.wait_for("low", "succeeded")
        self.assertNotEqual(row["attempt"], first)

    def test_a_time_limit_ends_a_job(self):
        self.submit("kind: batch\nname: endless\ntime: 1s\nrun: sleep 1000\n")
        row = self.stargate.wait_for("endless", "failed")
        self.assertNotEqual(row["exit_status"], 0)

    def test_the_exit_status_tells_whether_a_cancelled_job_left_by_itself_or_was_killed(self):
        for name, ignores, status in (("leaves", "", 143), ("stays", "trap '' TERM; ", 137)):
            self.submit(f"kind: batch\nname: {name}\ncheckpoint: {{grace: 300ms}}\nrun: {ignores}touch {name}.up; sleep 1000\n")
            wait_until("it has begun", (self.folder / f"{name}.up").exists)
            self.stargate.run("cancel", name)
            self.assertEqual(self.stargate.wait_for(name, "cancelled")["exit_status"], status, name)

    def test_drain_and_undrain(self):
        node = self.stargate.json("fleet")
        name = (node["nodes"] if isinstance(node, dict) else node)[0]["name"]
        self.stargate.run("drain", name)
        self.submit("kind: batch\nname: drained\nrun: 'true'\n")
        time.sleep(0.2)
        self.assertEqual(self.stargate.job("drained")["state"], "waiting")
        self.stargate.run("undrain", name)
        self.stargate.wait_for("drained", "succeeded")

    def test_the_sandbox_hides_the_state_and_other_processes(self):
        script = (f"ls -A {self.stargate.state} | wc -l; test -e {self.stargate.state}/stargate.sock && echo socket; "
                  "ls /proc | grep -c '^[0-9]'; id -u; cat /proc/1/cmdline | tr '\\0' ' '; echo; "
                  "touch /tmp/private && echo private; touch here && echo here")
        done = self.stargate.run("run", "--", "sh", "-c", script, cwd=self.folder)
        lines = done.stdout.splitlines()
        self.assertEqual(lines[0], "0", "the state folder is masked")
        self.assertNotIn("socket", lines)
        self.assertLess(int(lines[1]), 12, "only its own processes are there")
        if os.geteuid() == 0:
            self.assertNotEqual(lines[2], "0", "jobs of root run as the job user")
        self.assertIn("private", lines)
        self.assertFalse(pathlib.Path("/tmp/private").exists(), "/tmp is private")
        self.assertIn("here", lines)
        self.assertTrue((self.folder / "here").exists(), "the submit folder is the real one")

    def test_events_are_gap_free_and_have_a_cause(self):
        self.stargate.run("run", "--", "true", cwd=self.folder)
        events = self.stargate.events()
        self.assertEqual([event["seq"] for event in events], list(range(1, len(events) + 1)))
        for event in events:
            self.assertTrue({"seq", "at", "type", "cause"} <= event.keys(), event)
        self.assertIn("ended", {event["type"] for event in events})

    def test_jobs_has_a_row_for_each_array_element(self):
        self.submit("kind: batch\nname: sweep\ncount: 3\nrun: 'true'\n")
        wait_until("the array ends", lambda: [row["state"] for row in self.stargate.jobs()
                                              if row["name"].startswith("sweep[")] == ["succeeded"] * 3)
        row = [row for row in self.stargate.jobs() if row["name"] == "sweep[1]"][0]
        for key in ("id", "name", "kind", "tenant", "state", "reason", "gpus", "attempt", "generation", "exit_status"):
            self.assertIn(key, row)

    def test_a_job_knows_its_name(self):
        self.submit("kind: batch\nname: self\nrun: echo $STARGATE_JOB_NAME\n")
        self.stargate.wait_for("self", "succeeded")
        self.assertEqual(self.stargate.run("logs", "self").stdout.strip(), "self")

    def test_the_largest_array_is_cancelled_whole_and_what_never_ran_has_no_exit_status(self):
        self.submit("kind: batch\nname: vast\ncount: 100000\nheld: true\nrun: 'true'\n")
        self.stargate.run("cancel", "vast")
        self.assertEqual(self.stargate.json("jobs", "--active"), [])
        rows = [row for row in self.stargate.jobs() if row["name"].startswith("vast[")]
        self.assertEqual({(row["state"], row["exit_status"]) for row in rows}, {("cancelled", None)})

    def test_a_kept_token_opens_the_loopback_and_nothing_else_does(self):
        token = self.stargate.state / "token"
        self.assertEqual(token.stat().st_mode & 0o777, 0o600)
        port = self.tcp_port()
        self.assertEqual(http(port, "/healthz")[0], 200)
        for route in ("/api/v1/jobs", "/api/v1/events", "/metrics", "/api/v1/whoami", "/nonsense"):
            self.assertEqual(http(port, route)[0], 401, route)
            self.assertEqual(http(port, route, "sg_" + "0" * 64)[0], 401, route)
        status, body = http(port, "/api/v1/whoami", token.read_text().strip())
        self.assertEqual((status, json.loads(body)["operator"]), (200, True))
        self.assertEqual(self.stargate.run("token").stdout, token.read_text())
        # A further one, and its end.
        made = self.stargate.run("token", "create", "--name", "ci").stdout.strip()
        self.assertEqual(http(port, "/api/v1/jobs", made)[0], 200)
        rows = self.verb("token", "list", "-o", "json")
        self.assertEqual([row["name"] for row in rows], ["ci"])
        self.stargate.run("token", "revoke", rows[0]["id"])
        self.assertEqual(http(port, "/api/v1/jobs", made)[0], 401)

    def test_the_commands_own_words_are_left_alone(self):
        done = self.stargate.run("run", "--", "printf", "%s\\n", "[1,2,3]", "[]", "--", "-g", "{a,b}", "", cwd=self.folder)
        self.assertEqual(done.stdout, "[1,2,3]\n[]\n--\n-g\n{a,b}\n\n")
        done = self.stargate.run("run", "--gpu", "2", "--", "true", check=False, cwd=self.folder)
        self.assertEqual(done.returncode, 2)
        self.assertIn("--gpu", done.stderr)
        self.assertEqual(self.stargate.run("run", check=False).returncode, 2)

    def test_too_much_at_once_is_refused_in_a_sentence(self):
        done = subprocess.run([str(BINARY), "run", "--state", str(self.stargate.state), "--", "true"], cwd=self.folder,
                              env={**os.environ, **{f"BIG{i}": "x" * 100_000 for i in range(12)}}, capture_output=True,
                              text=True, check=False, timeout=60)
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, "1 MiB.*environment")

    def test_what_is_not_utf8_is_refused_and_not_replaced(self):
        for words in ([b"echo", b"caf\xe9"],):
            done = subprocess.run([str(BINARY).encode(), b"run", b"--state", str(self.stargate.state).encode(), b"--", *words],
                                  cwd=self.folder, capture_output=True, check=False, timeout=60)
            self.assertEqual((done.returncode, done.stdout), (2, b""))
            self.assertIn(b"word 2", done.stderr)
        path = self.folder / "latin.yaml"
        path.write_bytes(b"kind: batch\nname: x\n# caf\xe9\nrun: 'true'\n")
        done = self.stargate.run("submit", str(path), check=False)
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, r"latin\.yaml:3: file: not UTF-8; ")

    def test_who_interrupts_an_array_starts_no_more_of_it(self):
        ran = self.folder / "ran.txt"
        command = [str(BINARY), "run", "--state", str(self.stargate.state), "--count", "200", "--name", "many", "--",
                   "sh", "-c", "echo $STARGATE_TASK >> ran.txt; sleep 60"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                              cwd=self.folder) as asking:
            wait_until("four run", lambda: ran.exists() and len(ran.read_text().split()) == 4)
            asking.send_signal(signal.SIGINT)
            asking.stderr.read()
        self.assertGreater(asking.returncode, 128)
        self.assertEqual(sorted(map(int, ran.read_text().split())), [0, 1, 2, 3])
        rows = [row for row in self.stargate.jobs() if row["name"].startswith("many")]
        self.assertEqual((len(rows), {row["state"] for row in rows}), (200, {"cancelled"}))

    def test_long_output_may_be_read_slowly(self):
        self.submit("kind: batch\nname: big\nrun: seq 400000\n")
        self.stargate.wait_for("big", "succeeded")
        command = [str(BINARY), "logs", "--state", str(self.stargate.state), "big"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
            first = reader.stdout.readline()
            time.sleep(1)  # a pager
            rest = reader.stdout.read()
        self.assertEqual(reader.returncode, 0)
        self.assertEqual((first + rest).split(), [str(i) for i in range(1, 400_001)])

    def test_limits_of_a_tenant_stay_when_another_is_set(self):
        def tenants():
            return {row["name"]: row for row in self.stargate.json("tenants")}

        def set_tenant(*words, check=True):
            return subprocess.run([str(BINARY), "tenants", "set", "--state", str(self.stargate.state), *words],
                                  capture_output=True, text=True, check=check, timeout=60)
        set_tenant("lab", "--quota", "2", "--classes", "research,opportunistic", "--members", "root")
        set_tenant("lab", "--weight", "3")
        row = tenants()["lab"]
        self.assertEqual((row["quota"], row["weight"], row["members"]), (2, 3, ["root"]))
        self.assertEqual(sorted(row["priorities"]), ["opportunistic", "research"])
        set_tenant("lab", "--quota", "none", "--members", "all")
        self.assertEqual((tenants()["lab"]["quota"], tenants()["lab"]["members"]), (None, []))
        done = set_tenant("lab", "--members", "no-such-user", check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("no-such-user", done.stderr)

    def test_a_refusal_of_a_file_has_its_line(self):
        done = self.submit("kind: batch\nname: x\nrun: 'true'\ntenant: nobody-knows\n", "stranger.yaml")
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, r"stranger\.yaml:4: tenant: .*`nobody-knows`.*; .+")
        done = self.submit("kind: batch\nname: x\ngpus: 99\nrun: 'true'\n", "large.yaml")
        self.assertRegex(done.stderr, r"large\.yaml:3: gpus: .*99")

    def test_after_a_submit_the_next_commands_are_shown(self):
        done = self.submit("kind: batch\nname: next\nrun: 'true'\n")
        self.assertEqual(len(re.findall(r"^  stargate (why|logs -f|cancel) \d+", done.stdout, re.M)), 3, done.stdout)

    def test_every_verb_has_help(self):
        verbs = ("up down run submit jobs fleet tenants show why logs cancel hold release resize drain undrain events "
                 "token doctor twin mock-engine bench-serve").split()
        for verb in verbs:
            done = subprocess.run([str(BINARY), verb, "--help"], capture_output=True, text=True, check=False, timeout=20)
            self.assertEqual(done.returncode, 0, verb)
            self.assertIn("--", done.stdout, verb)


class Restart(unittest.TestCase):
    """The control plane dies and comes back; work does not notice."""

    def setUp(self):
        self.folder = scratch_folder("stargate-e2e-")
        give_to_job_user(self.folder)
        self.stargate = Stargate(self.folder / "state", cpu_gpus=4)
        self.stargate.up()

    def tearDown(self):
        self.stargate.down("--jobs")
        shutil.rmtree(self.folder, ignore_errors=True)

    def submit(self, name, run, more=""):
        path = self.folder / f"{name}.yaml"
        path.write_text(f"kind: batch\nname: {name}\n{more}run: {run}\n")
        self.stargate.run("submit", str(path))

    def test_running_work_is_adopted_and_its_end_while_dead_is_known(self):
        self.submit("long", "echo begin; sleep 2; echo end")
        self.submit("short", "sleep 0.2; exit 3")
        attempts = {name: self.stargate.wait_for(name, "running")["attempt"] for name in ("long", "short")}
        self.stargate.kill()
        time.sleep(0.6)
        self.stargate.up()
        row = self.stargate.wait_for("short", "failed")
        self.assertEqual((row["exit_status"], row["attempt"]), (3, attempts["short"]))
        row = self.stargate.wait_for("long", "succeeded")
        self.assertEqual(row["attempt"], attempts["long"])
        self.assertEqual(self.stargate.run("logs", "long").stdout.split(), ["begin", "end"])

    def test_a_submit_whose_answer_breaks_off_is_asked_for_again(self):
        self.submit("warm", "true")
        for i in range(12):
            path = self.folder / f"once{i}.yaml"
            path.write_text(f"kind: batch\nname: once{i}\nrun: 'true'\n")
            with subprocess.Popen([str(BINARY), "submit", str(path), "--state", str(self.stargate.state)],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as submitter:
                time.sleep(0.002 + 0.001 * i)
                self.stargate.kill()
                self.stargate.up()
                out, told = submitter.communicate(timeout=60)
                client_status = submitter.returncode
            stored = [row for row in self.stargate.jobs() if row["name"] == f"once{i}"]
            self.assertEqual(len(stored), 1 if client_status == 0 else 0, out + told)

    def test_output_that_is_not_taken_is_told(self):
        self.submit("prints", "echo something")
        self.stargate.wait_for("prints", "succeeded")
        for words in (["jobs", "-o", "json"], ["jobs"], ["events", "-o", "jsonl"], ["logs", "prints"]):
            with open("/dev/full", "wb") as full:
                done = subprocess.run([str(BINARY), *words, "--state", str(self.stargate.state)], stdout=full,
                                      stderr=subprocess.PIPE, text=True, check=False, timeout=30)
            self.assertEqual(done.returncode, 1, words)
            self.assertIn("standard output did not take all of it", done.stderr)

    def test_a_folder_that_no_job_can_start_in_is_refused(self):
        done = self.stargate.run("run", "--", "true", check=False, cwd=self.stargate.state)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("lies in the state folder", done.stderr)
        gone = self.folder / "gone"
        gone.mkdir()
        done = subprocess.run(["/bin/sh", "-c", f"cd {gone} && rmdir {gone} && exec {BINARY} run --state {self.stargate.state} -- true"],
                              capture_output=True, text=True, check=False, timeout=30)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("cannot be named", done.stderr)

    def test_down_leaves_work_running_and_down_jobs_ends_it_even_without_a_control_plane(self):
        seconds = f"1000.{os.getpid()}"  # ours, whatever else runs here
        self.submit("sleeper", f"sleep {seconds}")
        self.submit("saves", "trap 'sleep 5.5; echo saved; exit 0' TERM; echo ready; while :; do sleep 0.05; done",
                    "checkpoint: {grace: 30s}\n")
        self.submit("next", "echo ran", "after: [saves]\n")
        self.stargate.wait_for("saves", "running")
        self.stargate.wait_for("sleeper", "running")
        self.stargate.down()
        self.stargate.up()
        self.assertEqual(self.stargate.job("sleeper")["state"], "running")
        self.stargate.kill()
        self.stargate.down("--jobs")
        left = subprocess.run(["pgrep", "-x", "-f", f"sleep {seconds}"], capture_output=True, check=False).stdout.split()
        self.assertFalse([pid for pid in left if is_alive(int(pid))])
        self.stargate.up()
        self.assertEqual(self.stargate.run("logs", "saves").stdout.split()[-1], "saved", "its own grace")
        for name in ("sleeper", "saves", "next"):
            self.assertEqual(self.stargate.wait_for(name, "cancelled")["state"], "cancelled")

    def test_a_rank_a_node_finds_all_the_gpus_and_starts_its_own_processes(self):
        workers = ("echo $RANK $WORLD_SIZE $LOCAL_RANK $LOCAL_WORLD_SIZE $STARGATE_GPUS > seen; "
                   "for i in $(seq $STARGATE_GPUS); do (touch worker.$i) & done; wait")
        self.submit("torchrun", workers, "gpus: 3\nranks: per_node\n")
        self.stargate.wait_for("torchrun", "succeeded")
        self.assertEqual((self.folder / "seen").read_text(), "0 1 0 1 3\n")
        self.assertEqual(len(list(self.folder.glob("worker.*"))), 3)

    def test_a_second_control_plane_on_one_state_is_refused(self):
        done = self.stargate.run("up", "--detach", *ANY_PORTS, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(str(self.stargate.pid()), done.stderr)

    def test_an_empty_state_beside_running_work_stops_nothing_and_gives_its_gpus_to_nobody(self):
        self.submit("survivor", "until [ -e go ]; do sleep 0.05; done; touch ended.$RANK", "gpus: 3\n")
        self.stargate.wait_for("survivor", "running")
        self.stargate.kill()
        for name in ("stargate.db", "stargate.db-wal", "stargate.db-shm"):
            if (self.stargate.state / name).exists():
                shutil.move(self.stargate.state / name, self.folder / f"kept-{name}")
        self.stargate.up()
        node = self.stargate.json("fleet")[0]
        self.assertEqual((node["gpus_foreign"], node["gpus_free"], node["foreign_running"]), (3, 1, 1))
        self.assertIn("does not know", node["reason"])
        doctor = self.stargate.run("doctor", check=False)
        self.assertEqual(doctor.returncode, 1)
        self.assertRegex(doctor.stdout, "BAD .*3 GPUs")
        self.submit("wide", "'true'", "gpus: 2\n")
        self.submit("narrow", "'true'")
        self.stargate.wait_for("narrow", "succeeded")
        self.assertEqual(self.stargate.job("wide")["state"], "waiting", "its GPUs are not given to others")
        (self.folder / "go").touch()
        self.stargate.wait_for("wide", "succeeded")
        self.assertEqual(self.stargate.json("fleet")[0]["gpus_foreign"], 0)
        self.assertEqual(len(list(self.folder.glob("ended.*"))), 3, "work that the store does not know was left alone")

    def test_down_jobs_ends_work_that_the_state_does_not_know(self):
        seconds = f"1001.{os.getpid()}"  # ours, whatever else runs here
        self.submit("survivor", f"sleep {seconds}")
        self.stargate.wait_for("survivor", "running")
        self.stargate.kill()
        for name in ("stargate.db", "stargate.db-wal", "stargate.db-shm"):
            (self.stargate.state / name).unlink(missing_ok=True)
        self.stargate.up()
        self.stargate.kill()
        running = subprocess.run(["pgrep", "-x", "-f", f"sleep {seconds}"], capture_output=True, text=True, check=False)
        pids = [int(pid) for pid in running.stdout.split()]
        self.assertTrue([pid for pid in pids if is_alive(pid)], "it runs on without its state")
        # Without a control plane an operator's word ends everything that runs here.
        self.assertIn("1 running", self.stargate.down("--jobs").stdout)
        self.assertFalse([pid for pid in pids if is_alive(pid)])

    def test_replay_of_the_log_agrees(self):
        for i in range(5):
            self.submit(f"job{i}", "true")
            self.stargate.wait_for(f"job{i}", "succeeded")
        done = self.stargate.run("twin", "replay", str(self.stargate.state), "-o", "json")
        report = json.loads(done.stdout)
        self.assertGreater(report["compared"], 5 * 4, "each job is submitted, starts, runs and ends")
        self.assertGreaterEqual(len(self.stargate.events()), report["compared"])
        self.assertIsNone(report.get("difference"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
