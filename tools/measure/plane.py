"""A control plane to measure, with default settings, and a client that costs next to nothing itself."""

import json
import shutil
import socket
import time

import harness
from measure import machine


class Plane:
    """A control plane on the scratch disk, for the length of a `with`. `folder` is where its jobs run."""

    def __init__(self, cpu_gpus=None):
        self.folder = harness.scratch_folder("stargate-bars-")
        harness.give_to_job_user(self.folder)
        self.scratch = machine.scratch_folder("plane-")
        self.scratch.chmod(0o755)
        self.stargate = harness.Stargate(self.scratch / "state", cpu_gpus=cpu_gpus)

    def __enter__(self):
        try:
            self.set_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def set_up(self):
        """What fails here leaves nothing behind."""
        self.stargate.up()

    def __exit__(self, *_):
        self.stargate.down("--jobs")
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.scratch, ignore_errors=True)

    def client(self):
        return Client(self.stargate.state / "stargate.sock")

    def submit(self, name, count=1, more=""):
        """The request that submits a job file, as the CLI posts it."""
        text = f"kind: batch\nname: {name}\ncount: {count}\n{more}run: 'true'\n"
        return request("POST", "/api/v1/jobs", {"yaml": text, "file": f"{name}.yaml", "folder": str(self.folder)})

    def block(self):
        """Gives the whole machine to one job, so that whatever is submitted from now on waits as in a real queue."""
        gpus = sum(node["gpus"] for node in self.stargate.json("fleet"))
        path = self.folder / "blocker.yaml"
        path.write_text(f"kind: batch\nname: blocker\ngpus: {gpus}\nranks: per_node\nrun: exec sleep 7200\n")
        self.stargate.run("submit", str(path))
        self.stargate.wait_for("blocker", "running")


def request(method, target, body=None, headers=None):
    """The bytes of a request, made before the clock starts."""
    payload = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Content-Type: application/json",
             f"Content-Length: {len(payload)}", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + payload


class Client:
    """One keep-alive connection to the control plane's unix socket. Python's http.client costs some hundred
    microseconds a request, as much as an fsync; this is a send and a receive."""

    def __init__(self, path, timeout=60):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(str(path))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def ask(self, message):
        """Sends a request and reads its whole reply: (status, body)."""
        self.socket.sendall(message)
        got = b""
        while (end := got.find(b"\r\n\r\n")) < 0:
            got += self._receive()
        head = got[:end].lower()
        at = head.index(b"content-length:") + 15
        length = int(head[at:head.find(b"\r", at) if b"\r" in head[at:] else None])
        while len(got) < end + 4 + length:
            got += self._receive()
        return int(head[9:12]), got[end + 4:]

    def _receive(self):
        piece = self.socket.recv(65536)
        if not piece:
            raise ConnectionResetError("the control plane closed the connection")
        return piece

    def timed(self, message):
        """Seconds that an accepted submit takes."""
        begin = time.perf_counter()
        status, body = self.ask(message)
        took = time.perf_counter() - begin
        if status != 201:
            raise harness.Failed(f"a submit was answered {status}: {body.decode()}")
        return took
