"""Synthetic images made together, against one at a time, and the way of PrivateSNN's released code (one at a time too,
1,500 steps of 0.001): processor time an image.

    python benchmarks/synthesis.py [--out results/bench]

Both in one process, in turn; the same noise and targets, so that losses can be compared.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from provenance import write

from spikefed.data import SynthesisPlan, synthesise
from spikefed.networks import ann_twin, build
from spikefed.training import Preprocess

REPEATS = 3
RELEASED = {"steps": 1500, "lr": 1e-3}
"""Of the released code for images of one channel, one at a time."""


def networks() -> dict[str, tuple[Any, tuple[int, int, int]]]:
    """Those that are measured, with their input shape."""
    digits = (1, 8, 8)
    fashion = (1, 28, 28)
    return {
        "small ANN, 1x8x8": (ann_twin("small", input_shape=digits, classes=10), digits),
        "small ANN, 1x28x28": (ann_twin("small", input_shape=fashion, classes=10), fashion),
        "small SNN T=4, 1x8x8": (build("small", input_shape=digits, classes=10, steps=4, readout="current"), digits),
    }


def losses(outputs: torch.Tensor, targets: torch.Tensor, temperature: float) -> torch.Tensor:
    """Of every image ``[N]``."""
    return torch.nn.functional.cross_entropy(outputs / temperature, targets, reduction="none")


def measured(net: Any, shape: tuple[int, int, int], sizes: dict[str, int]) -> dict[str, Any]:
    """Processor milliseconds an image, three ways in turn, and the mean loss above the targets' entropy."""
    steps = sizes["steps"]
    plans = {
        "together": SynthesisPlan("impressions", sizes["together"], steps=steps, batch=sizes["together"]),
        "alone": SynthesisPlan("impressions", sizes["alone"], steps=steps, batch=1),
        "released": SynthesisPlan(
            "impressions",
            sizes["released"],
            steps=min(RELEASED["steps"], 5 * steps * steps),
            lr=RELEASED["lr"],
            batch=1,
        ),
    }
    spent: dict[str, list[float]] = {name: [] for name in plans}
    above: dict[str, list[float]] = {name: [] for name in plans}
    for repeat in range(REPEATS):
        for name, plan in plans.items():
            start = time.process_time()
            made = synthesise(net, plan, shape=shape, classes=10, preprocess=Preprocess(), seed=repeat)
            spent[name].append(1e3 * (time.process_time() - start) / plan.images)
            entropy = -(made.targets * made.targets.log()).sum(dim=1)
            above[name].append(float((losses(made.outputs, made.targets, plan.temperature) - entropy).mean()))
    middle = {name: statistics.median(values) for name, values in spent.items()}
    return {
        "ms_an_image": {name: round(value, 3) for name, value in middle.items()},
        "ms_an_image_range": {name: [round(min(v), 3), round(max(v), 3)] for name, v in spent.items()},
        "loss_above_entropy": {name: round(statistics.median(values), 4) for name, values in above.items()},
        "times_faster_than_alone": round(middle["alone"] / middle["together"], 1),
        "times_faster_than_released": round(middle["released"] / middle["together"], 1),
        **sizes,
    }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    parser.add_argument("--small", action="store_true", help="a few images and steps, for tests")
    args = parser.parse_args()
    torch.set_num_threads(1)
    sizes = {"together": 250, "alone": 4, "released": 1, "steps": 200}
    if args.small:
        sizes = {"together": 20, "alone": 2, "released": 1, "steps": 3}
    rows = {name: measured(net, shape, sizes) for name, (net, shape) in networks().items()}
    write(args.out, "synthesis", {"rows": rows}, sys.argv)


if __name__ == "__main__":
    main()
