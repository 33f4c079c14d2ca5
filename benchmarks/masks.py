"""What holding a mask costs: training steps with and without it, interleaved in one process, one thread.

    python benchmarks/masks.py [--net small] [--shape 1x28x28] [--batch 64] [--rounds 15]

A figure is the median over rounds of (processor time held / processor time free) within the round, with its quartiles.
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

from spikefed.networks import build
from spikefed.training import Mask, held, optimiser, rate_cross_entropy


def trainer(name: str, kind: str, shape: tuple[int, ...], batch: int, masked: bool) -> Callable[[], float]:
    """A training step on one fixed batch; gives its processor seconds."""
    net = build(name, input_shape=shape, classes=10, steps=8)
    draws = torch.Generator().manual_seed(0)
    x = torch.rand(batch, *shape, generator=draws)
    y = torch.randint(0, 10, (batch,), generator=draws)
    optim = optimiser(net, kind, 1e-3)
    if masked:
        weights = {n: p for n, p in net.named_parameters() if p.dim() > 1}
        mask = Mask({n: torch.rand(p.shape, generator=draws) < 0.1 for n, p in weights.items()})
        held(optim, mask.on(net))

    def step() -> float:
        before = time.process_time()
        loss = rate_cross_entropy(net(x, generator=draws), y, 1.0)
        optim.zero_grad(set_to_none=True)
        loss.backward()
        optim.step()
        return time.process_time() - before

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="small")
    parser.add_argument("--shape", default="1x28x28")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    shape = tuple(map(int, given.shape.split("x")))
    found = {}
    for kind in ("sgd", "adam"):
        free, masked = (trainer(given.net, kind, shape, given.batch, on) for on in (False, True))
        free(), masked()
        ratios = sorted(masked() / free() for _ in range(given.rounds))
        quarter = len(ratios) // 4
        found[kind] = {"median": statistics.median(ratios), "quartiles": [ratios[quarter], ratios[-1 - quarter]]}
        print(f"{kind}: {found[kind]['median']:.3f} of the free step, quartiles {found[kind]['quartiles']}")
    setting = {"net": given.net, "shape": given.shape, "batch": given.batch, "rounds": given.rounds, "density": 0.1}
    print(provenance.write(given.out, "masks", {"setting": setting, "held_over_free": found}, sys.argv))


if __name__ == "__main__":
    main()
