"""Streams of completions as a client sees them, many on one thread, with next to no cost of its own."""

import json
import selectors
import socket
import time

from harness import Failed


def request_bytes(model, tokens, key=None, stream=True):
    """The bytes of a small chat request."""
    body = json.dumps({"model": model, "stream": stream, "max_tokens": tokens,
                       "messages": [{"role": "user", "content": "hello"}]}).encode()
    lines = ["POST /v1/chat/completions HTTP/1.1", "Host: localhost", "Content-Type: application/json",
             f"Content-Length: {len(body)}", *([f"Authorization: Bearer {key}"] if key else [])]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def connect(address):
    host, port = address.split(":")
    peer = socket.create_connection((host, int(port)), timeout=30)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer


class Stream:
    def __init__(self, peer):
        self.peer = peer
        self.sent = None    # instants, in seconds of the epoch
        self.first = None


class Streams:
    """Some streams at one server; they are broken off when this is closed."""

    def __init__(self, address, key, model):
        self.address, self.key, self.model = address, key, model
        self.streams = []
        self.selector = selectors.DefaultSelector()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for stream in self.streams:
            stream.peer.close()
        self.selector.close()

    def begin(self, count, tokens):
        """Connections first, then all requests at once."""
        request = request_bytes(self.model, tokens, self.key)
        new = [Stream(connect(self.address)) for _ in range(count)]
        for stream in new:
            self.selector.register(stream.peer, selectors.EVENT_READ, stream)
        for stream in new:
            stream.sent = time.time()
            stream.peer.sendall(request)
        self.streams += new

    def read_until_all_have_begun(self, seconds=60):
        deadline = time.monotonic() + seconds
        while any(stream.first is None for stream in self.streams):
            if time.monotonic() > deadline:
                raise Failed("streams did not begin in time")
            for key, _ in self.selector.select(0.1):
                stream = key.data
                got = stream.peer.recv(65536)
                now = time.time()
                if not got:
                    if stream.first is None:
                        raise Failed("a stream ended before it began")
                    self.selector.unregister(stream.peer)
                elif stream.first is None and b"data: " in got:
                    stream.first = now
                elif stream.first is None and not got.startswith(b"HTTP/1.1 200"):
                    raise Failed(f"a stream was answered {got[:300]!r}")
