#!/usr/bin/python3
"""OpenAI's own client for node, unchanged, against a real control plane, gateway and replicas: tests/openai.

Skipped where node or npm is not there, or the client cannot be fetched.
"""

import http.client
import json
import os
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
from harness import BINARY, ROOT, Stargate, give_to_job_user, scratch_folder, wait_until  # noqa: E402

SKIPPED = 77
OLDEST_NODE = 20
COPY = ROOT / "build" / "openai"
QUEUE_BYTES = 64 << 20  # of a service that says nothing else

SERVICES = {"chat": ("--tokens-per-s 100", 32), "single": ("--tokens-per-s 20 --max-batch 1", 1),
            "full": ("--tokens-per-s 0.01 --max-batch 1", 1), "breaking": ("--tokens-per-s 100 --fault cut", 8)}


def skip(why):
    print(f"skipped: {why}")
    sys.exit(SKIPPED)


def install():
    """A copy of the tests with the client beside it."""
    if not shutil.which("node") or not shutil.which("npm"):
        skip("node and npm are not here")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").split(".")[0]) < OLDEST_NODE:
        skip(f"node is {version.strip()}, the client wants {OLDEST_NODE} or later")
    COPY.mkdir(parents=True, exist_ok=True)
    for path in (ROOT / "tests" / "openai").iterdir():
        if path.is_file():
            shutil.copy2(path, COPY)
    done = subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--prefer-offline"], cwd=COPY, capture_output=True, text=True,
                          timeout=120, check=False)
    if done.returncode != 0:
        skip("`npm ci` could not fetch the client:\n" + done.stdout + done.stderr)


class Filler:
    """Requests that lie in the queue of a service until it is full; close() lets go of them."""

    def __init__(self, address, key):
        self.address, self.key = address, key
        self.peers = []
        pause = 0
        for size in (1, 16_000_000, 16_000_000, 16_000_000, 16_000_000, QUEUE_BYTES - 64_000_000 - 1000):
            self.send(size)
            pause += 1
        wait_until("they wait", lambda: self.waiting() == pause - 1)
        for _ in range(10):  # what is left of a queue's bytes
            self.send(1)

    def send(self, size):
        peer = http.client.HTTPConnection(self.address, timeout=60)
        body = {"model": "full", "stream": True, "max_tokens": 1000, "messages": [{"role": "user", "content": ""}]}
        body["messages"][0]["content"] = "x" * (size - len(json.dumps(body)))
        peer.request("POST", "/v1/chat/completions", json.dumps(body), {"Authorization": f"Bearer {self.key}"})
        self.peers.append(peer)

    def waiting(self):
        peer = http.client.HTTPConnection(self.address, timeout=20)
        peer.request("GET", "/metrics")
        for line in peer.getresponse().read().decode().splitlines():
            if line.startswith('stargate_gateway_queued{service="full"}'):
                return int(float(line.split()[-1]))
        return 0

    def close(self):
        for peer in self.peers:
            peer.close()


def serve(stargate, folder):
    for name, (options, concurrency) in SERVICES.items():
        (folder / f"{name}.yaml").write_text(
            f"kind: service\nname: {name}\nmodel: mock\nmax_concurrency: {concurrency}\n"
            f"run: exec {BINARY} mock-engine --port $PORT {options}\n")
        stargate.run("submit", str(folder / f"{name}.yaml"))
    (folder / "away.yaml").write_text("kind: service\nname: away\nrun: exec sleep 3600\n")
    stargate.run("submit", str(folder / "away.yaml"))
    wait_until("all but one serve", lambda: sum(row["serving"] for row in stargate.json("services")) == len(SERVICES))


def main():
    install()
    folder = scratch_folder("stargate-openai-")
    give_to_job_user(folder)
    stargate = Stargate(folder / "state", cpu_gpus=len(SERVICES) + 1)
    try:
        stargate.up()
        serve(stargate, folder)
        key = stargate.run("token", "create", "--gateway").stdout.strip()
        address = (stargate.state / "gateway.address").read_text().strip()
        filler = Filler(address, key)
        environment = {**os.environ, "OPENAI_BASE_URL": f"http://{address}/v1", "OPENAI_API_KEY": key, "OPENAI_MODEL": "chat",
                       **{f"OPENAI_MODEL_{name.upper()}": name for name in ("single", "full", "breaking", "away")}}
        status = subprocess.run(["npm", "test"], cwd=COPY, env=environment, timeout=180, check=False).returncode
        filler.close()
        return status
    finally:
        stargate.down("--jobs")
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
