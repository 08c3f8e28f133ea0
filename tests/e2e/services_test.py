"""Services, end to end: real replicas (mock engines) behind the real gateway, on GPUs that a training lends them."""

import concurrent.futures
import contextlib
import http.client
import http.server
import os
import signal
import threading
import time
import unittest

from machine import shim_of
from harness import BINARY, is_alive, process_table, wait_until, with_descendants
from serving import Serving


class Services(Serving):
    def test_a_burst_borrows_from_training_and_gives_back(self):
        self.train()
        self.serve()
        self.at_rest()
        self.assertEqual(self.events("lent"), [], "a standby is born without a loan")
        self.ask_many(20)
        wait_until("both loans are noted", lambda: len(self.events("lent")) == 2)
        wait_until("those who borrow serve", lambda: self.service()["serving"] == 3)
        self.ask_many(12)  # the burst may be over by then
        self.at_rest()
        lent, returned = self.events("lent"), self.events("returned")
        self.assertEqual(sorted((e["lender"], e["borrower"], e["gpus"]) for e in lent),
                         sorted((e["lender"], e["borrower"], e["gpus"]) for e in returned))
        train = self.stargate.job("train")
        self.assertEqual({e["lender"] for e in lent}, {train["id"]})
        answered = {(e["job"], e["attempt"]) for e in self.events("answered")}
        self.assertLessEqual({(e["borrower"], e["attempt"]) for e in lent}, answered, "each that woke has given its first token")
        shrunk = [e for e in self.events("resized") if e["borrower"]]
        self.assertTrue(shrunk)
        for event in shrunk:
            self.assertEqual(event["lender"], train["id"])
            self.assertIn(event["borrower"], {e["borrower"] for e in lent})
        self.assertEqual(self.stargate.run("twin", "replay", str(self.state)).returncode, 0)

    def test_a_replica_stays_whose_tokens_the_other_could_not_compute(self):
        run = f"exec {BINARY} mock-engine --port $PORT --tokens-per-s 100 --batch-tokens-per-s 200"
        self.serve("{min: 1, max: 2, standby: 1}", run, "max_concurrency: 8\n")
        self.at_rest(asleep=1, training=0)
        self.assertIsNone(self.service()["replica_tokens_per_s"])
        begin = time.monotonic()
        self.ask_many(24, 60)  # so that one is full for a while
        seen = 24 * 60 / (time.monotonic() - begin)  # of one replica, and of two for a part of it
        row = self.service()
        self.assertEqual(row["wanted"], 2)
        self.assertTrue(0.4 * seen <= row["replica_tokens_per_s"] <= 220, (seen, row))
        over = threading.Event()
        answered = []

        def asks_on():
            while not over.is_set():
                self.ask(60)
                answered.append(time.monotonic())
        # Four streams of 100 tokens a second: half of one replica's places, and twice what it computes.
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(asks_on) for _ in range(4)]
            try:
                time.sleep(14)
                row = self.service()
                end = time.monotonic()
            finally:
                over.set()
            for each in asking:
                each.result()
        seen = sum(60 for at in answered if end - 8 <= at < end) / 8
        self.assertEqual((row["wanted"], row["serving"]), (2, 2), row)
        self.assertTrue(0.65 * seen <= row["wanted_tokens_per_s"] <= 1.5 * seen, (seen, row))
        self.assertGreater(row["wanted_tokens_per_s"], row["replica_tokens_per_s"], row)
        self.assertEqual([event for event in self.events("scaled") if event["why"] == "quiet"], [])
        self.assertIn("TOKENS/S", self.stargate.run("services", "-o", "wide").stdout)
        self.at_rest(asleep=1, training=0)

    def test_a_replica_that_is_ended_finishes_its_requests_first(self):
        self.serve("1", more="max_concurrency: 4\ndrain: 20s\n")
        self.at_rest(asleep=0, training=0)
        begun = self.begin(200)  # two seconds
        reply = begun.getresponse()
        self.assertEqual(reply.status, 200)
        first = reply.readline()
        self.stargate.run("cancel", "chat")
        self.assertEqual(self.stargate.job("chat")["state"], "stopping")
        self.stargate.kill()  # who comes next waits for them, too
        self.stargate.up()
        body = (first + reply.read()).decode()
        self.assertNotIn("stream_interrupted", body)
        self.assertTrue(body.rstrip().endswith("data: [DONE]"), body[-200:])
        self.stargate.wait_for("chat", "cancelled")
        ended = self.events("part_ended")[-1]["at"] - self.events("warned")[-1]["at"]
        self.assertLess(ended, 15e6, "drained, it is not kept until the deadline")

    def test_a_replica_with_an_endless_request_is_ended_within_its_drain(self):
        self.serve("1", more="max_concurrency: 4\ndrain: 3s\n")
        self.at_rest(asleep=0, training=0)
        begun = self.begin(100_000)
        reply = begun.getresponse()
        self.stargate.run("cancel", "chat")
        lines = list(iter(reply.readline, b""))  # it ends without its last chunk
        self.assertTrue(any(b"stream_interrupted" in line for line in lines), lines[-3:])
        self.stargate.wait_for("chat", "cancelled")

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

    def engine_of(self, name):
        """The mock engine of this replica: its pid and its port."""
        attempt = self.stargate.job(name)["attempt"]
        below = with_descendants([shim_of(self.state, attempt)], process_table())
        engine, = [pid for pid in below if command_of(pid).startswith(str(BINARY))]
        port, = [event["port"] for event in self.events("started") if event["attempt"] == attempt]
        return engine, port

    def test_a_port_that_is_taken_is_not_given_to_a_replica_and_who_has_it_is_said(self):
        with answering(21001):
            self.serve("1")
            wait_until("who has the port is said", lambda: "listens on port 21001" in (self.service()["trouble"] or ""))
            said = f"(pid {os.getpid()}) of user {os.getuid()} listens on port 21001 already"
            self.assertIn(said, self.stargate.job("chat")["detail"])
            self.assertIn(said, self.stargate.run("why", "chat").stdout)
            self.assertIn(said, self.stargate.run("services").stdout)
            self.at_rest(asleep=0, training=0)
        self.assertNotEqual(self.engine_of("chat")[1], 21001)
        self.assertIsNone(self.service()["trouble"])
        self.assertEqual(self.ask()[0], 200)

    def test_who_listens_in_a_replicas_place_is_never_taken_for_it(self):
        self.serve("1", run="exec sleep 1000")
        port = wait_until("it runs", lambda: self.events("running") and self.events("started")[0]["port"])
        with answering(port):
            failing = wait_until("it is found out", lambda: self.events("failing"))
        self.assertIn(f"(pid {os.getpid()})", failing[0]["detail"])
        self.assertEqual(self.events("ready"), [])

    def test_a_replica_that_somebody_else_puts_to_sleep_is_woken(self):
        self.serve("1")
        self.at_rest(asleep=0, training=0)
        engine, port = self.engine_of("chat")
        self.assertEqual(asked("POST", port, "/sleep?level=1")[0], 200)
        wait_until("it is awake", lambda: asked("GET", port, "/is_sleeping")[1] == b'{"is_sleeping":false}')
        self.assertEqual(self.ask()[0], 200)
        self.assertEqual(self.engine_of("chat")[0], engine)

    def test_a_replica_that_hangs_is_started_anew(self):
        self.serve("1", more="max_concurrency: 4\ndrain: 1s\n")
        self.at_rest(asleep=0, training=0)
        os.kill(self.engine_of("chat")[0], signal.SIGSTOP)
        failing = wait_until("it is found out", lambda: self.events("failing"), 90, pause=0.5)
        self.assertEqual(failing[0]["detail"], "it does not answer GET /health")
        wait_until("another serves", lambda: len(self.events("ready")) == 2, 60, pause=0.5)
        self.assertEqual(self.ask()[0], 200)

    def test_one_replica_is_not_cancelled_alone(self):
        self.serve("{min: 2, max: 2}")
        done = self.stargate.run("cancel", "chat[1]", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("chat[1] is one replica of the service chat; end the whole service: stargate cancel chat", done.stderr)
        self.at_rest(serving=2, asleep=0, training=0)
        self.assertEqual(self.stargate.run("cancel", "chat").returncode, 0)

    def up_in_vain(self, *options):
        done = self.stargate.run("up", "--detach", "--cpu-gpus", "4", "--listen", "127.0.0.1:0", *options, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        return done.stderr

    def test_a_start_whose_gateway_cannot_start_takes_no_office(self):
        def terms():
            return [line for line in self.stargate.run("doctor", "--store").stdout.splitlines() if "term" in line]
        self.stargate.down()
        before = terms()
        with answering(0) as port:
            self.assertIn("the gateway does not start", self.up_in_vain("--gateway", f"127.0.0.1:{port}"))
        self.assertEqual(terms(), before)
        keys = self.state / "gateway-keys"
        kept = keys.read_text()
        keys.write_text(kept[:-3])
        self.assertIn(f"{keys}:1 is damaged; remove that line", self.up_in_vain("--gateway", "127.0.0.1:0"))
        self.assertEqual(terms(), before)
        self.assertEqual(self.pid_text(), "", "no gateway is left behind")
        keys.write_text(kept)
        self.stargate.up()

    def test_a_gateway_that_ends_is_waited_for_and_its_streams_come_whole(self):
        self.serve("1")
        self.at_rest(asleep=0, training=0)
        gateway = int(self.pid_text())
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            stream = pool.submit(self.ask, 500)
            wait_until("it is under way", lambda: self.service()["demand"] == 1)
            self.stargate.kill()
            os.kill(gateway, signal.SIGTERM)
            self.stargate.up()
            self.assertFalse(is_alive(gateway))
            self.assertEqual(stream.result()[1][-1], "[DONE]")
        self.assertNotEqual(int(self.pid_text()), gateway)
        wait_until("the next one serves", lambda: self.ask()[0] == 200)

    def test_a_gateway_that_serves_for_another_store_is_refused(self):
        self.serve("1")
        self.at_rest(asleep=0, training=0)
        gateway = int(self.pid_text())
        self.stargate.kill()
        for name in ("stargate.db", "stargate.db-wal", "stargate.db-shm"):
            (self.state / name).unlink(missing_ok=True)
        said = self.up_in_vain("--gateway", "127.0.0.1:0")
        self.assertIn(f"(pid {gateway}) serves for another store", said)
        self.assertIn(f"kill {gateway}", said)
        self.assertTrue(is_alive(gateway))
        self.assertEqual(self.ask()[0], 200, "nothing was touched")
        os.kill(gateway, signal.SIGTERM)
        self.stargate.up()
        self.stargate.down()
        self.assertIn("1 running", self.stargate.down("--jobs").stdout, "what this store does not know, too")

    def submit_service(self, more):
        path = self.folder / "chat.yaml"
        path.write_text(f"kind: service\nname: chat\n{more}")
        return self.stargate.run("submit", str(path), check=False)


@contextlib.contextmanager
def answering(port):
    """Somebody who listens on that port (0: any) and answers everything with 200; gives the port."""
    class Yes(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Yes) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def asked(method, port, target):
    """What a server on that port answers: its status and body."""
    peer = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(peer):
        peer.request(method, target)
        reply = peer.getresponse()
        return reply.status, reply.read()


def command_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


if __name__ == "__main__":
    unittest.main()
