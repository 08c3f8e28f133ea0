"""What the end-to-end tests of services share: a control plane with a gateway's key, a service, a training, requests."""

import concurrent.futures
import http.client
import json

from machine import Machine
from harness import BINARY, wait_until

ENGINE = f"exec {BINARY} mock-engine --port $PORT --tokens-per-s 100 --max-batch 4"


class Serving(Machine):
    def setUp(self):
        super().setUp()
        self.stargate.up()
        self.key = self.stargate.run("token", "create", "--gateway").stdout.strip()

    def gateway(self):
        return (self.state / "gateway.address").read_text().strip()

    def serve(self, replicas="{min: 1, max: 3, standby: 2}", run=ENGINE, more="max_concurrency: 4\n", name="chat"):
        path = self.folder / f"{name}.yaml"
        path.write_text(f"kind: service\nname: {name}\nmodel: mock\nreplicas: {replicas}\n{more}"
                        f"run: {json.dumps(run)}\n")
        return self.stargate.run("submit", str(path))

    def train(self, run="trap 'exit 0' TERM; while :; do sleep 0.05; done", gpus="1..3", more=""):
        path = self.folder / "train.yaml"
        path.write_text(f"kind: training\nname: train\ngpus: {gpus}\n{more}run: {json.dumps(run)}\n")
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

    def ask(self, tokens=8, stream=True, key=None, timeout=60, model="chat", heads=()):
        """One request; (status, frames or body)."""
        peer = http.client.HTTPConnection(self.gateway(), timeout=timeout)
        try:
            peer.request("POST", "/v1/chat/completions",
                         json.dumps({"model": model, "stream": stream, "max_tokens": tokens,
                                     "messages": [{"role": "user", "content": "hello"}]}),
                         {"Authorization": f"Bearer {key or self.key}", "Content-Type": "application/json",
                          **dict(heads)})
            reply = peer.getresponse()
            body = reply.read().decode()
            if reply.status != 200 or not stream:
                return reply.status, body
            return 200, [line[6:] for line in body.splitlines() if line.startswith("data: ")]
        finally:
            peer.close()

    def begin(self, tokens, model="chat"):
        """A stream that is under way; its connection."""
        peer = http.client.HTTPConnection(self.gateway(), timeout=60)
        self.addCleanup(peer.close)
        peer.request("POST", "/v1/chat/completions",
                     json.dumps({"model": model, "stream": True, "max_tokens": tokens, "messages": []}),
                     {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"})
        return peer

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
