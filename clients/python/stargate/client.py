"""The client: what the API's routes do (docs/api.md), as methods."""

import dataclasses
import http.client
import json
import os
import pathlib
import struct
import time
import typing
import urllib.parse
import uuid

from .transport import StargateError, Transport

__all__ = ["Accepted", "Client", "Event", "Job", "Service", "StargateError", "Why"]

ENDED = ("succeeded", "failed", "cancelled")


_Row = typing.TypeVar("_Row")


def _of(kind: typing.Type[_Row], row: typing.Dict[str, typing.Any]) -> _Row:
    """Takes from a reply the members that the class knows, and passes over others: later versions may add some."""
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in row.items() if name in known})


@dataclasses.dataclass(frozen=True)
class Job:
    """One job, or one element of an array, as it stands. Instants are microseconds since the Unix epoch, None where not yet."""

    id: int
    name: str  # `NAME[i]` for an element of an array
    kind: str
    tenant: str
    state: str  # waiting starting running stopping unknown succeeded failed cancelled
    reason: typing.Optional[str]  # why it waits, or is told to end
    gpus: float
    attempt: int
    generation: int
    exit_status: typing.Optional[int]
    priority: str
    owner: int
    task: int
    count: int
    step: int  # it can resume from, -1 if none
    submitted_at: int
    started_at: typing.Optional[int]
    ended_at: typing.Optional[int]
    nodes: typing.List[str]
    detail: str
    charged_gpu_s: float = 0.0  # GPU-seconds, over all attempts
    lost_gpu_s: float = 0.0  # of these, computed for nothing
    recovered: int = 0  # starts that followed a failure of the infrastructure
    preempted: int = 0  # starts that followed its making room

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


@dataclasses.dataclass(frozen=True)
class Accepted:
    """What a submit was given, durably: `count` jobs, of which the first has `id`."""

    id: int
    count: int
    name: str


@dataclasses.dataclass(frozen=True)
class Service:
    """Replicas that answer requests at the gateway."""

    id: int
    name: str
    tenant: str
    model: str
    min: int
    max: int
    standby: int
    wanted: int
    serving: int
    starting: int
    asleep: int
    ending: int
    waiting: int
    lent_gpus: float
    demand: typing.Optional[int]  # replicas that requests and tokens fill
    over_limit: bool
    trouble: typing.Optional[str]


@dataclasses.dataclass(frozen=True)
class Why:
    """All that blocks a job: `reasons` have `why`, `message` and `remedy`; `holders` have what it lacks."""

    id: int
    name: str
    state: str
    reasons: typing.List[typing.Dict[str, typing.Any]]
    holders: typing.List[typing.Dict[str, typing.Any]]
    starts_by: typing.Optional[int]


Event = typing.Dict[str, typing.Any]
Ref = typing.Union[int, str]


class Client:
    """One control plane. Without arguments the one that the command line would ask.

    `state` is its state folder; or `url` (`http://127.0.0.1:7433`) and `token`. While nobody answers, as in a restart, or the
    control plane has too much at once, it is asked again for `patience` seconds. Each reply has to come within `timeout` seconds.
    All methods raise StargateError. Used by one thread.
    """

    def __init__(self, state: typing.Union[str, "os.PathLike[str]", None] = None, *, url: typing.Optional[str] = None,
                 token: typing.Optional[str] = None, patience: float = 30.0, timeout: float = 60.0):
        self._transport = Transport(os.fspath(state) if state is not None else None, url, token, patience, timeout)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    # Handing in

    def submit(self, file: typing.Union[str, "os.PathLike[str]"], *, key: typing.Optional[str] = None) -> Accepted:
        """Hands in a job file (docs/job-file.md). It is accepted once, however often the reply is lost on its way; give a
        `key` of your own to have that across programs too."""
        path = pathlib.Path(file)
        return self.submit_text(path.read_text(encoding="utf-8"), folder=path.absolute().parent, name=path.name, key=key)

    def submit_text(self, yaml: str, *, folder: typing.Union[str, "os.PathLike[str]", None] = None, name: str = "job.yaml",
                    key: typing.Optional[str] = None) -> Accepted:
        """The same of a text. `folder` is where it would lie, the current one by default."""
        return self._submit({"yaml": yaml, "file": name, "folder": os.path.abspath(folder or "."),
                             "environment": dict(os.environ)}, key)

    def run(self, argv: typing.Sequence[str], *, folder: typing.Union[str, "os.PathLike[str]", None] = None,
            key: typing.Optional[str] = None, **fields: typing.Any) -> Accepted:
        """Hands in one command, as `stargate run` does, with the words of a job file: `run(["python3", "train.py"], gpus="1..4",
        time="2h", priority="research", after=["prepare"])`."""
        return self._submit({"argv": list(argv), "folder": os.path.abspath(folder or "."), "environment": dict(os.environ),
                             **fields}, key)

    def _submit(self, body: typing.Dict[str, typing.Any], key: typing.Optional[str]) -> Accepted:
        return _of(Accepted, self._transport.ask("POST", "/api/v1/jobs", body, key or uuid.uuid4().hex))

    # Looking

    def job(self, ref: Ref) -> Job:
        """By its id, `NAME[i]`, or its name: of several the newest unfinished one."""
        return _of(Job, self._transport.ask("GET", _job(ref)))

    def jobs(self, *, active: bool = False, name: typing.Optional[str] = None, state: typing.Optional[str] = None,
             limit: int = 1000) -> typing.List[Job]:
        """Newest first, those of the history included."""
        query: typing.Dict[str, typing.Any] = {"limit": limit, "active": int(active), **({"name": name} if name else {}),
                 **({"state": state} if state else {})}
        rows = self._transport.ask("GET", "/api/v1/jobs?" + urllib.parse.urlencode(query))
        return [_of(Job, row) for row in rows]

    def history(self, *, since: typing.Optional[float] = None, until: typing.Optional[float] = None,
                owner: typing.Optional[int] = None, tenant: typing.Optional[str] = None, limit: int = 1000) -> typing.List[Job]:
        """Jobs that have ended, the last one first: since then, and before `until`, in seconds since 1970; of this uid, or this
        tenant and those below it."""
        query: typing.Dict[str, typing.Any] = {"limit": limit}
        query |= {name: round(at * 1e6) for name, at in (("since", since), ("until", until)) if at is not None}
        query |= {name: value for name, value in (("owner", owner), ("tenant", tenant)) if value is not None}
        rows = self._transport.ask("GET", "/api/v1/history?" + urllib.parse.urlencode(query))
        return [_of(Job, row) for row in rows]

    def why(self, ref: Ref) -> Why:
        """What blocks it."""
        return _of(Why, self._transport.ask("GET", _job(ref) + "/why"))

    def services(self) -> typing.List[Service]:
        return [_of(Service, row) for row in self._transport.ask("GET", "/api/v1/services")]

    def fleet(self) -> typing.List[typing.Dict[str, typing.Any]]:
        """Nodes, with the members that src/api/openapi.json has of `Node`."""
        return list(self._transport.ask("GET", "/api/v1/fleet"))

    def usage(self) -> typing.List[typing.Dict[str, typing.Any]]:
        """What tenants have used of services."""
        return list(self._transport.ask("GET", "/api/v1/usage"))

    # Waiting

    def wait(self, job: typing.Union[Accepted, Ref], *, timeout: typing.Optional[float] = None,
             check: bool = False) -> typing.List[Job]:
        """Until all that was handed in together has ended; returns its rows, by task. Of a name of an array all its elements.

        `check`: raises StargateError (code `failed`) unless all have succeeded. Raises TimeoutError after `timeout` seconds; the work
        goes on then. Asks at most 20 times a second, and after some seconds once a second.
        """
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        rows = []
        pause = 0.05
        for ref in self._ids_of(job):
            while not (row := self.job(ref)).has_ended:
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"{row.name} (job {row.id}) is {row.state} after {timeout:g} s")
                time.sleep(min(pause, max(deadline - time.monotonic(), 0.0)))
                pause = min(pause * 1.2, 1.0)
            if check and row.state != "succeeded":
                raise StargateError(200, "failed", f"{row.name} (job {row.id}) {row.state}: {row.detail or row.exit_status}",
                                    f"look at its output: stargate logs {row.id}")
            rows.append(row)
        return rows

    def _ids_of(self, job: typing.Union[Accepted, Ref]) -> typing.Iterable[int]:
        if isinstance(job, Accepted):
            return range(job.id, job.id + job.count)
        row = self.job(job)
        if row.count > 1 and job == row.name.rsplit("[", 1)[0]:
            return range(row.id - row.task, row.id - row.task + row.count)
        return [row.id]

    def logs(self, ref: Ref, *, follow: bool = False) -> typing.Iterator[bytes]:
        """What it printed, standard output and error as they came; with `follow` until it ends, also over a restart of the control
        plane, no byte twice."""
        resume: typing.Dict[str, str] = {}
        attempt = 0
        patience = _Patience(self._transport.patience)
        while True:
            query = urllib.parse.urlencode({"frames": 1, "follow": int(follow), **resume})
            try:
                with self._transport.stream(f"{_job(ref)}/logs?{query}") as reply:
                    for frame in _frames(reply):
                        if frame.kind in (1, 2, 5):  # others come of each connection, however soon it breaks
                            patience.begin_anew()
                        if frame.kind in (1, 2):
                            resume = {"resume": f"0:{attempt}:{frame.offset}"}
                            yield frame.data
                        elif frame.kind == 3:
                            ref = json.loads(frame.data)["id"]  # its name may be a newer job's when this one breaks off
                        elif frame.kind == 4:
                            attempt = json.loads(frame.data)["attempt"]
                return
            except (OSError, http.client.HTTPException) as error:
                patience.lose(error, self._transport.where)

    def events(self, *, first: int = 1, follow: bool = False) -> typing.Iterator[Event]:
        """The log's facts from sequence number `first` on, as docs/events.md has them; with `follow` for ever, also over a restart of
        the control plane, none twice."""
        patience = _Patience(self._transport.patience)
        while True:
            query = urllib.parse.urlencode({"from": first, "format": "jsonl", "follow": int(follow)})
            try:
                with self._transport.stream(f"/api/v1/events?{query}") as reply:
                    for line in reply:
                        patience.begin_anew()
                        if line.strip():
                            event = json.loads(line)
                            first = event["seq"] + 1
                            yield event
                if not follow:
                    return
                patience.lose(ConnectionResetError("the stream ended"), self._transport.where)
            except (OSError, http.client.HTTPException) as error:
                patience.lose(error, self._transport.where)

    # Acting

    def cancel(self, ref: Ref) -> typing.List[int]:
        """Ends it, warned first; a name means all unfinished elements of its array. Returns the ids of those."""
        return self._act(ref, "cancel")

    def hold(self, ref: Ref) -> typing.List[int]:
        """It does not start until it is released."""
        return self._act(ref, "hold")

    def release(self, ref: Ref) -> typing.List[int]:
        return self._act(ref, "release")

    def resize(self, ref: Ref, gpus: int) -> typing.List[int]:
        """Asks for a size within its range; 0: as many as can be had."""
        return self._act(ref, "resize", {"gpus": gpus})

    def edit(self, ref: Ref, *, priority: typing.Optional[str] = None, time: typing.Optional[str] = None,
             gpus: typing.Union[int, str, None] = None, after: typing.Optional[typing.Sequence[str]] = None) -> typing.List[int]:
        """Changes what it, or its array as a whole, asks for; what is not said stays. `after=[]`: it comes after nothing."""
        said = {"priority": priority, "time": time, "gpus": gpus, "after": None if after is None else list(after)}
        change = {name: value for name, value in said.items() if value is not None}
        return list(self._transport.ask("PATCH", _job(ref), change)["jobs"])

    def _act(self, ref: Ref, verb: str, body: typing.Any = None) -> typing.List[int]:
        # Done twice it is done once, where it is the same job: when the newest of a name has ended, the name means an older one.
        is_id = isinstance(ref, int) or ref.rstrip("[]").isdecimal()
        return list(self._transport.ask("POST", f"{_job(ref)}/{verb}", body, may_repeat=is_id)["jobs"])


def _job(ref: Ref) -> str:
    return "/api/v1/jobs/" + urllib.parse.quote(str(ref), safe="")


class _Patience:
    """How long a stream that breaks off is taken up again: so many seconds from the first break after something came. One that
    held for longer than that, with nothing to say, has not been breaking either."""

    def __init__(self, seconds: float):
        self._seconds = seconds
        self.begin_anew()

    def begin_anew(self) -> None:
        self._first = self._last = float("-inf")  # breaks

    def lose(self, error: Exception, where: str) -> None:
        now = time.monotonic()
        if now - self._last > self._seconds:
            self._first = now
        self._last = now
        if now - self._first >= self._seconds:
            raise StargateError(0, "unreachable", f"the stream from {where} broke off: {error}",
                                "start the control plane: stargate up") from error
        time.sleep(0.1)


class _Frame(typing.NamedTuple):
    kind: int
    offset: int  # to read on from
    data: bytes


_FRAME_HEAD = struct.Struct("<IBIIQ")  # docs/api.md, "Frames"


def _frames(reply: http.client.HTTPResponse) -> typing.Iterator[_Frame]:
    while head := reply.read(_FRAME_HEAD.size):
        if len(head) < _FRAME_HEAD.size:
            raise http.client.IncompleteRead(head)
        size, kind, _task, _rank, offset = _FRAME_HEAD.unpack(head)
        data = reply.read(size)
        if len(data) < size:
            raise http.client.IncompleteRead(data)
        yield _Frame(kind, offset, data)
