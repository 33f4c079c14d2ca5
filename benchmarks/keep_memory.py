"""What ``spikefed.keep_memory()`` saves: each case in a process of its own, with and without in turns.

    python benchmarks/keep_memory.py [--rounds 5] [--small]

Processor time of ten training steps and of predicting 500 images, the system's share of it, and the highest resident
size. One thread.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import torch
from provenance import write
from torch.nn import functional as F

import spikefed
from spikefed.networks import SpikingNetwork, build

CASES = {"vgg9-bntt": (3, 32, 32), "small": (1, 28, 28)}


def step(net: SpikingNetwork, optim: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor) -> None:
    """One of Adam's on a mean over time."""
    optim.zero_grad()
    F.cross_entropy(net(images).mean(0), labels).backward()
    optim.step()


def used() -> tuple[float, float]:
    """Processor seconds of this process: all, and the system's."""
    now = resource.getrusage(resource.RUSAGE_SELF)
    return now.ru_utime + now.ru_stime, now.ru_stime


def child(name: str, keep: bool, small: bool) -> dict[str, float]:
    """Figures of this process.

    Args:
        name: of `CASES`.
        keep: freed memory.
        small: one step, eight images.
    """
    torch.set_num_threads(1)
    if keep:
        spikefed.keep_memory()
    shape = CASES[name]
    net = build(name, input_shape=shape, classes=10, steps=4)
    optim = torch.optim.Adam(net.parameters(), lr=1e-3)
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(8 if small else 250, *shape, generator=draw)
    labels = torch.randint(10, (len(images),), generator=draw)
    batch = slice(0, 4 if small else 32)
    step(net, optim, images[batch], labels[batch])
    before = used()
    for _ in range(1 if small else 10):
        step(net, optim, images[batch], labels[batch])
    trained = used()
    net.eval()
    with torch.no_grad():
        for _ in range(2):
            net(images)
    predicted = used()
    return {
        "train_s": trained[0] - before[0],
        "train_system_s": trained[1] - before[1],
        "predict_s": predicted[0] - trained[0],
        "predict_system_s": predicted[1] - trained[1],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="toy sizes")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    if given.child:
        print(json.dumps(child(given.child[0], given.child[1] == "kept", given.small)))
        return
    rows: list[dict[str, Any]] = []
    for name in CASES:
        found: dict[str, list[dict[str, float]]] = {"plain": [], "kept": []}
        for _ in range(given.rounds):
            for mode, figures in found.items():
                command = [sys.executable, __file__, "--child", name, mode] + ["--small"] * given.small
                figures.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        middle = {
            mode: {key: round(median(each[key] for each in figures), 3) for key in figures[0]}
            for mode, figures in found.items()
        }
        rows.append({"network": name, "steps": 4, "batch": 32, **middle})
        print(json.dumps(rows[-1]))
    write(given.out, "keep-memory", {"rounds": given.rounds, "rows": rows}, sys.argv)


if __name__ == "__main__":
    main()
