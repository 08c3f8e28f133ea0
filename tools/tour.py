#!/usr/bin/python3
"""The tour: real jobs on this machine, from an empty state to a replay of its own log.

It only submits, cancels and kills; every decision it shows is Stargate's own. What it tells as it comes, and the tables at
the end, are read from `stargate events` and from what the training prints.
"""

import argparse
import http.client
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from harness import (BINARY, ROOT, Failed, Stargate, copy_for_jobs, give_to_job_user, process_table, scratch_folder, shims_of,
                     wait_until, with_descendants)
from tour_live import PRINTING, Live, counted, ranks, say, show_ranks

KEPT_STATE = ROOT / "build" / "tour-state"  # of `make run`, which stays up on it


def show(stargate, *words, folder=None):
    """A command and its output. folder: where it is typed."""
    with PRINTING:
        print(f"           $ stargate {' '.join(words)}", flush=True)
        for line in stargate.run(*words, cwd=folder).stdout.rstrip("\n").splitlines():
            print(f"           {line}", flush=True)


def step(title):
    with PRINTING:
        print(flush=True)
        say(f"--- {title}")


def training_log(stargate):
    return stargate.run("logs", "tiny-gpt", check=False).stdout


def steps_of(log):
    return [(int(m[1]), float(m[2]), int(m[3])) for m in re.finditer(r"step (\d+) loss ([\d.]+) ranks (\d+)", log)]


def wait_for_training(stargate, count, seconds, after=0, step=0):
    """Waits until training with so many ranks has reached a step, and tells how it goes meanwhile; returns (step, loss, ranks)
    of its newest line. `after`: lines that it had printed before are passed over."""
    told = time.monotonic()

    def newest():
        nonlocal told
        rows = steps_of(training_log(stargate))[after:]
        found = [row for row in rows if row[2] == count and row[0] >= step]
        if rows and not found and time.monotonic() - told >= 3:
            told = time.monotonic()
            say(f"  training: step {rows[-1][0]}, loss {rows[-1][1]}, {counted(rows[-1][2], 'rank')}")
        return found[-1] if found else None
    return wait_until(f"training makes step {step} or later with {counted(count, 'rank')}", newest, seconds, pause=0.3)


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
    step("1. start the control plane: four shares of this machine's CPU count as GPUs, of type cpu")
    stargate.up()
    show(stargate, "fleet")
    with Live(stargate, "tiny-gpt") as live:
        attempt = train_until_the_loss_falls(stargate, example, fast, live)
        higher_class_takes_two(stargate, example, fast)
        with_a_service(stargate, example, fast)

        step("9. cancel what is left")
        show(stargate, "cancel", "tiny-chat")
        show(stargate, "cancel", "tiny-gpt")
        stargate.wait_for("tiny-gpt", "cancelled")
    show(stargate, "jobs")

    step("10. what the log has of it (stargate events -o jsonl)")
    say("each resize of the training, from its warning to its ranks' running again:")
    events = stargate.events()
    rows = [row for row in resize_rows(events, attempt) if "running" in row]
    print_table(rows)
    sizes = [(row["resized"]["gpus_before"], row["resized"]["gpus"]) for row in rows]
    if not any(after < before for before, after in sizes) or not any(after > before for before, after in sizes):
        raise Failed(f"a shrink and a growth were expected, the log has {sizes}")
    say("each loan, from the demand that was seen to the GPUs that were given back:")
    print_loans(events)

    step("11. replay: decide the whole log again from its inputs and compare every fact")
    done = stargate.run("twin", "replay", str(stargate.state))
    print("           " + done.stdout.strip().replace("\n", "\n           "))
    say("the tour is over")


def train_until_the_loss_falls(stargate, example, fast, live):
    """Returns the attempt."""
    step("2. submit an elastic training of a small GPT: it takes 1 to 3 GPUs, as many as it can have")
    show(stargate, "submit", "train.yaml", folder=example)
    row = stargate.wait_for("tiny-gpt", "running")
    live.follow_output()
    first = wait_for_training(stargate, 3, 90)
    say(f"training runs with {counted(first[2], 'rank')}: step {first[0]}, loss {first[1]}")
    last = wait_for_training(stargate, 3, 120, step=50 if fast else 150)
    if last[1] >= first[1]:
        raise Failed(f"the loss does not fall: it was {first[1]} and is {last[1]}")
    say(f"the loss fell from {first[1]} to {last[1]} in {last[0]} steps")
    return row["attempt"]


def higher_class_takes_two(stargate, example, fast):
    step("3. a job of a higher class needs 2 GPUs and 1 is free: training checkpoints, and goes on with 2")
    urgent = example / "urgent.yaml"
    urgent.write_text("kind: batch\nname: urgent\npriority: production\ngpus: 2\nranks: per_node\ntime: 10m\n"
                      "run: echo \"urgent work on $STARGATE_GPUS GPUs\"; until [ -e work-is-done ]; do sleep 0.2; done\n")
    waiting = example / "big.yaml"
    waiting.write_text("kind: batch\nname: big\npriority: opportunistic\ngpus: 4\ntime: 10m\nrun: hostname\n")
    give_to_job_user(example)
    printed = len(steps_of(training_log(stargate)))
    show(stargate, "submit", "-o", "name", "urgent.yaml", folder=example)
    stargate.wait_for("urgent", "running")
    shrunk = wait_for_training(stargate, 2, 60, printed)
    say(f"training has gone on from its checkpoint with 2 ranks: step {shrunk[0]}, loss {shrunk[1]}")

    step("4. why must another job wait? And when `urgent` has ended its GPUs go back")
    show(stargate, "submit", "-o", "name", "big.yaml", folder=example)
    show(stargate, "why", "big")
    stargate.run("cancel", "big")
    if not fast:
        time.sleep(5)
    printed = len(steps_of(training_log(stargate)))
    (example / "work-is-done").touch()
    stargate.wait_for("urgent", "succeeded", seconds=90)
    show(stargate, "logs", "urgent")
    grown = wait_for_training(stargate, 3, 90, printed)
    say(f"training runs with 3 ranks again: step {grown[0]}, loss {grown[1]}")


def service_row(stargate):
    return next((row for row in stargate.json("services") if row["name"] == "tiny-chat"), None)


def wait_for_replicas(stargate, serving, asleep, seconds=120):
    """Until so many serve and sleep, and training has 3 GPUs and has gone on with them; tells how it goes meanwhile."""
    told = None

    def holds():
        nonlocal told
        row = service_row(stargate)
        training = stargate.job("tiny-gpt")
        now = (row["serving"], row["starting"], row["asleep"], row["lent_gpus"], training["gpus"])
        if now != told:
            told = now
            say(f"  replicas: {now[0]} serving, {now[1]} starting or waking, {now[2]} asleep; {counted(now[3], 'GPU')} lent; "
                f"training has {now[4]}")
        return (now[0], now[2], now[4]) == (serving, asleep, 3) and training["state"] == "running"
    wait_until(f"{counted(serving, 'replica')} serving, {asleep} asleep, and training with 3 GPUs", holds, seconds, pause=0.1)


def start_burst(stargate, key, seconds):
    address = (stargate.state / "gateway.address").read_text().strip()
    say(f"12 requests a second for {seconds} s, by stargate bench-serve")
    return subprocess.Popen([str(BINARY), "bench-serve", "--url", f"http://{address}/v1", "--key", key, "--model", "tiny-chat",
                             "--rate", "12", "--duration", f"{seconds}s", "--tokens", "96", "--slo", "5s", "-o", "json"],
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def wait_for_steps_on_all(stargate):
    """Until training has come on with all its GPUs since now: so that what it is asked for next costs it a checkpoint."""
    wait_for_training(stargate, 3, 90, len(steps_of(training_log(stargate))))


def end_burst(burst):
    out, _ = burst.communicate(timeout=180)
    result = json.loads(out)
    say(f"the burst: {result['sent']} requests, {result['completed']} answered, {result['rejected']} rejected, "
        f"{result['failed']} failed; first token after {result['ttft_ms']['p50'] / 1e3:.2f} s (median)")
    if result["failed"] or result["frames_lost"]:
        raise Failed(f"streams broke: {result}")


def ask(stargate, key, text):
    """A real answer, as it comes."""
    address = (stargate.state / "gateway.address").read_text().strip()
    peer = http.client.HTTPConnection(address, timeout=60)
    peer.request("POST", "/v1/chat/completions",
                 json.dumps({"model": "tiny-chat", "stream": True, "max_tokens": 120, "temperature": 0.5,
                             "messages": [{"role": "user", "content": text}]}),
                 {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
    reply = peer.getresponse()
    if reply.status != 200:
        raise Failed(f"the service answered {reply.status}: {reply.read().decode()}")
    with PRINTING:
        print(f"           {text}", end="", flush=True)
        for line in reply:
            if line.startswith(b"data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    print(choice["delta"].get("content", "").replace("\n", "\n           "), end="", flush=True)
        print(flush=True)
    peer.close()


def wait_for_loans(stargate, count):
    def lent():
        return [event for event in stargate.events() if event["type"] == "lent"]
    return wait_until("training has lent GPUs", lambda: len(found := lent()) >= count and found, 60, pause=0.1)


def has_lent_and_runs(stargate):
    training = stargate.job("tiny-gpt")
    return training["state"] == "running" and training["gpus"] + service_row(stargate)["lent_gpus"] == 3


def with_a_service(stargate, example, fast):
    step("5. a service over its checkpoints: 1 replica serves, 2 sleep in seats that training computes over")
    show(stargate, "submit", "-o", "name", "serve.yaml", folder=example)
    wait_for_replicas(stargate, 1, 2)
    show(stargate, "services")
    if any(event["type"] == "lent" for event in stargate.events()):
        raise Failed("a GPU was lent without a burst")

    step("6. ask it, with a key of the gateway")
    key = stargate.run("token", "create", "--gateway").stdout.strip()
    ask(stargate, key, "This program is free software; ")
    say(f"that is a tiny model after {stargate.job('tiny-gpt').get('step', 'a few')} steps: the look of words, not yet their sense")

    step("7. a burst of requests: training lends its GPUs, the sleepers wake; when it is quiet the GPUs go back")
    wait_for_steps_on_all(stargate)
    checkpoints = training_log(stargate).count("warned")
    burst = start_burst(stargate, key, 5 if fast else 10)
    wait_for_loans(stargate, 1)
    end_burst(burst)
    wait_for_replicas(stargate, 1, 2)
    if training_log(stargate).count("warned") == checkpoints:
        raise Failed("training lent its GPUs without a checkpoint")

    step("8. kill -9 the control plane while GPUs are lent: what runs does not notice, no stream breaks, the GPUs go back")
    wait_for_steps_on_all(stargate)
    before = len(wait_for_loans(stargate, 1))
    processes = processes_by_job(stargate)
    burst = start_burst(stargate, key, 5 if fast else 10)
    wait_for_loans(stargate, before + 1)
    wait_until("training runs on what it has not lent", lambda: has_lent_and_runs(stargate), 30, pause=0.05)
    ranks_before, generation = ranks(stargate), stargate.job("tiny-gpt")["generation"]
    stargate.kill()
    say("the control plane is dead; training and the burst go on")
    time.sleep(1)
    stargate.up()
    say("another control plane is up, and has adopted what runs:")
    ranks_after = ranks(stargate)
    show_ranks(ranks_before, ranks_after)
    if stargate.job("tiny-gpt")["generation"] != generation:
        say("training has been resized meanwhile, by the new control plane: its ranks are new ones")
    elif not ranks_before or any(ranks_after.get(who) != process for who, process in ranks_before.items()):
        raise Failed(f"not the same processes: {ranks_before} before the kill, {ranks_after} after it")
    alive = processes_by_job(stargate)
    for name, own in processes.items():
        if name.startswith("tiny-chat") and not own <= alive.get(name, set()):
            raise Failed(f"processes of {name} died with the control plane")
    end_burst(burst)
    wait_for_replicas(stargate, 1, 2)
    events = stargate.events()
    lent = sorted((e["lender"], e["attempt"]) for e in events if e["type"] == "lent")
    returned = sorted((e["lender"], e["attempt"]) for e in events if e["type"] == "returned")
    if lent != returned:
        raise Failed(f"lent were {lent}, returned {returned}")
    say(f"{counted(len(lent), 'loan')} so far, all returned; training goes on: step {stargate.job('tiny-gpt').get('step', '?')}")


def print_loans(events):
    """The story of each loan: from the demand that was seen to the GPUs that were given back."""
    print(f"           {'loan':>22}  {'burst seen':>13}  {'decided':>8}  {'warned':>8}  {'checkpointed':>12}  {'freed':>8}"
          f"  {'woken':>8}  {'serves':>9}  {'first token':>11}  {'quiet':>9}  {'returned':>9}")
    for at, event in enumerate(events):
        if event["type"] != "lent":
            continue

        def last(kind, **members):
            return next((e for e in reversed(events[:at + 1]) if e["type"] == kind and
                         all(e.get(name) == value for name, value in members.items())), None)

        def following(kind, **members):
            return next((e for e in events[at:] if e["type"] == kind and
                         all(e.get(name) == value for name, value in members.items())), None)
        scaled = last("scaled", why="demand") or last("scaled", why="over_limit")
        seen = next((e for e in reversed(events[:events.index(scaled) + 1]) if e["type"] == "demand"), scaled)
        warned, freed = last("warned", for_job=event["borrower"]), last("resized", lender=event["lender"])
        checkpointed = last("part_ended", acknowledged=True)
        woken = last("woken", attempt=event["attempt"]) or event
        ready, answered, returned = (following(kind, attempt=event["attempt"]) for kind in ("ready", "answered", "returned"))
        quiet = next((e for e in reversed(events[:events.index(returned)]) if e["type"] == "scaled" and e["why"] == "quiet"),
                     None) if returned else None

        def after(what):
            return "-" if what is None else f"{(what['at'] - seen['at']) / 1e3:+.0f} ms"
        clock = time.strftime("%H:%M:%S", time.localtime(seen["at"] / 1e6)) + f".{seen['at'] // 1000 % 1000:03d}"
        print(f"           {counted(event['gpus'], 'GPU')}, job {event['lender']} to job {event['borrower']}".ljust(33) +
              f"  {clock:>13}  {after(scaled):>8}  {after(warned):>8}  {after(checkpointed):>12}  {after(freed):>8}"
              f"  {after(woken):>8}  {after(ready):>9}  {after(answered):>11}  {after(quiet):>9}  {after(returned):>9}")


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
