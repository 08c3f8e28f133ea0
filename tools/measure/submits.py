"""L3, L4: how fast submits are accepted for good while the machine is taken, so that all of them wait."""

import statistics

from measure.figure import Measurement, Row
from measure.plane import Plane

SEQUENTIAL = Row("L3", "1/s", lambda fsync_us: 0.5e6 / fsync_us, at_most=False)
ARRAYS = Row("L4", "jobs/s", 20_000, at_most=False)
BEHIND = "default sandbox, not held, waiting behind a job that has the whole machine"


def measure_sequential(submits=2000):
    with Plane() as plane, plane.client() as client:
        plane.block()
        requests = [plane.submit(f"job{i}") for i in range(submits)]
        times = [client.timed(message) for message in requests]
    return [SEQUENTIAL.figure(1 / statistics.mean(times),
                              f"{submits} job files, one after another over one keep-alive unix-socket connection, {BEHIND}; a bare "
                              "socket client with the requests made beforehand", [1 / took for took in times])]


def measure_arrays(arrays=40, size=1000):
    with Plane() as plane, plane.client() as client:
        plane.block()
        requests = [plane.submit(f"array{i}", size) for i in range(arrays)]
        times = [client.timed(message) for message in requests]
    return [ARRAYS.figure(size * arrays / sum(times), f"{arrays} arrays of {size}, one after another over one connection, {BEHIND}",
                          [size / took for took in times])]


L3 = Measurement("L3", [SEQUENTIAL], measure_sequential)
L4 = Measurement("L4", [ARRAYS], measure_arrays)
