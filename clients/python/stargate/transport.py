"""HTTP to a control plane that may be away for a moment: over its unix socket, or with a token over loopback TCP."""

import contextlib
import http.client
import json
import os
import select
import socket
import time
import typing
import urllib.parse


class StargateError(Exception):
    """The control plane said no, or did not answer.

    `status` is that of HTTP, 0 when nothing answered; `code` is a word for programs (docs/api.md); the text says what is
    wrong and what helps.
    """

    def __init__(self, status: int, code: str, message: str, remedy: str = ""):
        super().__init__(f"{message}; {remedy}" if remedy else message)
        self.status = status
        self.code = code
        self.retry_after: typing.Optional[float] = None  # seconds
        self.message = message
        self.remedy = remedy


class _OverUnixSocket(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _is_closed_there(connection: http.client.HTTPConnection) -> bool:
    """Whether an idle connection has ended on the other side, as after a restart or a minute: nothing else comes unasked."""
    if connection.sock is None:
        return False
    look = select.poll()
    look.register(connection.sock, select.POLLIN)
    return bool(look.poll(0))


def default_state() -> str:
    """The state folder that the command line would take: `STARGATE_STATE`, else the account's own place."""
    named = os.environ.get("STARGATE_STATE")
    if named:
        return named
    return "/var/lib/stargate" if os.geteuid() == 0 else os.path.expanduser("~/.local/state/stargate")


class Transport:
    """Asks one control plane. Whoever is away, overloaded or going down is asked again for `patience` seconds.

    Used by one thread.
    """

    def __init__(self, state: typing.Optional[str], url: typing.Optional[str], token: typing.Optional[str], patience: float,
                 timeout: float):
        self._socket = os.path.join(state or default_state(), "stargate.sock")
        self._address = urllib.parse.urlsplit(url) if url else None
        if self._address and (self._address.scheme != "http" or not self._address.hostname):
            raise ValueError(f"{url} is no address of a control plane; write http://127.0.0.1:7433")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.patience = patience
        self._timeout = timeout
        self._kept: typing.Optional[http.client.HTTPConnection] = None

    @property
    def where(self) -> str:
        return self._address.geturl() if self._address else self._socket

    def close(self) -> None:
        if self._kept:
            self._kept.close()
            self._kept = None

    def ask(self, method: str, target: str, body: typing.Any = None, key: typing.Optional[str] = None,
            may_repeat: bool = False) -> typing.Any:
        """The reply's JSON. Sent again only where that cannot do a thing twice: reads, what carries an idempotency `key`, what
        the caller says of (`may_repeat`), and what was not taken. Raises StargateError."""
        may_repeat = may_repeat or method == "GET" or key is not None
        return self._patiently(lambda: self._ask_once(method, target, body, key), may_repeat)

    @contextlib.contextmanager
    def stream(self, target: str, accept: str = "*/*") -> typing.Iterator[http.client.HTTPResponse]:
        """A reply that is read while it comes, over a connection of its own. It ends early, with http.client's or the
        socket's own exceptions, when the control plane goes away."""
        connection = self._connect(None)
        try:
            def begin() -> http.client.HTTPResponse:
                connection.close()
                connection.request("GET", target, headers={**self._headers, "Accept": accept})
                reply = connection.getresponse()
                if reply.status != 200:
                    self._refuse(reply.status, reply.read(), reply.getheader("Retry-After"))
                return reply

            yield self._patiently(begin, True)
        finally:
            connection.close()

    def _connect(self, timeout: typing.Optional[float]) -> http.client.HTTPConnection:
        if self._address:
            return http.client.HTTPConnection(str(self._address.hostname), self._address.port or 80,
                                              timeout=timeout or self._timeout)
        return _OverUnixSocket(self._socket, timeout or self._timeout)

    def _ask_once(self, method: str, target: str, body: typing.Any, key: typing.Optional[str]) -> typing.Any:
        headers = dict(self._headers)
        if key:
            headers["Idempotency-Key"] = key
        text = None if body is None else json.dumps(body).encode()
        if self._kept and _is_closed_there(self._kept):
            self.close()
        self._kept = self._kept or self._connect(None)
        try:
            self._kept.request(method, target, text, headers)
            reply = self._kept.getresponse()
            content = reply.read()
        except BaseException:
            self.close()
            raise
        if reply.status >= 400:
            self._refuse(reply.status, content, reply.getheader("Retry-After"))
        return json.loads(content) if "json" in (reply.getheader("Content-Type") or "") else content

    @staticmethod
    def _refuse(status: int, content: bytes, retry_after: typing.Optional[str] = None) -> typing.NoReturn:
        try:
            error = json.loads(content)["error"]
            refusal = StargateError(status, error["code"], error["message"], error["remedy"])
        except (ValueError, KeyError, TypeError):
            refusal = StargateError(status, "unknown", f"the reply was {status} without a reason")
        refusal.retry_after = float(retry_after) if retry_after else None
        raise refusal

    def _patiently(self, attempt: typing.Callable[[], typing.Any], may_repeat: bool) -> typing.Any:
        deadline = time.monotonic() + self.patience
        pause = 0.05
        while True:
            try:
                return attempt()
            except StargateError as error:
                # What is answered so was not done.
                if error.status not in (429, 503) or time.monotonic() + pause > deadline:
                    raise
                wait = max(pause, error.retry_after or 0.0)
            except (OSError, http.client.HTTPException) as error:
                never_sent = isinstance(error, (ConnectionRefusedError, FileNotFoundError))
                if not (may_repeat or never_sent) or time.monotonic() + pause > deadline:
                    raise StargateError(0, "unreachable", f"no control plane answers at {self.where}: {error}",
                                        "start it: stargate up") from error
                wait = pause
            time.sleep(min(wait, max(deadline - time.monotonic(), 0.0)))
            pause = min(pause * 2, 2.0)
