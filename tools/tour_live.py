"""What the tour tells by itself while it goes on: each word is printed when it comes, from `stargate events -f` and from
what the training prints."""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import threading
import time

from harness import BINARY, process_table, shims_of, with_descendants

STARTED = time.monotonic()
PRINTING = threading.RLock()  # one line, or one command with its output, at a time


def say(text=""):
    with PRINTING:
        print(f"[{time.monotonic() - STARTED:6.1f} s] {text}" if text else "", flush=True)


def counted(number, what):
    return f"{number} {what}{'' if number == 1 else 's'}"


class Live:
    """Tells of a training's resizes and loans, until it is left."""

    def __init__(self, stargate, training):
        self.stargate = stargate
        self.training = training
        self.names = {}     # of jobs, by id
        self.attempts = {}  # jobs by attempt
        self.gpus = 0       # of the training
        self.warned_at = 0
        self.followers = []

    def __enter__(self):
        self.follow(self.tell_event, "events", "-f", "-o", "jsonl")
        return self

    def __exit__(self, *_):
        for follower, thread in self.followers:
            follower.terminate()
            follower.wait()
            thread.join()

    def follow_output(self):
        """Once the training is there."""
        self.follow(self.tell_output, "logs", "-f", self.training)

    def follow(self, tell, *words):
        follower = subprocess.Popen([str(BINARY), words[0], "--state", str(self.stargate.state), *words[1:]],
                                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        thread = threading.Thread(target=lambda: [tell(line) for line in follower.stdout])
        thread.start()
        self.followers.append((follower, thread))

    def tell_output(self, line):
        if re.match("warned|resumed", line):
            say(f"  {self.training} prints: {line.rstrip()}")

    def tell_event(self, line):
        event = json.loads(line)
        known = getattr(self, "on_" + event["type"], None)
        if known:
            known(event)

    def is_training(self, event):
        return self.names.get(self.attempts.get(event["attempt"])) == self.training

    def since_warning(self, event):
        return f"{(event['at'] - self.warned_at) / 1e3:.0f} ms after the warning"

    def on_submitted(self, event):
        for task in range(event["count"]):
            name = event["spec"]["name"]
            self.names[event["first"] + task] = f"{name}[{task}]" if event["count"] > 1 else name

    def on_started(self, event):
        self.attempts[event["attempt"]] = event["job"]
        if self.is_training(event):
            self.gpus = gpus_of(event["parts"])

    def on_warned(self, event):
        if not self.is_training(event):
            return
        self.warned_at = event["at"]
        if event["ending"]["cause"] != "resize":
            return
        after = gpus_of(event["ending"]["next"])
        for_whom = self.names.get(event["for_job"])
        why = f", for {for_whom}" if for_whom else ": GPUs are spare" if after > self.gpus else ""
        say(f"  {self.training} is warned: it shall go on with {counted(after, 'GPU')} instead of {self.gpus}{why}")

    def on_part_ended(self, event):
        if self.is_training(event) and event["acknowledged"]:
            say(f"  {self.training} has left, with a checkpoint of step {event['step']}, {self.since_warning(event)}")

    def on_resized(self, event):
        if self.is_training(event):
            self.gpus = event["gpus"]

    def on_running(self, event):
        if self.is_training(event) and event["generation"] > 1:
            say(f"  its ranks are up again, on {counted(self.gpus, 'GPU')}, {self.since_warning(event)}")

    def on_lent(self, event):
        say(f"  {counted(event['gpus'], 'GPU')} of {self.names[event['lender']]} lent to {self.names[event['borrower']]}")

    def on_returned(self, event):
        say(f"  {counted(event['gpus'], 'GPU')} given back to {self.names[event['lender']]} by {self.names[event['borrower']]}")


def gpus_of(parts):
    return sum(part["gpus"].bit_count() for part in parts)


def ranks(stargate):
    """{(job's name, rank): (pid, start)} of what runs: a pid and its start name a process for ever."""
    table = process_table()
    shims = shims_of(stargate.state, table)
    found = {}
    for row in stargate.jobs():
        if row["state"] != "running":
            continue
        numbers = {pid: rank for pid in with_descendants(shims.get(row["attempt"], []), table)
                   if (rank := rank_of(pid)) is not None}
        found |= {(row["name"], rank): (pid, table[pid].start) for pid, rank in numbers.items()
                  if table[pid].parent not in numbers}  # what a rank starts has its environment too
    return found


def rank_of(pid):
    with contextlib.suppress(OSError):
        for word in pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if word.startswith(b"RANK="):
                return int(word[5:])
    return None


def show_ranks(before, after):
    """Each process with its pid and start, before and after."""
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

    def told(process):
        if process is None:
            return "gone"
        pid, ticks = process
        start = booted + ticks / os.sysconf("SC_CLK_TCK")
        return f"{pid} since {time.strftime('%H:%M:%S', time.localtime(start))}.{int(start * 100) % 100:02d}"
    with PRINTING:
        print(f"           {'RANK':22}  {'BEFORE':27}  AFTER", flush=True)
        for who in sorted(before.keys() | after.keys()):
            same = "  the same process" if before.get(who) == after.get(who) else ""
            print(f"           {who[0] + ' rank ' + str(who[1]):22}  {told(before.get(who)):27}  {told(after.get(who))}{same}", flush=True)
