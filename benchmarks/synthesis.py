"""Synthetic images made together against one at a time (the way of the released code), processor time an image.

    python benchmarks/synthesis.py [--out results/bench]

Both in one process, in turn; the same noise and targets, so that losses can be compared image by image.
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

REPEATS = 5


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


def measured(net: Any, shape: tuple[int, int, int], together: int, alone: int, steps: int) -> dict[str, Any]:
    """Processor milliseconds an image, both ways, over the repeats."""
    spent: dict[str, list[float]] = {"together": [], "alone": []}
    gaps: list[float] = []
    for repeat in range(REPEATS):
        sets = {}
        for name, count, batch in (("together", together, together), ("alone", alone, 1)):
            plan = SynthesisPlan("impressions", count, steps=steps, batch=batch)
            start = time.process_time()
            made = synthesise(net, plan, shape=shape, classes=10, preprocess=Preprocess(), seed=repeat)
            spent[name].append(1e3 * (time.process_time() - start) / count)
            sets[name] = losses(made.outputs, made.targets, plan.temperature)
        gaps.append(float((sets["together"].mean() - sets["alone"].mean()).abs() / sets["together"].std()))
    ratios = [one / many for one, many in zip(spent["alone"], spent["together"], strict=True)]
    return {
        "ms_an_image": {name: round(statistics.median(values), 4) for name, values in spent.items()},
        "times_faster": round(statistics.median(ratios), 1),
        "times_faster_range": [round(min(ratios), 1), round(max(ratios), 1)],
        "loss_gap_in_deviations": round(statistics.median(gaps), 3),
        "together": together,
        "alone": alone,
        "steps": steps,
    }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    parser.add_argument("--small", action="store_true", help="a few images and steps, for tests")
    args = parser.parse_args()
    torch.set_num_threads(1)
    sizes = (20, 2, 3) if args.small else (1000, 10, 50)
    rows = {name: measured(net, shape, *sizes) for name, (net, shape) in networks().items()}
    write(args.out, "synthesis", {"rows": rows}, sys.argv)


if __name__ == "__main__":
    main()
