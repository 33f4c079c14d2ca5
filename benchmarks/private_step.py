"""What DP-SGD costs: a private training step beside a plain one, interleaved in one process, one thread.

    python benchmarks/private_step.py [--net small] [--shape 1x28x28] [--batch 64] [--steps 4] [--rounds 9]

A figure is the median over rounds of (processor time of the private step / of the plain one) within the round, with
its quartiles; ``memory`` is the peak of the process. Beside the spiking network stands its ANN twin.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import provenance
import torch
from torch import nn

from spikefed.networks import ann_twin, build
from spikefed.training import Preprocess, PrivateSteps, rate_cross_entropy, train


def stepper(net: nn.Module, batch: int, shape: tuple[int, ...], private: bool) -> Callable[[], float]:
    """One step on a fixed batch; gives its processor seconds."""
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, *shape), dtype=torch.uint8, generator=draws)
    labels = torch.arange(batch) % 10
    optim = torch.optim.Adam(net.parameters(), lr=1e-4)
    hooks = [PrivateSteps(1.0, 1.0, batch)] if private else []

    def step() -> float:
        begin = time.process_time()
        train(
            net, images, labels, rate_cross_entropy, optim,
            epochs=1, batch_size=batch, preprocess=Preprocess(), generator=draws, hooks=hooks,
        )  # fmt: skip
        return time.process_time() - begin

    return step


def measured(make: Callable[[], nn.Module], batch: int, shape: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """Ratios of private to plain steps."""
    plain = stepper(make(), batch, shape, private=False)
    private = stepper(make(), batch, shape, private=True)
    pairs = [(plain(), private()) for _ in range(rounds + 1)][1:]
    ratios = sorted(b / a for a, b in pairs)
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "ratio": round(middle, 2),
        "quartiles": [round(low, 2), round(high, 2)],
        "plain_ms": round(1e3 * statistics.median(a for a, _ in pairs), 2),
        "private_ms": round(1e3 * statistics.median(b for _, b in pairs), 2),
    }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", default="small")
    parser.add_argument("--shape", default="1x28x28")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    shape = tuple(map(int, args.shape.split("x")))
    options: dict[str, Any] = {"input_shape": shape, "classes": 10, "norm": "none"}
    cases = {
        "SNN": lambda: build(args.net, steps=args.steps, **options),
        "ANN twin": lambda: ann_twin(args.net, **options),
    }
    rows = [{"case": case, **measured(make, args.batch, shape, args.rounds)} for case, make in cases.items()]
    settings = {key: str(value) for key, value in vars(args).items()}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    told = {"settings": settings, "peak_mb": memory, "rows": rows}
    print(provenance.write(args.out, "private-step", told, sys.argv), rows)


if __name__ == "__main__":
    main()
