"""Runs of the papers' sizes on a GPU, as many as fit into a time limit, each ending as a small JSON.

    python scripts/paper_scale.py --data-dir DATA [--minutes 9] [--only table1-cifar10-fsd+]
    python scripts/paper_scale.py --list
    python scripts/paper_scale.py --toy --out /tmp/toy     # every job at toy size on digits and the CPU: does it run?

The jobs, most telling first: rows of Tables 1 and 2 of Liu et al. 2022 as our FSD+ (``fsd+``), as FSD of the paper
(``fsd``) and as FedAvg; federated SNNs (Venkatesha et al. 2021) with 10 clients of which 2 take part, IID and
Dirichlet 0.5; temporal information (Kim et al. 2023) and lottery tickets (Kim et al. 2022) of ResNet19 and VGG16, which
keep their networks at toy size. A job that has its JSON is done: the next call goes on with the next one. A machine
that forgets everything needs to give back the JSONs only; elsewhere a job that was cut off goes on from its checkpoint
(``--runs``).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from records import record_of

from spikefed.files import write_atomic

ROOT = Path(__file__).parents[1]
FSD_PLUS = ('method.name="fsd+"', "network.coding=direct", "network.norm=tdbn", "network.neuron.decay=0.5",
            "network.neuron.threshold=1.0", "network.neuron.surrogate=triangle", "network.precision=bfloat16",
            "training.lr=1e-3", "training.local_loss=tet", "training.logit_scale=4.0", "training.shuffle=true",
            "training.local_epochs=5", "wire.spikes_up=context", "wire.spikes_down=context")  # fmt: skip
TOY = ("rounds=2", "data.dataset=digits", "data.public_dataset=digits", "data.private_per_client=24", "data.public=16",
       "data.test_limit=20", "network.name=4C3-AP2-12FC", "network.steps=4", "training.local_epochs=1",
       "training.local_batch=8")  # fmt: skip
TOY_TEMPORAL = ("network.steps=2", 'probe=[{name="temporal", split="train", images=4}]')
TOY_TICKETS = ("network.steps=3", "method.levels=1", "method.level_rounds=1", "method.rewind_round=0")


@dataclass(frozen=True)
class Job:
    """One run: its name, experiment or sweep file, the sweep's label, and settings on top."""

    name: str
    file: str
    only: str | None = None
    settings: tuple[str, ...] = ()
    toy: tuple[str, ...] = ()
    """What is small at toy size on top of `TOY`."""


def jobs() -> list[Job]:
    """All jobs, most telling first."""
    found = []
    for table in ("table1", "table2"):
        for dataset in ("fashion-mnist", "cifar10", "mnist"):
            file = f"experiments/{table}-{dataset}-fsd.toml"
            found.append(Job(f"{table}-{dataset}-fsd+", file, settings=FSD_PLUS))
            found.append(Job(f"{table}-{dataset}-fsd", file))
            found.append(Job(f"{table}-{dataset}-fedavg", file.replace("-fsd", "-fedavg")))
    for dealt in ("iid", "dirichlet-0.5"):
        only = f"snn-10-2-{dealt}-seed0"
        found.append(Job(f"fedsnn-{only}", "experiments/sweeps/fedsnn-clients-paper.toml", only))
    for study, small in (("temporal", TOY_TEMPORAL), ("tickets", TOY_TICKETS)):
        for net in ("resnet19", "vgg16"):
            toy = (f"network.name={net}", *small)
            found.append(Job(f"{study}-cifar10-{net}", f"experiments/{study}-cifar10-{net}.toml", toy=toy))
    return found


def command(job: Job, arguments: argparse.Namespace) -> list[str]:
    """The command line of a job."""
    settings = [*job.settings, f"run.device={arguments.device}", *((*TOY, *job.toy) if arguments.toy else ())]
    if arguments.toy and job.only:
        settings.remove("data.private_per_client=24")  # the study shares everything out
    flags = [word for text in settings for word in ("--set", text)]
    if arguments.data_dir:
        flags += ["--data-dir", str(arguments.data_dir)]
    start = [sys.executable, "-m", "spikefed"]
    if job.only:
        out = arguments.runs / job.name
        return [*start, "compare", str(ROOT / job.file), "--only", job.only, "--seeds", "0", "--out", str(out),
                "--no-report", *flags]  # fmt: skip
    return [*start, "run", str(ROOT / job.file), "--out", str(folder(job, arguments.runs)), "--resume", *flags]


def folder(job: Job, runs: Path) -> Path:
    """The run folder."""
    return runs / job.name / (job.only or "run")


def main() -> int:
    """Run jobs until the time is over; status 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "paper-scale")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "paper-scale")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--minutes", type=float, default=9.0, help="no job starts or goes on after that")
    parser.add_argument("--only", action="append", default=[], help="names of jobs")
    parser.add_argument("--device", help="default: cuda, cpu with --toy")
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    arguments.device = arguments.device or ("cpu" if arguments.toy else "cuda")
    known = jobs()
    if unknown := set(arguments.only) - {job.name for job in known}:
        parser.error(f"no job is named {', '.join(sorted(unknown))}; --list names them")
    if arguments.list:
        print("\n".join(job.name for job in known))
        return 0
    end, failed = time.monotonic() + 60 * arguments.minutes, False
    for job in known:
        target = arguments.out / f"{job.name}.json"
        left = end - time.monotonic()
        if left <= 0 or target.exists() or (arguments.only and job.name not in arguments.only):
            continue
        words = command(job, arguments)
        try:
            status = subprocess.run(words, timeout=left, env={**os.environ, "PYTHONUNBUFFERED": "1"}).returncode
        except subprocess.TimeoutExpired:
            print(f"{job.name}: out of time; its checkpoint is in {folder(job, arguments.runs)}")
            break
        if status:
            failed = True
            print(f"{job.name}: ended with status {status}")
            continue
        record = record_of(folder(job, arguments.runs) / "result.json")
        record["command"] = " ".join(["spikefed", *words[3:]]).replace(f"{ROOT}/", "")
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_atomic(target, json.dumps(record, indent=1) + "\n")
        print(f"{job.name}: accuracy {record['accuracy']:.4f} -> {target}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
