"""W1, W2: from the Debian package to the first job's output on a clean Debian 12, and what the package weighs."""

import os
import shutil
import statistics
import subprocess
import time

from harness import ROOT, Failed
from measure import machine
from measure.figure import Measurement, Row

FIRST_OUTPUT = Row("W1", "s", 60)
SIZE = Row("W2-size", "MB", 15)
START_UP = Row("W2-start", "ms", 30)

CLEAN = ROOT / "build" / "debian-root"
# As root in namespaces of its own: no process, mount or port of it is seen outside, or left behind.
ALONE = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "--ipc", "--uts"]
INSTALL_AND_RUN = """
set -eu
mount -t overlay overlay -o lowerdir="$1",upperdir="$2/upper",workdir="$2/work" "$2/root"
mount -t proc proc "$2/root/proc"
mount --rbind /dev "$2/root/dev"
mount -t tmpfs tmpfs "$2/root/run"
ip link set lo up
cp "$3" "$2/root/tmp/stargate.deb"
exec chroot "$2/root" sh -euc '
    date +%s.%N
    dpkg -i /tmp/stargate.deb >/dev/null
    stargate up --detach >/dev/null
    cd /tmp
    stargate run -- hostname
    date +%s.%N
    stargate down --jobs >/dev/null
'
"""


def package():
    subprocess.run(["make", "-s", "package"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    [path] = (ROOT / "build").glob("stargate_*.deb")
    return path


def clean_root():
    """Debian 12 as debootstrap makes it, kept for the next time."""
    if not CLEAN.exists():
        part = CLEAN.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        made = subprocess.run(["debootstrap", "--variant=minbase", "bookworm", str(part)], capture_output=True, text=True,
                              check=False)
        if made.returncode != 0:
            raise Failed(f"debootstrap cannot make a clean Debian 12: {made.stdout.strip().splitlines()[-1:]}")
        part.rename(CLEAN)
    return CLEAN


def first_output(root, deb):
    """Seconds from the package lying there to the first job's output, in a fresh copy of `root`."""
    layers = machine.scratch_folder("package-")
    try:
        for name in ("upper", "work", "root"):
            (layers / name).mkdir()
        done = subprocess.run([*ALONE, "sh", "-c", INSTALL_AND_RUN, "sh", str(root), str(layers), str(deb)], capture_output=True,
                              text=True, check=False)
        lines = done.stdout.split()
        if done.returncode != 0 or len(lines) != 3:
            raise Failed(f"on a clean Debian 12 the package does not do:\n{done.stdout}{done.stderr}")
        if lines[1] != os.uname().nodename:
            raise Failed(f"the job printed {lines[1]}, not the machine's name")
        return float(lines[2]) - float(lines[0])
    finally:
        shutil.rmtree(layers, ignore_errors=True)


def measure_package(rounds=3, starts=50):
    if os.geteuid() != 0:
        raise Failed("a clean Debian is made and entered by root: run this as root")
    deb = package()
    root = clean_root()  # under build/, made once
    took = [first_output(root, deb) for _ in range(rounds)]
    unpacked = machine.scratch_folder("unpacked-")
    try:
        subprocess.run(["dpkg-deb", "-x", str(deb), str(unpacked)], check=True)
        command = [str(unpacked / "usr" / "bin" / "stargate"), "--help"]
        helps = []
        for _ in range(starts):
            begin = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            helps.append((time.perf_counter() - begin) * 1e3)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    megabytes = deb.stat().st_size / 1e6
    return [FIRST_OUTPUT.figure(statistics.median(took), f"{rounds} x `dpkg -i`, `stargate up --detach`, `stargate run -- hostname` "
                                "in a fresh root of debootstrap's minbase", took),
            SIZE.figure(megabytes, "the package as `make package` makes it", [megabytes]),
            START_UP.figure(statistics.median(helps), f"{starts} x `stargate --help` of the package's program, whole process", helps)]


W = Measurement("W1", [FIRST_OUTPUT, SIZE, START_UP], measure_package)
