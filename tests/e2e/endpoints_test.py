"""Services of servers that Stargate did not start: routed, limited and metered, and never stopped."""

import concurrent.futures
import http.client
import json
import os
import signal
import socket
import subprocess
import time
import unittest

from machine import Machine
from harness import BINARY, Failed, is_alive, wait_until


class Engine:
    """A server that somebody else runs: a mock engine at one port, for as long as the test wants."""

    def __init__(self, *options):
        self.options = options
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = None
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        self.process = subprocess.Popen([str(BINARY), "mock-engine", "--port", str(self.port), *self.options],
                                        stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert "mock engine" in line, line

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def is_alive(self):
        return self.process.poll() is None

    def metrics(self):
        peer = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        peer.request("GET", "/metrics")
        lines = peer.getresponse().read().decode().splitlines()
        peer.close()
        return {line.split()[0]: int(line.split()[1]) for line in lines}

    def under_way(self):
        metrics = self.metrics()
        return metrics["vllm:num_requests_running"] + metrics["vllm:num_requests_waiting"]

    def answered(self):
        """Since it was started."""
        return self.metrics()["vllm:request_success_total"]


class Endpoints(Machine):
    def setUp(self):
        super().setUp()
        self.engines = []
        self.addCleanup(lambda: [engine.kill() for engine in self.engines if engine.is_alive()])
        self.stargate.up()
        self.key = self.stargate.run("token", "create", "--gateway").stdout.strip()

    def engine(self, *options):
        self.engines.append(Engine(*options))
        return self.engines[-1]

    def submit_service(self, *engines, more="", check=True):
        path = self.folder / "gpt.yaml"
        urls = ", ".join(engine if isinstance(engine, str) else engine.url for engine in engines)
        path.write_text(f"kind: service\nname: gpt\nmodel: mock\nendpoints: [{urls}]\n{more}")
        return self.stargate.run("submit", str(path), check=check)

    def service(self):
        rows = self.stargate.json("services")
        return rows[0] if rows else None

    def serving(self, count):
        wait_until(f"{count} endpoints serve", lambda: (row := self.service()) and row["serving"] == count)

    def ask(self, tokens=8, timeout=60):
        peer = http.client.HTTPConnection((self.state / "gateway.address").read_text().strip(), timeout=timeout)
        try:
            peer.request("POST", "/v1/chat/completions",
                         json.dumps({"model": "gpt", "max_tokens": tokens,
                                     "messages": [{"role": "user", "content": "hello"}]}),
                         {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"})
            reply = peer.getresponse()
            return reply.status, reply.read().decode()
        finally:
            peer.close()

    def ask_many(self, count, at_once):
        """Every request must be answered."""
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            answers = list(pool.map(lambda _: self.ask(), range(count)))
        self.assertEqual({status for status, _ in answers}, {200}, answers)

    def test_requests_are_routed_and_metered_and_nothing_runs(self):
        first, second = self.engine(), self.engine()
        done = self.submit_service(first, second)
        self.assertIn("requests go to its 2 endpoints", done.stdout)
        self.serving(2)
        self.ask_many(20, at_once=4)
        self.assertEqual(first.answered() + second.answered(), 20)
        self.assertGreater(min(first.answered(), second.answered()), 0)
        job = self.stargate.job("gpt")
        self.assertEqual((job["state"], job["gpus"], job["attempt"], job["nodes"]), ("running", 0, 0, []))
        self.assertEqual([row["gpus_free"] for row in self.stargate.json("fleet")], [4])
        self.assertEqual(list((self.state / "attempts").iterdir()) if (self.state / "attempts").exists() else [], [])
        usage = wait_until("the usage is told", lambda: [row for row in self.stargate.json("usage")
                                                          if row["requests"] == 20])
        self.assertEqual((usage[0]["tenant"], usage[0]["service"]), ("default", "gpt"))
        self.assertGreaterEqual(usage[0]["completion_tokens"], 20)
        self.assertIn("requests go to 2 of its 2 endpoints", self.stargate.run("why", "gpt").stdout)
        self.assertIn(f"{first.url} serves", self.stargate.run("show", "gpt").stdout)
        self.assertEqual(self.stargate.run("twin", "replay", str(self.state)).returncode, 0)

    def test_no_more_requests_at_once_than_max_concurrency(self):
        engine = self.engine("--tokens-per-s", "100", "--max-batch", "64")
        self.submit_service(engine, more="max_concurrency: 2\n")
        self.serving(1)
        most = 0
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(self.ask, 30) for _ in range(8)]
            while not all(answer.done() for answer in answers):
                most = max(most, engine.under_way())
        self.assertEqual([answer.result()[0] for answer in answers], [200] * 8)
        self.assertEqual(most, 2)

    def test_one_that_dies_eats_no_request_and_is_taken_up_again(self):
        first, second = self.engine(), self.engine()
        self.submit_service(first, second)
        self.serving(2)
        first.kill()
        self.ask_many(30, at_once=3)
        self.assertEqual(second.answered(), 30)
        self.serving(1)
        seen = {each["url"]: each for each in self.service()["endpoints"]}
        self.assertFalse(seen[first.url]["serving"])
        self.assertIn("refused", seen[first.url]["detail"])
        self.assertIn(f"{first.url}: Connection refused", self.stargate.run("why", "gpt").stdout)
        first.start()
        self.serving(2)
        self.ask_many(20, at_once=4)
        self.assertGreater(first.answered(), 0)

    def test_with_none_left_requests_wait_until_one_is_back(self):
        engine = self.engine()
        self.submit_service(engine)
        self.serving(1)
        engine.kill()
        self.serving(0)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(self.ask)
            time.sleep(0.3)
            self.assertFalse(answer.done())
            engine.start()
            self.assertEqual(answer.result()[0], 200)

    def test_cancel_ends_the_routing_and_leaves_the_servers(self):
        engine = self.engine()
        self.submit_service(engine)
        self.serving(1)
        self.assertEqual(self.stargate.run("cancel", "gpt").stdout, "gpt is cancelled\n")
        wait_until("the model is not there any more", lambda: self.ask()[0] == 404)
        self.assertEqual(self.stargate.job("gpt")["state"], "cancelled")
        self.assertIsNone(self.service())
        self.assertTrue(engine.is_alive())
        self.submit_service(engine)  # its name is free again
        self.serving(1)
        self.assertEqual(self.ask()[0], 200)

    def test_a_hold_takes_it_out_until_its_release(self):
        engine = self.engine()
        self.submit_service(engine, more="held: true\n")
        self.assertEqual((self.stargate.job("gpt")["state"], self.stargate.job("gpt")["reason"]), ("waiting", "held"))
        self.stargate.run("release", "gpt")
        self.serving(1)
        self.assertEqual(self.ask()[0], 200)
        self.stargate.run("hold", "gpt")
        with self.assertRaises((TimeoutError, socket.timeout)):
            self.ask(timeout=1)
        self.stargate.run("release", "gpt")
        self.assertEqual(self.ask()[0], 200)

    def test_neither_the_death_of_the_control_plane_nor_of_the_gateway_ends_it(self):
        engine = self.engine()
        self.submit_service(engine)
        self.serving(1)
        self.stargate.kill()
        self.assertEqual(self.ask()[0], 200)  # as the gateway was told last
        self.stargate.up()
        self.serving(1)
        self.assertEqual(self.ask()[0], 200)
        self.assertEqual(self.stargate.job("gpt")["state"], "running")
        os.kill(int((self.state / "gateway.pid").read_text()), signal.SIGKILL)

        def serves():
            try:
                return self.ask()[0] == 200
            except OSError:
                return False
        wait_until("another gateway serves", serves)

    def test_down_leaves_the_gateway_and_down_jobs_ends_the_routing(self):
        engine = self.engine()
        self.submit_service(engine)
        self.serving(1)
        gateway = int((self.state / "gateway.pid").read_text())
        self.assertIn("1 running job goes on", self.stargate.down().stdout)
        self.assertEqual(self.ask()[0], 200)
        self.stargate.up()
        self.assertIn("1 running job was ended: gpt", self.stargate.down("--jobs").stdout)
        wait_until("the gateway has gone", lambda: not is_alive(gateway))
        self.assertTrue(engine.is_alive())

    def test_what_cannot_be_is_refused_with_its_line(self):
        done = self.submit_service("https://127.0.0.1:8000", check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("gpt.yaml:4: endpoints: `https://127.0.0.1:8000` is reached by TLS", done.stderr)
        done = self.submit_service("http://127.0.0.1:8000", more="run: x\n", check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("gpt.yaml:5: run: is of replicas that Stargate starts", done.stderr)
        with self.assertRaises(Failed):
            self.stargate.run("show", "gpt")


if __name__ == "__main__":
    unittest.main()
