"""Temporal information beside the procedure it replaces, and norms of single samples' gradients beside a loop.

    python benchmarks/temporal.py [--net small] [--shape 1x28x28] [--steps 8] [--images 64] [--rounds 7]

Same images, one thread, interleaved in one process; a figure is the median over rounds of (processor time of the rival
/ processor time of ours) within the round, with its quartiles. Rivals run on our kernels, and step by step on plain
torch operations (``use_kernels("reference")``), which is how the released code and a user's own loop run.

* released: for t = 1..T a forward and a backward pass, batches of 16.
* loop: one image at a time, one forward and one backward pass, all T steps.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import provenance
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikefed import native
from spikefed.networks import build, per_sample
from spikefed.neurons import use_kernels
from spikefed.probes.information import (
    batch_information,
    chosen_labels,
    counted_parameters,
    sample_information,
)


def network(name: str, shape: tuple[int, ...], steps: int) -> nn.Module:
    """In eval mode; its norms have seen images."""
    net = build(name, input_shape=shape, classes=10, steps=steps)
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(20):
            net(torch.rand(32, *shape, generator=draws))
    return net.eval()


def information(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """I_t by one forward pass and T backward passes."""
    with per_sample(net) as way:
        outputs = way.outputs(x)
        found = sample_information(way, outputs, chosen_labels(outputs, y), 1.0, counted_parameters(net, True))
    return torch.stack(list(found.values())).sum(0).mean(0)


def released(net: nn.Module, x: Tensor, y: Tensor, steps: int) -> None:
    """The released procedure in batches of 16."""
    counted, draws = counted_parameters(net, True), torch.Generator()
    for row in range(0, len(x), 16):
        batch_information(net, x[row : row + 16], y[row : row + 16].expand(steps, -1), 1.0, counted, draws)


def norms(net: nn.Module, x: Tensor, y: Tensor, loop: bool) -> None:
    """Squared norms of every image's gradient of the loss on all steps."""
    if loop:
        parameters = list(net.parameters())
        for n in range(len(x)):
            grads = torch.autograd.grad(F.cross_entropy(net(x[n : n + 1]).mean(0), y[n : n + 1]), parameters)
            [float(grad.square().sum()) for grad in grads]
        return
    with per_sample(net) as way:
        outputs = way.outputs(x)
        steps, _, classes = outputs.shape
        gradient = outputs.mean(0).softmax(1) - F.one_hot(y, classes)  # of the loss, by the mean output
        way.squared_norms((gradient / steps).expand_as(outputs), steps)


def seconds(work: Callable[[], object]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


def eagerly(work: Callable[[], object]) -> Callable[[], object]:
    def run() -> None:
        with use_kernels("reference"):
            work()

    return run


def compare(ours: Callable[[], object], rivals: dict[str, Callable[[], object]], rounds: int) -> dict[str, object]:
    """Ratios of each rival's processor time to ours, interleaved."""
    ratios: dict[str, list[float]] = {name: [] for name in rivals}
    mine = []
    for place in range(rounds + 1):
        base = seconds(ours)
        spent = {name: seconds(rival) for name, rival in rivals.items()}
        if place:  # the first round warms up
            mine.append(base)
            for name, value in spent.items():
                ratios[name].append(value / base)
    found: dict[str, object] = {"ours_s": statistics.median(mine)}
    for name, values in ratios.items():
        values.sort()
        quarter = len(values) // 4
        found[name] = {"median": statistics.median(values), "quartiles": [values[quarter], values[-1 - quarter]]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="small")
    parser.add_argument("--shape", default="1x28x28")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    native.keep_memory()  # as programs do, for all sides
    shape, steps = tuple(map(int, given.shape.split("x"))), given.steps
    net = network(given.net, shape, steps)
    draws = torch.Generator().manual_seed(1)
    x = torch.rand(given.images, *shape, generator=draws)
    y = torch.randint(0, 10, (given.images,), generator=draws)

    def rival(work: Callable[[], object]) -> dict[str, Callable[[], object]]:
        return {"our_kernels": work, "step_by_step": eagerly(work)}

    found = {
        "released": compare(lambda: information(net, x, y), rival(lambda: released(net, x, y, steps)), given.rounds),
        "loop": compare(lambda: norms(net, x, y, False), rival(lambda: norms(net, x, y, True)), given.rounds),
    }
    for name, figures in found.items():
        print(name, figures)
    setting = {key: getattr(given, key) for key in ("net", "shape", "steps", "images", "rounds")}
    print(provenance.write(given.out, "temporal", {"setting": setting, "rival_over_ours": found}, sys.argv))


if __name__ == "__main__":
    main()
