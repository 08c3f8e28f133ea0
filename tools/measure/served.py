"""A control plane with one service `chat` on mock engines, its gateway's process, and load on it."""

import json
import pathlib
import re
import subprocess

from harness import BINARY, Failed, process_table, wait_until
from measure.plane import Plane


class Served(Plane):
    """`replicas` mock engines with these options behind the gateway."""

    def __init__(self, engine, replicas=1, concurrency=8):
        super().__init__(cpu_gpus=max(replicas, 1))
        self.engine, self.replicas, self.concurrency = engine, replicas, concurrency

    def set_up(self):
        super().set_up()
        path = self.folder / "chat.yaml"
        path.write_text(f"kind: service\nname: chat\nmodel: mock\nreplicas: {self.replicas}\nmax_concurrency: {self.concurrency}\n"
                        f"run: exec {BINARY} mock-engine --port $PORT {self.engine}\n")
        self.stargate.run("submit", str(path))
        wait_until("all replicas serve", lambda: self.stargate.json("services")[0]["serving"] == self.replicas)
        self.key = self.stargate.run("token", "create", "--gateway").stdout.strip()
        self.address = (self.stargate.state / "gateway.address").read_text().strip()
        self.gateway = int((self.stargate.state / "gateway.pid").read_text())

    def engine_addresses(self):
        """Where the mock engines of this state listen."""
        ports = [event["port"] for event in self.stargate.events() if event["type"] == "started"]
        return [f"127.0.0.1:{port}" for port in ports]

    def engine_pids(self):
        found = []
        for pid in process_table():
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
            if "mock-engine" in words and f"127.0.0.1:{words[words.index('--port') + 1]}" in self.engine_addresses():
                found.append(pid)
        return found

    def start_load(self, *options):
        return subprocess.Popen([str(BINARY), "bench-serve", "--url", f"http://{self.address}/v1", "--key", self.key, "--model",
                                 "chat", "-o", "json", *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    def load(self, *options):
        """What `bench-serve` with these options tells."""
        with self.start_load(*options) as bench:
            return told_by(bench)


def told_by(bench, seconds=900):
    said, _ = bench.communicate(timeout=seconds)
    if bench.returncode != 0:
        raise Failed(f"bench-serve ended with {bench.returncode}")
    return json.loads(said)


def cpu_us(pid):
    """CPU that all threads of a process have had, in us."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()) / 1e3


def resident_bytes(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024
