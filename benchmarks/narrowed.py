"""What a network costs whose dead channels were taken out, beside the whole one with zeros: inference, processor time.

    python benchmarks/narrowed.py [--batch 32] [--rounds 15]

Channels go by magnitude until so many weights are left, every layer keeps a tenth of its channels. Both networks
compute the same; they run in turn in one process on one thread, and a figure is the median over rounds of the time of
the small one over that of the whole one, with its quartiles. The whole one runs with zeros as an evaluated ticket does,
its layers with non-zero weights only where that is faster.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import provenance
import torch
from torch import Tensor, nn

from spikefed import native
from spikefed.networks import Row, build, copy_tensors, load_tensors, narrowed, write_tensors
from spikefed.training import channel_scores, magnitudes, mask_of_best_channels

NETWORKS = {"digits": ("16C3-AP2-32C3-AP2-128FC", (1, 8, 8), 5), "small": ("small", (1, 28, 28), 8)}
"""That of experiments/sweeps/tickets-operations.toml, and `small` on larger images; with their time steps."""
LEFT = (0.5, 0.2, 0.1)
KEEP = 0.1


def seconds(net: nn.Module, x: Tensor) -> float:
    """Processor time of an inference."""
    before = time.process_time()
    with torch.no_grad():
        net(x)
    return time.process_time() - before


def pruned(name: str, shape: tuple[int, ...], steps: int, left: float) -> tuple[nn.Module, dict[str, Tensor]]:
    """A network whose norms have seen images, in evaluation, under a mask of channels; and the mask."""
    net = build(name, input_shape=shape, classes=10, steps=steps, readout="current")
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(20):
            net(torch.rand(32, *shape, generator=draw))
    tensors, row = copy_tensors(net), Row.of(net)
    scores = channel_scores(row, magnitudes(tensors, [row.weight(k) for k in range(len(row.names))]))
    kept = mask_of_best_channels(row, scores, 1 - left, keep=KEEP).kept
    load_tensors(net, {n: t * kept[n] if n in kept else t for n, t in tensors.items()})
    return net.eval(), dict(kept)


def measured(place: str, left: float, batch: int, rounds: int) -> dict[str, Any]:
    name, shape, steps = NETWORKS[place]
    net, kept = pruned(name, shape, steps, left)
    small = narrowed(net)
    x = torch.rand(batch, *shape, generator=torch.Generator().manual_seed(1))
    ratios = []
    for i in range(rounds + 3):
        ratio = seconds(small, x) / seconds(net, x)
        if i >= 3:  # the first ones warm up
            ratios.append(ratio)
    low, middle, high = statistics.quantiles(ratios, n=4)
    files = [len(write_tensors(copy_tensors(net), kept)), len(write_tensors(copy_tensors(small)))]
    return {
        "network": place,
        "weights_left": left,
        "small": small.name,
        "small_over_whole": {"median": middle, "quartiles": [low, high]},
        "file_bytes": {"masked": files[0], "small": files[1]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    native.keep_memory()
    found = [measured(place, left, given.batch, given.rounds) for place in NETWORKS for left in LEFT]
    for figures in found:
        print(figures, flush=True)
    setting = {"batch": given.batch, "rounds": given.rounds, "keep_channels": KEEP}
    print(provenance.write(given.out, "narrowed", {"setting": setting, "networks": found}, sys.argv))


if __name__ == "__main__":
    main()
