"""clients/python against the real control plane: what it hands in, waits for and reads, also over a kill -9; elastic loops."""

import contextlib
import io
import itertools
import json
import os
import signal
import struct
import sys
import textwrap
import threading
import time
import unittest

from machine import Machine, listening_ports
from harness import ROOT, wait_until

CLIENTS = ROOT / "clients" / "python"
sys.path.insert(0, str(CLIENTS))
from stargate import Accepted, Client, StargateError  # noqa: E402
from stargate.elastic import Elastic  # noqa: E402


class OfClient(Machine):
    def setUp(self):
        super().setUp()
        self.stargate.up()
        self.client = Client(self.state, patience=20)
        self.addCleanup(self.client.close)

    def run_job(self, *argv, **fields):
        return self.client.run(argv, folder=self.folder, **fields)


class Work(OfClient):
    def test_a_file_is_handed_in_waited_for_and_read(self):
        path = self.folder / "hello.yaml"
        path.write_text("kind: batch\nname: hello\nrun: echo out; echo err >&2; exit 3\n")
        job = self.client.submit(path)
        self.assertEqual((job.name, job.count), ("hello", 1))
        [row] = self.client.wait(job, timeout=30)
        self.assertEqual((row.state, row.exit_status, row.has_ended), ("failed", 3, True))
        self.assertEqual(sorted(b"".join(self.client.logs("hello")).splitlines()), [b"err", b"out"])
        with self.assertRaises(StargateError) as caught:
            self.client.wait(job, check=True)
        self.assertEqual(caught.exception.code, "failed")

    def test_an_array_is_waited_for_as_a_whole(self):
        job = self.run_job("/bin/sh", "-c", "exit $STARGATE_TASK", name="array", count=3)
        for what in (job, "array"):
            rows = self.client.wait(what, timeout=30)
            self.assertEqual([(row.name, row.exit_status) for row in rows], [(f"array[{i}]", i) for i in range(3)])
        self.assertEqual([row.id for row in self.client.wait("array[1]")], [job.id + 1])
        self.assertEqual(len(self.client.jobs(name="array")), 3)
        self.assertEqual(len(self.client.jobs(name="array", state="succeeded")), 1)

    def test_work_is_held_released_resized_explained_and_cancelled(self):
        job = self.run_job("sleep", "600", name="el", gpus="1..2")
        wait_until("it runs", lambda: self.client.job("el").state == "running")
        self.client.resize("el", 1)
        wait_until("it has one GPU", lambda: (row := self.client.job("el")).gpus == 1 and row.state == "running")
        held = self.run_job("true", held=True, gpus=4)
        self.assertEqual([each["why"] for each in self.client.why(held.id).reasons][:1], ["held"])
        self.client.release(held.id)
        self.assertEqual(self.client.job(held.id).reason, "no_gpus")
        self.assertEqual([each["id"] for each in self.client.why(held.id).holders], [job.id])
        self.assertEqual(self.client.hold(held.id), [held.id])
        with self.assertRaises(TimeoutError):
            self.client.wait(held, timeout=0.2)
        self.assertEqual(self.client.cancel("el"), [job.id])
        self.assertEqual(self.client.wait(job, timeout=30)[0].state, "cancelled")

    def test_what_was_asked_for_is_changed_and_what_was_used_is_told(self):
        job = self.run_job("true", name="held", held=True)
        self.assertEqual(self.client.edit("held", priority="production", gpus=2, after=[]), [job.id])
        self.assertEqual((self.client.job("held").priority, self.client.job("held").gpus), ("production", 2))
        self.client.release("held")
        row = self.client.wait(job, timeout=30)[0]
        self.assertEqual([each.id for each in self.client.history(since=time.time() - 600, owner=os.geteuid())], [job.id])
        self.assertEqual(self.client.history(until=row.ended_at / 1e6 - 600), [])
        self.assertEqual((row.lost_gpu_s, row.recovered, row.preempted), (0, 0, 0))
        with self.assertRaises(StargateError) as caught:
            self.client.edit("held", time="1h")
        self.assertEqual((caught.exception.code, caught.exception.status), ("wrong_state", 409))

    def test_errors_say_what_is_wrong_and_what_helps(self):
        for code, status, ask in (("not_found", 404, lambda: self.client.job("nobody")),
                                  ("malformed", 422, lambda: self.run_job("true", gpus="many"))):
            with self.assertRaises(StargateError) as caught:
                ask()
            error = caught.exception
            self.assertEqual((error.code, error.status), (code, status))
            self.assertIn(error.remedy, str(error))
        nobody = Client(self.folder / "nowhere", patience=0.1)
        with self.assertRaises(StargateError) as caught:
            nobody.jobs()
        self.assertEqual((caught.exception.code, caught.exception.status), ("unreachable", 0))

    def test_over_tcp_it_shows_its_token(self):
        [port] = listening_ports(self.stargate.pid())
        token = (self.state / "token").read_text().strip()
        with Client(url=f"http://127.0.0.1:{port}", token=token) as client:
            self.assertEqual(client.fleet()[0]["gpus"], 4)
        with Client(url=f"http://127.0.0.1:{port}", token="sg_wrong", patience=0) as client, \
                self.assertRaises(StargateError) as caught:
            client.fleet()
        self.assertEqual(caught.exception.status, 401)


class OverARestart(OfClient):
    def restart_soon(self):
        def restart():
            time.sleep(0.3)
            self.stargate.kill()
            time.sleep(0.5)
            self.stargate.up()

        thread = threading.Thread(target=restart)
        thread.start()
        self.addCleanup(thread.join)
        return thread

    def test_output_and_events_come_once(self):
        self.run_job("/bin/sh", "-c", "for i in $(seq 100); do echo $i; sleep 0.02; done", name="count")
        wait_until("it runs", lambda: self.client.job("count").state == "running")
        self.restart_soon()
        out = b"".join(self.client.logs("count", follow=True))
        self.assertEqual(out.split(), [str(i).encode() for i in range(1, 101)])
        self.assertEqual(self.client.wait("count", timeout=30)[0].state, "succeeded")
        last = self.client.job("count").id
        events = itertools.takewhile(lambda event: not (event["type"] == "ended" and event["job"] == last),
                                     self.client.events(follow=True))
        seen = [event["seq"] for event in events]
        self.assertEqual(seen, list(range(1, len(seen) + 1)))

    def test_what_is_handed_in_meanwhile_is_accepted_once(self):
        thread = self.restart_soon()
        jobs = []
        while thread.is_alive():
            jobs.append(self.run_job("true", name=f"n{len(jobs)}", held=True))
        names = [row.name for row in self.client.jobs(limit=100_000)]
        self.assertEqual(sorted(names), sorted(f"n{i}" for i in range(len(jobs))))
        self.assertGreater(len(jobs), 3)  # before, while nobody answered, and after

    def test_a_connection_that_was_closed_meanwhile_costs_no_act(self):
        job = self.run_job("sleep", "600", name="el", gpus="1..2", held=True)
        for act, *arguments in ((self.client.hold,), (self.client.release,), (self.client.resize, 1), (self.client.cancel,)):
            self.client.jobs()
            self.stargate.kill()
            self.stargate.up()
            self.assertEqual(act("el", *arguments), [job.id], act)

    def test_an_act_by_id_is_repeated_when_its_reply_is_lost_and_one_by_name_is_not(self):
        job = self.run_job("sleep", "600", name="el", held=True)
        transport, once = self.client._transport, self.client._transport._ask_once
        asked = []

        def lose_the_first(*arguments):
            reply = once(*arguments)
            asked.append(reply)
            if len(asked) == 1:
                raise ConnectionResetError("lost on its way")
            return reply

        transport._ask_once = lose_the_first
        self.assertEqual(self.client.hold(job.id), [job.id])
        self.assertEqual(len(asked), 2)
        asked.clear()
        with self.assertRaises(StargateError) as caught:
            self.client.hold("el")
        self.assertEqual((caught.exception.code, len(asked)), ("unreachable", 1))

    def test_waiting_goes_on(self):
        job = self.run_job("sleep", "2")
        self.restart_soon()
        self.assertEqual(self.client.wait(job, timeout=60)[0].state, "succeeded")


class Streams(unittest.TestCase):
    """Streams that break off, made up."""

    def setUp(self):
        self.client = Client("/nowhere", patience=0.5)
        self.targets = []
        self.replies = []  # one after another; the last one again and again
        self.client._transport.stream = self.stream

    @contextlib.contextmanager
    def stream(self, target):
        self.targets.append(target)
        yield io.BytesIO(self.replies.pop(0) if len(self.replies) > 1 else self.replies[0])

    @staticmethod
    def frame(kind, data=b"", offset=0, **members):
        data = json.dumps(members).encode() if members else data
        return struct.pack("<IBIIQ", len(data), kind, 0, 0, offset) + data

    def test_output_goes_on_with_the_job_that_the_name_meant_first(self):
        accepted, broken_off = self.frame(3, id=7, count=1), b"?"
        self.replies = [accepted + self.frame(4, attempt=9) + self.frame(1, b"one ", 4) + broken_off,
                        accepted + self.frame(2, b"two", 7) + self.frame(5, state="succeeded", exit_status=0, detail="")]
        self.assertEqual(b"".join(self.client.logs("train", follow=True)), b"one two")
        self.assertEqual([target.split("?")[0] for target in self.targets], ["/api/v1/jobs/train/logs", "/api/v1/jobs/7/logs"])
        self.assertTrue(self.targets[1].endswith("resume=0%3A9%3A4"), self.targets[1])

    def test_one_that_breaks_off_each_time_is_given_up(self):
        self.replies = [self.frame(3, id=7, count=1) + b"?"]
        with self.assertRaises(StargateError) as caught:
            list(self.client.logs("train", follow=True))
        self.assertEqual(caught.exception.code, "unreachable")
        self.assertLess(len(self.targets), 10)


LOOP = textwrap.dedent("""
    import json, os, sys, time
    sys.path.insert(0, {clients!r})
    from stargate.elastic import Elastic, read_notice
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    {begin}
    first = int(open("step").read()) if os.path.exists("step") else 0

    def save(step):
        notice = read_notice()
        if rank == 0:
            open("step.part", "w").write(str(step))
            os.replace("step.part", "step")
            print("saved", step, world, notice.cause if notice else None, notice.gpus if notice else None, flush=True)

    with Elastic(save) as run:
        for step in run.steps(first, {steps}, every=50):
            time.sleep(0.02)
""")


class OneProcess(unittest.TestCase):
    def test_a_loop_in_epochs_saves_each_and_leaves_the_signal_as_it_was(self):
        saved = []
        before = signal.getsignal(signal.SIGTERM)
        with Elastic(saved.append) as run:
            self.assertEqual([list(run.steps(epoch, epoch + 2)) for epoch in (0, 2)], [[0, 1], [2, 3]])
            self.assertNotEqual(signal.getsignal(signal.SIGTERM), before)
            self.assertEqual(list(run.steps(2, 4)), [2, 3])  # the same steps of other weights
        self.assertEqual(saved, [2, 4, 4])
        self.assertEqual(signal.getsignal(signal.SIGTERM), before)


class Loops(OfClient):
    def loop(self, name, steps, begin="", **fields):
        script = self.folder / f"{name}.py"
        script.write_text(LOOP.format(clients=str(CLIENTS), steps=steps, begin=begin))
        return self.run_job("/usr/bin/python3", str(script), name=name, kind="training", **fields)

    def saved(self, name):
        lines = b"".join(self.client.logs(name)).decode().splitlines()
        return [line.split()[1:] for line in lines if line.startswith("saved")]

    def test_a_loop_that_is_warned_saves_and_goes_on_from_there(self):
        self.loop("lone", 150, gpus="1")
        wait_until("it computes", lambda: self.client.job("lone").step > 0)
        self.run_job("sleep", "1", name="urgent", gpus=4, priority="production")
        self.client.wait("urgent", timeout=60)
        [row] = self.client.wait("lone", timeout=60)
        self.assertEqual((row.state, row.step), ("succeeded", 150), self.saved("lone"))
        attempts = {event["attempt"] for event in self.client.events() if event["type"] == "started" and event["job"] == row.id}
        self.assertEqual(len(attempts), 2)
        steps = [event["step"] for event in self.client.events() if event["type"] == "progressed" and event["attempt"] in attempts]
        self.assertEqual(steps, sorted(steps))

    def test_ranks_agree_on_where_to_stop(self):
        try:
            import torch  # noqa: F401
        except ImportError:
            self.skipTest("torch is not there")
        begin = "import torch.distributed as dist; os.environ.setdefault('GLOO_SOCKET_IFNAME', 'lo'); dist.init_process_group('gloo')"
        self.loop("two", 600, begin, gpus="1..2", grace="20s")
        wait_until("both compute", lambda: self.client.job("two").step >= 50, 60)
        self.client.resize("two", 1)
        wait_until("it goes on alone", lambda: (row := self.client.job("two")).gpus == 1 and row.state == "running", 60)
        warned = [line for line in self.saved("two") if line[2] == "resize"]
        self.assertEqual([(world, gpus) for _step, world, _cause, gpus in warned], [("2", "1")])
        step = int(warned[0][0])
        wait_until("it comes further", lambda: self.client.job("two").step > step, 60)
        self.client.cancel("two")
        [row] = self.client.wait("two", timeout=60)
        self.assertEqual(row.state, "cancelled")
        self.assertGreater(row.step, step)


if __name__ == "__main__":
    unittest.main()
