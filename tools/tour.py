#!/usr/bin/python3
"""The tour: real jobs on this machine, from an empty state to a replay of its own log.

It only submits, cancels and kills; every decision it shows is Stargate's own, and the table at the end is read from
`stargate events`.
"""

import argparse
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import time

from harness import (BINARY, ROOT, Failed, Stargate, copy_for_jobs, give_to_job_user, process_table, scratch_folder, shims_of,
                     wait_until, with_descendants)

KEPT_STATE = ROOT / "build" / "tour-state"  # of `make run`, which stays up on it

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


def wait_for_training(stargate, ranks, seconds, after=0, step=0):
    """Waits until training with so many ranks has reached a step, and tells how it goes meanwhile; returns (step, loss, ranks)
    of its newest line. `after`: lines that it had printed before are passed over."""
    told = time.monotonic()

    def newest():
        nonlocal told
        rows = steps_of(training_log(stargate))[after:]
        if rows and time.monotonic() - told >= 3:
            told = time.monotonic()
            say(f"  training: step {rows[-1][0]}, loss {rows[-1][1]}, {rows[-1][2]} ranks")
        found = [row for row in rows if row[2] == ranks and row[0] >= step]
        return found[-1] if found else None
    return wait_until(f"training makes step {step} or later with {ranks} ranks", newest, seconds, pause=0.3)


def processes_by_job(stargate):
    """{job name: {(pid, start)}} of the processes of each running job: its shim, its init, its ranks; not what comes and
    goes within half a second."""
    table = process_table()
    shims = shims_of(stargate.state, table)
    found = {row["name"]: {(pid, table[pid].start) for pid in with_descendants(shims.get(row["attempt"], []), table)}
             for row in stargate.jobs() if row["state"] == "running"}
    time.sleep(0.5)
    return {name: still_there(own) for name, own in found.items()}


def still_there(processes):
    table = process_table()
    return {(pid, start) for pid, start in processes if pid in table and table[pid].start == start}


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


def take_down(stargate):
    """Ends the control plane on this state and all its jobs, also when only the jobs are left."""
    done = stargate.down("--jobs")
    if done.returncode != 0:
        raise Failed(f"`stargate down --jobs --state {stargate.state}` ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def clear_kept_state(stargate):
    """The state of an earlier `make run` goes, and what still runs on it first."""
    if not stargate.state.exists():
        return
    if stargate.is_up() or shims_of(stargate.state):
        say(f"an earlier tour still runs on {stargate.state}: taking it down with its jobs")
    take_down(stargate)
    shutil.rmtree(stargate.state)


def tour(fast, stay):
    work = scratch_folder("stargate-tour-")  # where the jobs run: any account may enter it
    example = copy_for_jobs(ROOT / "examples" / "tiny-gpt", work / "tiny-gpt")
    give_to_job_user(work)
    if stay:
        stargate = Stargate(KEPT_STATE)
        clear_kept_state(stargate)
    else:
        stargate = Stargate(pathlib.Path(tempfile.mkdtemp(prefix="tour-", dir=ROOT / "build")) / "state")
    try:
        run_steps(stargate, example, fast)
    except BaseException:
        stargate.down("--jobs")
        print(f"\nthe state of this tour is kept in {stargate.state}", file=sys.stderr)
        shutil.rmtree(work, ignore_errors=True)
        raise
    if stay:
        print(f"\nStargate stays up. Try:\n  export STARGATE_STATE={stargate.state} PATH={BINARY.parent}:$PATH\n"
              "  stargate jobs\n  stargate run -- hostname\nand end it with: stargate down --jobs")
        return
    take_down(stargate)
    shutil.rmtree(stargate.state.parent)
    shutil.rmtree(work)


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
    last = wait_for_training(stargate, 4, 120, step=60 if fast else 150)
    if last[1] >= first[1]:
        raise Failed(f"the loss does not fall: it was {first[1]} and is {last[1]}")
    say(f"the loss fell from {first[1]} to {last[1]} in {last[0]} steps")

    step("3. a job of a higher class needs 2 GPUs: training shrinks, the job runs, training grows back")
    urgent = example / "urgent.yaml"
    urgent.write_text("kind: batch\nname: urgent\npriority: production\ngpus: 2\nranks: per_node\ntime: 10m\n"
                      "run: echo \"urgent work on $STARGATE_GPUS GPUs\"; until [ -e work-is-done ]; do sleep 0.2; done\n")
    give_to_job_user(example)
    printed = len(steps_of(training_log(stargate)))
    show(stargate, "submit", str(urgent))
    stargate.wait_for("urgent", "running")
    shrunk = wait_for_training(stargate, 2, 60, printed)
    say(f"training goes on with 2 ranks from its latest step: step {shrunk[0]}, loss {shrunk[1]}")

    step("4. why must another job wait?")
    waiting = example / "big.yaml"
    waiting.write_text("kind: batch\nname: big\npriority: opportunistic\ngpus: 4\ntime: 10m\nrun: hostname\n")
    give_to_job_user(example)
    show(stargate, "submit", str(waiting))
    show(stargate, "why", "big")

    step("5. kill -9 the control plane while both jobs run, and start it again")
    before = {row["name"]: row["attempt"] for row in stargate.jobs() if row["state"] == "running"}
    processes = processes_by_job(stargate)
    if set(processes) != {"tiny-gpt", "urgent"} or not all(processes.values()):
        raise Failed(f"both jobs were expected to run, each with processes; found { {name: len(of) for name, of in processes.items()} }")
    stargate.kill()
    for name, own in processes.items():
        say(f"the control plane is dead; {name}: {len(still_there(own))} of {len(own)} processes go on")
        if still_there(own) != own:
            raise Failed(f"processes of {name} died with the control plane")
    stargate.up()
    after = {row["name"]: row["attempt"] for row in stargate.jobs() if row["name"] in before}
    if after != before:
        raise Failed(f"not adopted: attempts were {before} and are {after}")
    if still_there(processes["tiny-gpt"]) != processes["tiny-gpt"]:
        raise Failed("processes of tiny-gpt died when the control plane came back")
    say(f"the new control plane goes on with the same attempts ({', '.join(f'{name} {id}' for name, id in after.items())}) "
        "and the same processes")
    show(stargate, "jobs")

    step("6. the urgent job ends, training grows back to 4 ranks")
    printed = len(steps_of(training_log(stargate)))
    time.sleep(2 if fast else 10)
    (example / "work-is-done").touch()
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
