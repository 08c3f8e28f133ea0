"""For programs that run as jobs and may be shrunk, grown or preempted: stop at a step on which all ranks agree, and say how far
the work has come.

    from stargate.elastic import Elastic

    with Elastic(save) as run:                  # save(step) writes a checkpoint; called on every rank
        for step in run.steps(first, last, every=500):
            train_one_step(step)

Works alike without Stargate, on one process or many. Needs PyTorch only where `torch.distributed` is initialised.
"""

import dataclasses
import json
import os
import signal
import sys
import threading
import time
import typing

__all__ = ["Elastic", "Notice", "report_step"]


@dataclasses.dataclass(frozen=True)
class Notice:
    """What is about to happen: docs/job-file.md, "Warnings and progress"."""

    cause: str  # resize preempt cancel time_limit node_drained gang_broken scaled resized
    deadline_unix_ms: typing.Optional[int]
    gpus: int  # the size that follows, in ranks; 0: none does
    generation: int

    @property
    def seconds_left(self) -> float:
        """Until who is still there is killed; never negative."""
        if self.deadline_unix_ms is None:
            return float("inf")
        return max(self.deadline_unix_ms / 1000 - time.time(), 0.0)


def read_notice() -> typing.Optional[Notice]:
    """The newest notice to this program; None: there is none, or it does not run under Stargate."""
    path = os.environ.get("STARGATE_NOTICE")
    try:
        with open(path or "", encoding="utf-8") as file:
            told = json.load(file)
    except (FileNotFoundError, ValueError):
        return None
    return Notice(told["cause"], told.get("deadline_unix_ms"), told.get("gpus", 0), told.get("generation", 0))


def report_step(step: int) -> None:
    """Tells Stargate that the work can go on from `step`: call it when the checkpoint is on the disk. One rank does."""
    path = os.environ.get("STARGATE_PROGRESS")
    if not path:
        return
    part = f"{path}.part"
    with open(part, "w", encoding="ascii") as file:
        file.write(f"{step}\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


class Elastic:
    """A training loop that may be warned.

    `save(step)` writes a checkpoint with which the work goes on at `step`; every rank calls it at the same step, and each writes its
    part, or rank 0 alone does. It has to be durable when it returns.

    Until `steps()` begins, SIGTERM ends the process, as by default: there is nothing to save yet.
    """

    def __init__(self, save: typing.Callable[[int], None]):
        self._save = save
        self._warned = threading.Event()
        self._before: typing.Any = None

    def __enter__(self) -> "Elastic":
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    @property
    def is_warned(self) -> bool:
        """Whether this rank has been warned. Others may not have been yet: `steps()` stops where all agree."""
        return self._warned.is_set()

    def steps(self, first: int, last: int, *, every: int = 0) -> typing.Iterator[int]:
        """`first` to `last - 1`; may be called again for what comes after, as for each epoch. A checkpoint is written after every `every` steps (0: only at the end) and after the last one.

        When any rank is warned, all of them save after the same step and the process ends with status 0, which acknowledges the
        warning. That costs one small all-reduce a step.
        """
        if self._before is None:
            self._before = signal.signal(signal.SIGTERM, lambda *_: self._warned.set())
        for step in range(first, last):
            yield step
            done = step + 1
            leaves = self._any_rank(self.is_warned)
            if leaves or done == last or (every and done % every == 0):
                self._keep(done)
            if leaves:
                self._leave()

    def _keep(self, step: int) -> None:
        self._save(step)
        self._any_rank(False)  # all parts are written
        if int(os.environ.get("RANK", "0")) == 0:
            report_step(step)

    @staticmethod
    def _any_rank(holds: bool) -> bool:
        torch = sys.modules.get("torch")
        if torch is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
            return holds
        backend = torch.distributed.get_backend()
        flag = torch.tensor([int(holds)], device="cuda" if backend == "nccl" else "cpu")
        torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
        return bool(flag.item())

    @staticmethod
    def _leave() -> typing.NoReturn:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # the interpreter's farewell, and the libraries', may take longer than the grace
