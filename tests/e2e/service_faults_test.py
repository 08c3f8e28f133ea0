"""Services when replicas, the training that lends, or the gateway do what none should."""

import json
import os
import signal
import unittest

from serving import ENGINE, Serving
from harness import BINARY, wait_until


class BadReplicas(Serving):
    def engine(self, fault):
        return f"exec {BINARY} mock-engine --port $PORT --tokens-per-s 100 --fault {fault}"

    def test_what_each_does_wrong_is_told_to_who_asks_it_and_to_nobody_else(self):
        for fault in ("hang", "html", "cut"):
            self.serve("1", self.engine(fault), name=fault)
        self.serve("1")
        rows = {}

        def others_serve():
            rows.update((row["name"], row["serving"]) for row in self.stargate.json("services"))
            return rows["html"] == rows["cut"] == rows["chat"] == 1
        wait_until("all serve but the one that hangs", others_serve)
        self.assertEqual(rows["hang"], 0, "it has answered nothing")
        status, body = self.ask(model="hang", heads={"X-Stainless-Timeout": "1"})
        self.assertEqual((status, json.loads(body)["error"]["code"]), (503, "server_is_overloaded"), body)
        status, body = self.ask(model="html")
        self.assertEqual((status, json.loads(body)["error"]["code"]), (502, "bad_gateway"), body)
        status, frames = self.ask(model="cut")
        self.assertEqual(status, 200)
        self.assertEqual(json.loads(frames[-1])["error"]["code"], "stream_interrupted", frames)
        self.assertEqual(self.ask()[1][-1], "[DONE]")
        self.stargate.run("cancel", "hang")
        wait_until("the one that hangs is gone", lambda: self.stargate.job("hang")["state"] == "cancelled")

    def test_one_that_says_it_sleeps_and_serves_on_gets_no_request(self):
        self.serve("{min: 0, max: 1, standby: 1}", self.engine("deaf_sleep"))
        wait_until("it is taken for asleep", lambda: self.service()["asleep"] == 1)
        self.assertEqual(self.ask()[1][-1], "[DONE]")
        self.assertEqual(len(self.events("woken")), 1, "it was woken before it was asked")


class Lenders(Serving):
    """A training has all four GPUs; a service without a replica needs one of them."""

    def lend(self, run):
        self.train(run, "1..4", "checkpoint: {grace: 1s}\n")
        self.assertEqual(self.stargate.job("train")["gpus"], 4)
        self.serve("{min: 0, max: 1}", "date +%s%N > started; " + ENGINE)
        status, frames = wait_until("the gateway has heard of it", lambda: (it := self.ask())[0] != 404 and it)
        self.assertEqual((status, frames[-1]), (200, "[DONE]"), frames)
        lent = self.events("lent")
        self.assertEqual([(loan["lender"], loan["gpus"]) for loan in lent], [(self.stargate.job("train")["id"], 1)])
        wait_until("training goes on with three", lambda: (row := self.stargate.job("train"))["state"] == "running" and
                   row["gpus"] == 3)
        self.assertEqual(self.events("requeued"), [], "it is no failure of the training")

    def test_one_that_ignores_the_warning_is_ended_at_its_deadline(self):
        self.lend("trap '' TERM; while :; do sleep 0.05; done")

    def test_one_that_dies_while_it_writes_its_checkpoint_lends_all_the_same(self):
        self.lend("trap 'echo half > checkpoint.part; kill -9 $$' TERM; while :; do sleep 0.05; done")
        self.assertEqual(self.lines("checkpoint.part"), ["half"])

    def test_what_it_left_behind_is_gone_before_its_gpus_are_given_on(self):
        beat = "while :; do date +%s%N >> beat-$STARGATE_GENERATION; sleep 0.05; done"
        self.lend(f"setsid sh -c '{beat}' < /dev/null > /dev/null 2>&1 & "
                  "trap 'exit 0' TERM; while :; do sleep 0.05; done")
        last = max(int(line) for line in self.lines("beat-1") if len(line) == 19)
        self.assertGreater(int(self.lines("started")[0]), last)
        wait_until("the smaller generation has one too", lambda: self.lines("beat-2"))


class Gateways(Serving):
    def test_what_was_under_way_when_one_was_killed_is_counted_as_lost_and_nothing_twice(self):
        self.serve("1")
        wait_until("it serves", lambda: self.service()["serving"] == 1)
        for _ in range(3):
            self.assertEqual(self.ask(tokens=4)[0], 200)
        self.assertEqual(self.used(), (3, 12, 0, 0))
        peer = self.begin(tokens=100_000)
        wait_until("a stream is under way", lambda: self.used()[3] == 1)
        self.end_gateway()
        peer.close()
        wait_until("it has been told its routes", self.serves)
        self.assertEqual(self.used(), (4, 16, 1, 0))

    def test_a_replica_that_was_draining_at_one_that_died_sleeps_without_waiting_for_its_limit(self):
        self.serve("{min: 1, max: 2}", more="max_concurrency: 4\ndrain: 120s\n")
        wait_until("one serves", lambda: self.service()["serving"] == 1)
        first = self.begin(tokens=100_000)
        wait_until("a stream is under way", lambda: self.used() and self.used()[3] == 1)
        self.ask_many(8)
        wait_until("two serve", lambda: self.service()["serving"] == 2)
        second = self.begin(tokens=100_000)  # at the other: it has less to do
        wait_until("one is to sleep when its stream has ended", lambda: self.events("sleep_begun"))
        self.assertEqual(self.events("seated"), [])
        self.end_gateway()
        first.close()
        second.close()
        wait_until("it sleeps", lambda: self.events("seated"))
        wait_until("the other serves", self.serves)

    def end_gateway(self):
        """kill -9, and until the next is there."""
        pid = int((self.state / "gateway.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        wait_until("another gateway serves", lambda: (self.state / "gateway.pid").exists() and
                   int((self.state / "gateway.pid").read_text() or pid) != pid)

    def used(self):
        """(requests, completion tokens, lost, in flight)"""
        rows = self.stargate.json("usage")
        return tuple(rows[0][name] for name in ("requests", "completion_tokens", "lost", "in_flight")) if rows else ()

    def serves(self):
        """Once answered, it is asked no more."""
        try:
            return self.ask(tokens=4)[0] == 200
        except OSError:
            return False


if __name__ == "__main__":
    unittest.main()
