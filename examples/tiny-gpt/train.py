#!/usr/bin/python3
"""A small GPT, trained data-parallel on the licence texts that Debian ships.

It is an ordinary PyTorch program: it reads RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, and checkpoints on SIGTERM.
That is all Stargate asks of a job it may shrink and grow. Without Stargate it is a single process.
"""

import os
import signal
import sys
import threading
import time

RANK = int(os.environ.get("RANK", "0"))
WORLD = int(os.environ.get("WORLD_SIZE", "1"))


class WarningSignal:
    """SIGTERM: stop soon, at a step on which all ranks agree.

    Before the first step there is nothing to save, and SIGTERM does what it does by default: it ends the process, also
    where the main thread is deep in C, importing torch or waiting for its peers. From then on it sets a flag.
    """

    def __init__(self):
        self.given = threading.Event()

    def arm(self):
        signal.signal(signal.SIGTERM, lambda *_: self.given.set())


def leave(status):
    """Ends the process without the interpreter's slow farewell."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


WARNING = WarningSignal()

# One thread a rank: ranks share the machine's cores. The libraries read these when they are loaded.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
if os.environ.get("MASTER_ADDR", "127.0.0.1") in ("127.0.0.1", "localhost"):
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # else gloo asks for the host's own name, which may not resolve

import argparse
import datetime
import glob
import hashlib
import json

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional

TEXT = "/usr/share/common-licenses"
CONTEXT = 64
WIDTH = 96
HEADS = 4
LAYERS = 3
BATCH = 24  # sequences a step over all ranks: it divides by 1, 2, 3 and 4
KEPT = 2  # checkpoints
RATE, WARM_UP = 2e-3, 20  # of learning; steps until it is reached
SEED = 7


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention_norm = nn.LayerNorm(WIDTH)
        self.attention_in = nn.Linear(WIDTH, 3 * WIDTH)
        self.attention_out = nn.Linear(WIDTH, WIDTH)
        self.mlp_norm = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))
        self.register_buffer("future", torch.ones(CONTEXT, CONTEXT).triu(1).bool(), persistent=False)

    def forward(self, x):
        batch = x.shape[0]
        heads = self.attention_in(self.attention_norm(x)).view(batch, CONTEXT, 3, HEADS, WIDTH // HEADS)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-2, -1) / (WIDTH // HEADS) ** 0.5
        mixed = scores.masked_fill(self.future, float("-inf")).softmax(-1) @ value
        x = x + self.attention_out(mixed.transpose(1, 2).reshape(batch, CONTEXT, WIDTH))
        return x + self.mlp(self.mlp_norm(x))


class TinyGpt(nn.Module):
    """Over bytes, so it needs no tokenizer."""

    def __init__(self):
        super().__init__()
        self.token = nn.Embedding(256, WIDTH)
        self.position = nn.Parameter(torch.zeros(CONTEXT, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 256, bias=False)

    def forward(self, tokens):
        return self.head(self.norm(self.blocks(self.token(tokens) + self.position)))


def read_text():
    files = sorted(path for path in glob.glob(TEXT + "/*") if not os.path.islink(path))
    text = b"\n".join(open(path, "rb").read() for path in files)
    if len(text) <= CONTEXT:
        sys.exit(f"no text to train on in {TEXT}: it is part of Debian's base-files")
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)


def my_part_of_batch(text, step):
    """The batch is a function of the step alone, so the order of the data is the same for every number of ranks."""
    chance = torch.Generator().manual_seed(SEED * 1_000_003 + step)
    starts = torch.randint(len(text) - CONTEXT, (BATCH,), generator=chance)[RANK::WORLD]
    windows = text[starts[:, None] + torch.arange(CONTEXT + 1)].long()
    return windows[:, :-1], windows[:, 1:]


def write_whole(path, write):
    """`path` holds the old content or the new, never a part, also after a power cut."""
    part = f"{path}.part"
    with open(part, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def checkpoints_in(folder):
    """Newest first."""
    return sorted(glob.glob(f"{glob.escape(folder)}/step-*.pt"), reverse=True)


class LostPeer(Exception):
    """Another rank has ended in the middle of a step, and this one still stands at the last whole step."""


def sum_over_ranks(message):
    try:
        if WORLD > 1:
            dist.all_reduce(message)
    except RuntimeError as error:  # gloo names no type of its own
        raise LostPeer(str(error)) from error


class Training:
    def __init__(self, folder):
        self.folder = folder
        torch.manual_seed(SEED)
        self.model = TinyGpt()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
        self.step = 0

    def train_step(self, text):
        """One step over all ranks. Returns the mean loss, and whether any rank has been warned."""
        inputs, targets = my_part_of_batch(text, self.step)
        warned = float(WARNING.given.is_set())
        # The sum over my part, over the whole batch's size: parts of any size add up to the mean.
        loss = functional.cross_entropy(self.model(inputs).flatten(0, 1), targets.flatten(), reduction="sum")
        loss = loss / (BATCH * CONTEXT)
        self.optimizer.zero_grad()
        loss.backward()

        # Gradients, loss and warning travel together: one message a step, and every rank learns the same.
        parameters = list(self.model.parameters())
        message = torch.cat([p.grad.flatten() for p in parameters] + [torch.tensor([loss.item(), warned])])
        sum_over_ranks(message)
        at = 0
        for p in parameters:
            p.grad.copy_(message[at : at + p.numel()].view_as(p))
            at += p.numel()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (self.step + 1) / WARM_UP)
        self.optimizer.step()
        self.step += 1
        return message[-2].item(), message[-1].item() > 0

    def save(self):
        """By rank 0: the checkpoint, then the step for Stargate, so that it never promises what is not on the disk."""
        state = {"step": self.step, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        write_whole(f"{self.folder}/step-{self.step:08}.pt", lambda file: torch.save(state, file))
        for old in checkpoints_in(self.folder)[KEPT:]:
            os.remove(old)
        progress = os.environ.get("STARGATE_PROGRESS")
        if progress:
            write_whole(progress, lambda file: file.write(f"{self.step}\n".encode()))

    def load(self, path):
        state = torch.load(path)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def resume(self):
        """Rank 0 looks for the newest checkpoint that can be read; the others read the same one."""
        if RANK == 0:
            for path in checkpoints_in(self.folder):
                try:
                    self.load(path)
                    break
                except Exception as error:  # torch names no type for a broken file
                    print(f"{path} is not valid, trying the one before it: {error}", flush=True)
        if WORLD > 1:
            step = torch.tensor([self.step])
            dist.broadcast(step, 0)
            if RANK != 0 and step.item() > 0:
                self.load(f"{self.folder}/step-{step.item():08}.pt")
        return self.step > 0

    def parameter_hash(self):
        flat = nn.utils.parameters_to_vector(self.model.parameters()).detach()
        return hashlib.sha256(flat.numpy().tobytes()).hexdigest()[:16]


def say(text):
    """For what only one rank shall say."""
    if RANK == 0:
        print(text, flush=True)


def counted(number, what):
    return f"{number} {what}{'' if number == 1 else 's'}"


def next_size():
    """What the notice says about the next generation, as words; empty where there is no notice."""
    try:
        with open(os.environ["STARGATE_NOTICE"]) as file:
            return f", {counted(json.load(file)['gpus'], 'GPU')} next"
    except (KeyError, OSError, ValueError):
        return ""


def train(args):
    if WORLD > 1:
        dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))
    training = Training(args.dir)
    resumed = training.resume()
    text = read_text()
    if resumed:
        say(f"resumed from step {training.step} with {counted(WORLD, 'rank')}")
        print(f"rank {RANK} parameters {training.parameter_hash()}", flush=True)
    else:
        say(f"started at step 0 with {counted(WORLD, 'rank')}")

    WARNING.arm()
    stopping = False
    shown_at, shown_step = time.monotonic(), training.step
    first = training.step + 1
    try:
        while training.step < args.steps and not stopping:
            loss, stopping = training.train_step(text)
            step = training.step
            if step == first or step % args.print_every == 0:
                now = time.monotonic()
                speed = (step - shown_step) * BATCH * CONTEXT / (now - shown_at)
                say(f"step {step} loss {loss:.3f} ranks {WORLD} tokens/s {speed:.0f}")
                shown_at, shown_step = now, step
            if RANK == 0 and step % args.checkpoint_every == 0 and not stopping:
                training.save()
    except LostPeer as error:
        if not WARNING.given.wait(1):  # a peer's end may overtake our own warning
            print(f"rank {RANK} lost a peer after step {training.step}: {error}", file=sys.stderr)
            leave(1)
        stopping = True

    if RANK == 0:
        training.save()
    say(f"{'warned' + next_size() + ': stopped' if stopping else 'finished'} at step {training.step}")
    print(f"rank {RANK} parameters {training.parameter_hash()}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000, help="train up to this step in all (default %(default)s)")
    parser.add_argument("--checkpoint-every", type=int, default=25, metavar="STEPS")
    parser.add_argument("--print-every", type=int, default=5, metavar="STEPS")
    parser.add_argument("--dir", default=os.environ.get("STARGATE_CHECKPOINT_DIR", "checkpoints"),
                        help="of the checkpoints, shared by all ranks (default %(default)s)")
    args = parser.parse_args()
    if not 1 <= WORLD <= BATCH:
        sys.exit(f"WORLD_SIZE is {WORLD}: a batch of {BATCH} sequences has work for 1 to {BATCH} ranks")
    torch.set_num_threads(1)
    try:
        os.makedirs(args.dir, exist_ok=True)
        train(args)
    except OSError as error:
        print(f"rank {RANK}: {error}; name another folder with --dir", file=sys.stderr)
        leave(1)
    leave(0)


if __name__ == "__main__":
    main()
