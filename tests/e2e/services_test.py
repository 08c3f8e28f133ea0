"""Services, end to end: real replicas (mock engines) behind the real gateway, on GPUs that a training lends them."""

import concurrent.futures
import http.client
import json
import os
import signal
import time
import unittest

from machine import Machine, shim_of
from harness import BINARY, is_alive, process_table, wait_until, with_descendants

ENGINE = f"exec {BINARY} mock-engine --port $PORT --tokens-per-s 100 --max-batch 4"


class Services(Machine):
    def setUp(self):
        super().setUp()
        self.stargate.up()
        self.key = self.stargate.run("token", "create", "--gateway").stdout.strip()

    def gateway(self):
        return (self.state / "gateway.address").read_text().strip()

    def serve(self, replicas="{min: 1, max: 3, standby: 2}", run=ENGINE, more="max_concurrency: 4\n"):
        path = self.folder / "chat.yaml"
        path.write_text(f"kind: service\nname: chat\nmodel: mock\nreplicas: {replicas}\n{more}run: {json.dumps(run)}\n")
        return self.stargate.run("submit", str(path))

    def train(self):
        path = self.folder / "train.yaml"
        path.write_text("kind: training\nname: train\ngpus: 1..3\n"
                        "run: \"trap 'exit 0' TERM; while :; do sleep 0.05; done\"\n")
        self.stargate.run("submit", str(path))
        self.stargate.wait_for("train", "running")

    def service(self):
        rows = self.stargate.json("services")
        return rows[0] if rows else None

    def at_rest(self, serving=1, asleep=2, training=3, seconds=40):
        def holds():
            row = self.service()
            gpus = self.stargate.job("train")["gpus"] if training else 0
            return row and (row["serving"], row["asleep"], gpus) == (serving, asleep, training)
        wait_until(f"{serving} serve, {asleep} sleep and training has {training} GPUs", holds, seconds, pause=0.1)

    def ask(self, tokens=8, stream=True, key=None, timeout=60):
        """One request; (status, frames or body)."""
        peer = http.client.HTTPConnection(self.gateway(), timeout=timeout)
        try:
            peer.request("POST", "/v1/chat/completions",
                         json.dumps({"model": "chat", "stream": stream, "max_tokens": tokens,
                                     "messages": [{"role": "user", "content": "hello"}]}),
                         {"Authorization": f"Bearer {key or self.key}", "Content-Type": "application/json"})
            reply = peer.getresponse()
            body = reply.read().decode()
            if reply.status != 200 or not stream:
                return reply.status, body
            return 200, [line[6:] for line in body.splitlines() if line.startswith("data: ")]
        finally:
            peer.close()

    def ask_many(self, count, tokens=40):
        """`count` streams at once; each must come whole."""
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            answers = list(pool.map(lambda _: self.ask(tokens), range(count)))
        for status, frames in answers:
            self.assertEqual(status, 200, frames)
            self.assertEqual(frames[-1], "[DONE]", frames[-3:])
        return answers

    def events(self, *types):
        return [event for event in self.stargate.events() if event["type"] in types]

    def test_a_burst_borrows_from_training_and_gives_back(self):
        self.train()
        self.serve()
        self.at_rest()
        self.assertEqual(self.events("lent"), [], "a standby is born without a loan")
        self.ask_many(20)
        wait_until("both loans are noted", lambda: len(self.events("lent")) == 2)
        self.at_rest()
        lent, returned = self.events("lent"), self.events("returned")
        self.assertEqual(sorted((e["lender"], e["borrower"], e["gpus"]) for e in lent),
                         sorted((e["lender"], e["borrower"], e["gpus"]) for e in returned))
        train = self.stargate.job("train")
        self.assertEqual({e["lender"] for e in lent}, {train["id"]})
        self.assertEqual(self.stargate.run("twin", "replay", str(self.state)).returncode, 0)

    def test_no_stream_breaks_when_the_control_plane_dies_in_a_burst(self):
        self.train()
        self.serve()
        self.at_rest()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            burst = pool.submit(self.ask_many, 16, 200)
            time.sleep(0.5)
            self.stargate.kill()
            time.sleep(1)
            self.stargate.up()
            burst.result()
        self.at_rest()
        self.assertEqual(len(self.events("lent")), len(self.events("returned")))

    def test_a_gateway_that_dies_is_started_again_at_its_address(self):
        self.serve("1")
        self.at_rest(asleep=0, training=0)
        address = self.gateway()
        self.assertEqual(self.ask()[0], 200)
        before = int((self.state / "gateway.pid").read_text())
        os.kill(before, signal.SIGKILL)
        wait_until("another gateway serves", lambda: (text := self.pid_text()) and int(text) != before)
        self.assertEqual(self.gateway(), address)

        def serves():
            try:
                return self.ask()[0] == 200
            except OSError:
                return False
        wait_until("it has been told its routes", serves)

    def pid_text(self):
        try:
            return (self.state / "gateway.pid").read_text().strip()
        except FileNotFoundError:
            return ""

    def test_a_gateway_outlives_the_control_plane_and_goes_with_the_last_service(self):
        self.serve("1")
        self.at_rest(asleep=0, training=0)
        gateway = int(self.pid_text())
        self.assertEqual(self.stargate.down().returncode, 0)
        self.assertTrue(is_alive(gateway))
        self.assertEqual(self.ask()[0], 200)
        self.stargate.up()
        self.assertEqual(int(self.pid_text()), gateway)
        self.assertEqual(self.stargate.down("--jobs").returncode, 0)
        wait_until("the gateway has gone", lambda: not is_alive(gateway))

    def test_a_revoked_key_opens_nothing_within_a_second(self):
        self.serve("1")
        self.at_rest(asleep=0, training=0)
        self.assertEqual(self.ask(key="sk-stargate-wrong")[0], 401)
        key = self.stargate.run("token", "create", "--gateway", "--tenant", "default", "--name", "app").stdout.strip()
        wait_until("the new key opens the service", lambda: self.ask(key=key)[0] == 200, 2)
        row = next(row for row in self.stargate.json("token", "list") if row["name"] == "app")
        self.assertTrue(row["gateway"])
        self.stargate.run("token", "revoke", row["id"])
        wait_until("it opens nothing", lambda: self.ask(key=key)[0] == 401, 1)

    def test_scales_to_zero_and_holds_who_comes_meanwhile(self):
        self.serve("{min: 0, max: 1}")
        time.sleep(0.5)
        self.assertEqual((self.service()["wanted"], self.service()["serving"]), (0, 0))
        self.assertEqual(self.ask()[0], 200)
        wait_until("nothing runs again", lambda: self.service()["serving"] == 0 and
                   self.stargate.job("chat")["state"] == "waiting", 30)
        self.assertEqual(self.ask()[0], 200)

    def test_a_replica_that_dies_is_replaced(self):
        self.serve("{min: 1, max: 2, standby: 1}")
        self.at_rest(asleep=1, training=0)
        attempt = self.stargate.job("chat[0]")["attempt"]
        below = with_descendants([shim_of(self.state, attempt)], process_table())
        engines = [pid for pid in below if "mock-engine" in command_of(pid)]
        self.assertEqual(len(engines), 1)
        os.kill(engines[0], signal.SIGKILL)
        wait_until("the requeue is noted", lambda: self.events("requeued"))
        self.assertEqual(self.ask()[0], 200)
        self.at_rest(asleep=1, training=0)

    def test_what_cannot_be_is_refused(self):
        done = self.submit_service("replicas: {min: 3, max: 2}\nrun: x\n")
        self.assertEqual(done.returncode, 2)
        self.assertIn("chat.yaml:3: replicas: `max` is smaller than `min`", done.stderr)
        done = self.submit_service("gpus: 9\nrun: x\n")
        self.assertEqual(done.returncode, 2)

    def submit_service(self, more):
        path = self.folder / "chat.yaml"
        path.write_text(f"kind: service\nname: chat\n{more}")
        return self.stargate.run("submit", str(path), check=False)


def command_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


if __name__ == "__main__":
    unittest.main()
