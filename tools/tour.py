#!/usr/bin/python3
"""The tour: real jobs on this machine, from an empty state to a replay of its own log.

It only submits, cancels and kills; every decision it shows is Stargate's own, and the table at the end is read from
`stargate events`.
"""

import argparse
import os
import pathlib
import re
import shutil
import signal
import sys
import time

from harness import BINARY, ROOT, Failed, Stargate, copy_for_jobs, give_to_job_user, is_alive, scratch_folder, wait_until

STARTED = time.monotonic()


def say(text=""):
    print(f"[{time.monotonic() - STARTED:6.1f} s] {text}" if text else "", flush=True)


def show(stargate, *words):
    print(f"           $ stargate {' '.join(words)}", flush=True)
    for line in stargate.run(*words).stdout.rstrip("\n").splitlines():
        print(f"           {line}", flush=True)


def step(title):
    print(flush=True)
    say(f"--- {title}")


def training_log(stargate):
    return stargate.run("logs", "tiny-gpt", check=False).stdout


def steps_of(log):
    return [(int(m[1]), float(m[2]), int(m[3])) for m in re.finditer(r"step (\d+) loss ([\d.]+) ranks (\d+)", log)]


def wait_for_training(stargate, ranks, seconds, after=0):
    """Waits until training with so many ranks has printed a step, and returns (step, loss, ranks) of its newest one."""
    def newest():
        found = [row for row in steps_of(training_log(stargate))[after:] if row[2] == ranks]
        return found[-1] if found else None
    return wait_until(f"training makes steps with {ranks} ranks", newest, seconds, pause=0.3)


def resize_rows(events, attempt):
    """The story of each resize of this attempt: warned, checkpointed, resized, running again."""
    rows = []
    for event in events:
        if event.get("attempt") != attempt:
            continue
        if event["type"] == "warned" and event["ending"]["cause"] == "resize":
            rows.append({"warned": event})
        elif rows and event["type"] == "part_ended" and "resized" not in rows[-1]:
            rows[-1]["checkpointed"] = event
        elif rows and event["type"] == "resized" and "resized" not in rows[-1]:
            rows[-1]["resized"] = event
        elif rows and event["type"] == "running" and "running" not in rows[-1]:
            rows[-1]["running"] = event
    return rows


def print_table(rows):
    print(f"           {'':8}  {'GPUs':>7}  {'warned':>26}  {'checkpointed':>21}  {'regrouped':>10}  {'running again':>13}")
    for row in rows:
        if "running" not in row:
            continue
        resized = row["resized"]
        before, after = resized["gpus_before"], resized["gpus"]
        begin = row["warned"]["at"]
        clock = time.strftime("%H:%M:%S", time.localtime(begin / 1e6)) + f".{begin // 1000 % 1000:03d}"

        def later(event):
            return f"+{(event['at'] - begin) / 1e3:.0f} ms"
        why = f"for job {row['warned']['for_job']}" if row["warned"].get("for_job") else "spare GPUs"
        print(f"           {'shrink' if after < before else 'growth':8}  {before:>3} → {after}  {clock + ' ' + why:>26}"
              f"  {later(row['checkpointed']) + ' step ' + str(resized['step']):>21}  {later(resized):>10}"
              f"  {later(row['running']):>13}")


def tour(fast, stay):
    folder = scratch_folder("stargate-tour-")
    example = copy_for_jobs(ROOT / "examples" / "tiny-gpt", folder / "tiny-gpt")
    give_to_job_user(folder)
    stargate = Stargate(ROOT / "build" / "tour-state", cpu_gpus=4)
    shutil.rmtree(stargate.state, ignore_errors=True)
    try:
        run_steps(stargate, example, fast)
    except BaseException:
        if (stargate.state / "stargate.pid").exists():
            stargate.down("--jobs")
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True) if not stay else None
    if stay:
        print(f"\nStargate stays up. Try:\n  export STARGATE_STATE={stargate.state} PATH={BINARY.parent}:$PATH\n"
              "  stargate jobs\n  stargate run -- hostname\nand end it with: stargate down --jobs")
    else:
        stargate.down("--jobs")


def run_steps(stargate, example, fast):
    step("1. start the control plane on 4 GPUs of type cpu")
    stargate.up()
    show(stargate, "fleet")

    step("2. submit an elastic training of a small GPT, 1 to 4 GPUs")
    show(stargate, "submit", str(example / "train.yaml"))
    row = stargate.wait_for("tiny-gpt", "running")
    attempt = row["attempt"]
    first = wait_for_training(stargate, 4, 90)
    say(f"training runs with {first[2]} ranks: step {first[0]}, loss {first[1]}")
    target = 60 if fast else 150
    def far_enough():
        rows = steps_of(training_log(stargate))
        return rows and rows[-1][0] >= target and rows
    rows = wait_until("the loss falls", far_enough, 120, pause=0.5)
    say(f"the loss fell from {rows[0][1]} to {rows[-1][1]} in {rows[-1][0]} steps")
    if rows[-1][1] >= rows[0][1]:
        raise Failed("the loss does not fall")

    step("3. a job of a higher class needs 2 GPUs: training shrinks, the job runs, training grows back")
    seconds = 12 if fast else 20
    urgent = example / "urgent.yaml"
    urgent.write_text("kind: batch\nname: urgent\npriority: production\ngpus: 2\nranks: per_node\ntime: 10m\n"
                      f"run: echo \"urgent work on $STARGATE_GPUS GPUs\"; sleep {seconds}\n")
    give_to_job_user(example)
    printed = len(steps_of(training_log(stargate)))
    show(stargate, "submit", str(urgent))
    stargate.wait_for("urgent", "running")
    shrunk = wait_for_training(stargate, 2, 60, printed)
    say(f"training goes on with 2 ranks from its latest step: now at {shrunk[0]}")

    step("4. why must another job wait?")
    waiting = example / "big.yaml"
    waiting.write_text("kind: batch\nname: big\npriority: opportunistic\ngpus: 4\ntime: 10m\nrun: hostname\n")
    give_to_job_user(example)
    show(stargate, "submit", str(waiting))
    show(stargate, "why", "big")

    step("5. kill -9 the control plane while both jobs run, and start it again")
    before = {row["name"]: row["attempt"] for row in stargate.jobs() if row["state"] == "running"}
    shims = shims_of(stargate)
    stargate.kill()
    say("the control plane is dead; the processes of the jobs:")
    alive = [pid for pid in shims if is_alive(pid)]
    say(f"{len(alive)} of {len(shims)} shims run on")
    if alive != shims:
        raise Failed("a job died with the control plane")
    stargate.up()
    after = {row["name"]: row["attempt"] for row in stargate.jobs() if row["state"] == "running"}
    lost = {name for name in before if before[name] != after.get(name) and name != "urgent"}
    if lost:
        raise Failed(f"not adopted: {sorted(lost)}")
    say(f"the new control plane goes on with the same attempts: {after}")
    show(stargate, "jobs")

    step("6. the urgent job ends, training grows back to 4 ranks")
    printed = len(steps_of(training_log(stargate)))
    stargate.wait_for("urgent", "succeeded", seconds=90)
    show(stargate, "logs", "urgent")
    grown = wait_for_training(stargate, 4, 90, printed)
    say(f"training runs with 4 ranks again: step {grown[0]}, loss {grown[1]}")

    step("7. cancel what is left")
    stargate.run("cancel", "big")
    stargate.run("cancel", "tiny-gpt")
    stargate.wait_for("tiny-gpt", "cancelled")
    show(stargate, "jobs")

    step("8. the resizes, as the log has them (stargate events -o jsonl)")
    rows = [row for row in resize_rows(stargate.events(), attempt) if "running" in row]
    print_table(rows)
    sizes = [(row["resized"]["gpus_before"], row["resized"]["gpus"]) for row in rows]
    if (4, 2) not in sizes or (2, 4) not in sizes:
        raise Failed(f"a shrink and a growth were expected, the log has {sizes}")

    step("9. replay: decide the whole log again from its inputs and compare every fact")
    done = stargate.run("twin", "replay", str(stargate.state))
    print("           " + done.stdout.strip().replace("\n", "\n           "))
    say("the tour is over")


def shims_of(stargate):
    pids = []
    for record in sorted((stargate.state / "attempts").glob("*")):
        for proc in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                command = (proc / "cmdline").read_bytes()
                cwd = os.readlink(proc / "cwd")
            except OSError:
                continue
            if b"stargate-shim" in command and cwd == str(record.resolve()):
                pids.append(int(proc.name))
    return pids


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="shorter waits, two minutes at most")
    parser.add_argument("--stay", action="store_true", help="leave Stargate running at the end")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        tour(options.fast, options.stay)
    except Failed as failure:
        print(f"\nthe tour failed: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
