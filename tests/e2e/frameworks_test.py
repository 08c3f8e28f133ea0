"""Environments and training scripts as people have them: venv, modules, torchrun, and loops that checkpoint on SIGTERM as the
usual frameworks do. Nothing in the scripts knows of Stargate but that a number of workers is a variable."""

import shutil
import subprocess
import textwrap
import unittest

from machine import Machine
from harness import give_to_job_user, wait_until

# As a script is written for torchrun: it reads what that sets, saves when it is told to end, and goes on from there.
WORKER = textwrap.dedent("""
    import os, signal, sys, time
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    import torch, torch.distributed as dist
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    told = False
    def on_sigterm(*_):
        global told
        told = True
    signal.signal(signal.SIGTERM, on_sigterm)
    weights, first = torch.zeros(4), 0
    if os.path.exists("checkpoint.pt"):
        state = torch.load("checkpoint.pt")
        weights, first = state["weights"], state["step"]
    print(f"rank {rank} of {world} begins at {first}", flush=True)
    for step in range(first, int(sys.argv[1])):
        gradient = torch.ones(4) / world
        dist.all_reduce(gradient)
        weights += gradient
        stop = torch.tensor([float(told)])
        dist.all_reduce(stop)
        if stop.item() > 0 or step + 1 == int(sys.argv[1]):
            if rank == 0:
                torch.save({"weights": weights, "step": step + 1}, "checkpoint.part")
                os.replace("checkpoint.part", "checkpoint.pt")
                print(f"saved {step + 1} of {world}, weights {weights[0].item():.1f}", flush=True)
            dist.barrier()
            sys.exit(0)
        time.sleep(0.02)
""")

# As Hugging Face's Trainer is stopped by a callback, and Lightning by its signal connector: a flag that the loop looks at
# between two batches, the handler that was there before called too, and a status that says that it was cut short.
TRAINER = textwrap.dedent("""
    import json, os, signal, sys, time
    class Trainer:
        def __init__(self):
            self.should_stop = False
            self.state = {"global_step": 0}
            before = signal.getsignal(signal.SIGTERM)
            def handler(number, frame):
                self.should_stop = True
                if callable(before):
                    before(number, frame)
            signal.signal(signal.SIGTERM, handler)
        def train(self, steps, resume_from_checkpoint):
            if resume_from_checkpoint and os.path.exists("out/trainer_state.json"):
                self.state = json.load(open("out/trainer_state.json"))
                print("resumes at", self.state["global_step"], flush=True)
            while self.state["global_step"] < steps:
                time.sleep(0.02)
                self.state["global_step"] += 1
                if self.should_stop:
                    self.save()
                    sys.exit(143)
            self.save()
        def save(self):
            os.makedirs("out", exist_ok=True)
            json.dump(self.state, open("out/trainer_state.json", "w"))
            print("saved", self.state["global_step"], flush=True)
    Trainer().train(int(sys.argv[1]), resume_from_checkpoint=True)
""")


class Frameworks(Machine):
    def setUp(self):
        super().setUp()
        self.stargate.up()

    def put(self, name, text):
        (self.folder / name).write_text(text)
        give_to_job_user(self.folder / name)

    def output(self, name):
        return self.stargate.run("logs", name).stdout

    def make_room(self):
        """For the length of a second somebody else has all there is."""
        self.submit("urgent", "sleep 1", "gpus: 4\npriority: production\n")
        self.stargate.wait_for("urgent", "succeeded", seconds=90)

    def test_a_venv_is_activated_as_ever(self):
        subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", str(self.folder / "env")], check=True)
        self.submit("inside", ". env/bin/activate && python3 -c 'import sys; print(sys.prefix)'")
        self.stargate.wait_for("inside", "succeeded")
        self.assertEqual(self.output("inside").strip(), str(self.folder / "env"))
        self.submit("direct", "env/bin/python3 -c 'import sys; print(sys.prefix)'")
        self.stargate.wait_for("direct", "succeeded")
        self.assertEqual(self.output("direct").strip(), str(self.folder / "env"))

    def test_a_conda_environment_is_activated_as_ever(self):
        """What `conda activate` needs of a shell: its hook is sourced, and what it exports comes to the program."""
        prefix = self.folder / "conda"
        (prefix / "etc" / "profile.d").mkdir(parents=True)
        (prefix / "etc" / "profile.d" / "conda.sh").write_text(
            'conda() { export CONDA_PREFIX="$(dirname "$0")/$2" CONDA_DEFAULT_ENV="$2" PATH="/conda/$2/bin:$PATH"; }\n')
        self.submit("inside", f'. {prefix}/etc/profile.d/conda.sh && conda activate vision && echo "$CONDA_DEFAULT_ENV ${{PATH%%:*}}"')
        self.stargate.wait_for("inside", "succeeded")
        self.assertEqual(self.output("inside").split(), ["vision", "/conda/vision/bin"])

    @unittest.skipUnless(shutil.which("torchrun"), "torchrun is not there")
    def test_torchrun_is_shrunk_grown_and_preempted(self):
        self.put("worker.py", WORKER)
        # Debian's PyTorch 1.13 fails on Python 3.11 when nothing is redirected; so that it prints, with a prefix.
        run = "export PYTHONUNBUFFERED=1; exec torchrun --standalone --nproc_per_node $STARGATE_GPUS --redirects 1 --tee 1 worker.py 100000"
        self.submit("train", run, "gpus: 1..2\nranks: per_node\ncheckpoint: {grace: 60s}\n")
        wait_until("two workers compute", lambda: "rank 1 of 2 begins at 0" in self.output("train"), 90)
        self.stargate.run("resize", "train", "1")
        wait_until("one goes on", lambda: "rank 0 of 1 begins at" in self.output("train"), 90)
        self.stargate.run("resize", "train", "2")
        wait_until("two go on", lambda: self.output("train").count("rank 1 of 2 begins at") == 2, 120)
        self.make_room()
        wait_until("it goes on after that", lambda: "begins at" in self.output("train") and self.stargate.job("train")["state"] == "running", 120)
        wait_until("its workers compute", lambda: "rank 0 of 2 begins at" in self.output("train"), 120)
        self.stargate.run("cancel", "train")
        self.stargate.wait_for("train", "cancelled", seconds=90)
        # Every step added one, however many workers there were: nothing was lost and nothing done twice.
        for line in self.output("train").splitlines():
            if "saved" in line:
                words = line[line.index("saved"):].replace(",", "").split()
                self.assertEqual(float(words[5]), float(words[1]), line)

    def test_a_trainer_that_is_told_to_end_resumes(self):
        self.put("trainer.py", TRAINER)
        self.submit("trainer", "exec /usr/bin/python3 trainer.py 400", "gpus: 1\ncheckpoint: {grace: 20s}\n")
        self.stargate.wait_for("trainer", "running")
        wait_until("it computes", lambda: self.stargate.job("trainer")["attempt"] > 0)
        subprocess.run(["sleep", "1"], check=True)
        self.make_room()
        row = self.stargate.wait_for("trainer", "succeeded", seconds=90)
        self.assertEqual(row["failures"], 0)
        output = self.output("trainer")
        self.assertIn("resumes at", output)
        self.assertIn("saved 400", output)


if __name__ == "__main__":
    unittest.main()
