"""This machine: where measurements are made, how dear its fsync, a process and a sandbox are today, and who uses memory."""

import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

from harness import ROOT, Failed

BWRAP = ["bwrap", "--unshare-pid", "--unshare-ipc", "--die-with-parent", "--bind", "/", "/", "--dev", "/dev",
         "--proc", "/proc", "--tmpfs", "/tmp", "true"]  # the namespaces of our default sandbox


def scratch():
    """Where every state folder and the calibration's file lie, so that both are on one disk: STARGATE_SCRATCH, else
    build/scratch. Refuses memory, where a durable write is none."""
    folder = pathlib.Path(os.environ.get("STARGATE_SCRATCH", ROOT / "build" / "scratch"))
    folder.mkdir(parents=True, exist_ok=True)
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True, check=True).stdout.strip()
    if kind in ("tmpfs", "ramfs"):
        raise Failed(f"{folder} lies in memory ({kind}), where a durable write costs nothing and proves nothing; "
                     "name a folder on a disk with STARGATE_SCRATCH=DIR")
    return folder


def scratch_folder(prefix):
    return pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=scratch()))


def _fsyncs(count=1000):
    """Microseconds that each durable write of 4 KiB at the end of a file takes."""
    folder = scratch_folder("calibrate-")
    times = []
    with open(folder / "file", "wb", buffering=0) as file:
        for _ in range(count):
            file.write(b"x" * 4096)
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - begin) * 1e6)
    shutil.rmtree(folder)
    return times


def _median_of(command, count):
    took = []
    for _ in range(count):
        begin = time.perf_counter()
        subprocess.run(command, check=True)
        took.append((time.perf_counter() - begin) * 1e6)
    return statistics.median(took)


def calibration():
    """In microseconds: a durable write, a process, a bwrap sandbox."""
    times = _fsyncs()
    return {"fsync_mean_us": statistics.mean(times), "fsync_p50_us": statistics.median(times),
            "spawn_p50_us": _median_of(["true"], 100), "bwrap_p50_us": _median_of(BWRAP, 50)}


def memory_bytes(pids):
    """Of all these processes; a page that several share counts once (PSS)."""
    total = 0
    for pid in pids:
        try:
            for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            continue  # it has ended
    return total
