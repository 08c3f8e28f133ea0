"""The words of a measurement: its rows with their limits, and the figures that it found."""

import dataclasses
import statistics
import typing


@dataclasses.dataclass(frozen=True)
class Row:
    """One promise. `limit` is a number, or a function of this machine's mean fsync in microseconds; None: no promise."""
    id: str
    unit: str
    limit: typing.Any = None
    at_most: bool = True  # the limit is an upper bound, else a lower one

    def limit_at(self, fsync_us):
        return self.limit(fsync_us) if callable(self.limit) else self.limit

    def figure(self, value, command, repetitions, series=None):
        return Figure(self, value, command, spread_of(repetitions), series or [])


@dataclasses.dataclass(frozen=True)
class Figure:
    row: Row
    value: float
    command: str   # what was done
    spread: list   # [min, median, max] of the repetitions, in the row's unit
    series: list   # samples over time, where that is what was asked


@dataclasses.dataclass(frozen=True)
class Measurement:
    """`measure()` returns a figure for each of the rows. `is_long`: over a minute, so `make bench` runs it."""
    id: str
    rows: list
    measure: typing.Callable
    is_long: bool = False


def spread_of(values):
    return [min(values), statistics.median(values), max(values)]
