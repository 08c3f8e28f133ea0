"""Services, end to end: real replicas (mock engines) behind the real gateway, on GPUs that a training lends them."""

import concurrent.futures
import os
import signal
import time
import unittest

from machine import shim_of
from harness import is_alive, process_table, wait_until, with_descendants
from serving import Serving


class Services(Serving):
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
