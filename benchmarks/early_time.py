"""What a search with T_early of T time steps costs beside one with all of them: epochs of training, in processor time.

    python benchmarks/early_time.py [--images 500] [--rounds 5]

Networks of two classes, Adam, batches of 64, one thread; epochs with T_early and with T steps in turn in one process,
and the forward pass that chooses T_early. From the median ratios of an epoch follows that of a search, whose first
epochs have all T steps; `before` tells the search whose probe is a training of its own (`early_probe = "before"`).
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
from spikefed.federated.fewsteps import shortened
from spikefed.networks import build
from spikefed.training import optimiser, rate_cross_entropy

NETWORKS = {"small": "8C3-AP2-16C3-AP2-64FC", "vgg5": "16C3-AP2-32C3-32C3-AP2-128FC"}
"""Those of experiments/sweeps/tickets-pooled.toml and tickets-vgg5.toml."""
STEPS, EARLY, PROBES = 5, 3, 2
SEARCH = {"small": 21, "vgg5": 9}
"""Epochs until the last mask is found: of the dense training, and of every level but the last."""
ROWS = {"small": (500, 3000), "vgg5": (300, 2500)}
"""Public images, which choose T_early, and images of an epoch."""


def epoch(net: nn.Module, optim: torch.optim.Optimizer, x: Tensor, y: Tensor) -> float:
    """Processor seconds."""
    before = time.process_time()
    for rows in range(0, len(x), 64):
        optim.zero_grad()
        rate_cross_entropy(net(x[rows : rows + 64]), y[rows : rows + 64]).backward()
        optim.step()
    return time.process_time() - before


def choice(net: nn.Module, x: Tensor) -> float:
    """Processor seconds of the forward pass that chooses T_early."""
    before = time.process_time()
    net.eval()
    with torch.no_grad():
        for rows in range(0, len(x), 250):
            net(x[rows : rows + 250])
    net.train()
    return time.process_time() - before


def measured(name: str, images: int, rounds: int) -> dict[str, Any]:
    net = build(NETWORKS[name], input_shape=(1, 28, 28), classes=10, steps=STEPS, readout="current", seed=0)
    optim = optimiser(net, "adam", 4e-3, 0.9, 0.0)
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(images, 1, 28, 28, generator=draw)
    y = torch.randint(10, (images,), generator=draw)
    public, private = ROWS[name]
    ratios, choices = [], []
    for i in range(rounds + 1):
        whole = epoch(net, optim, x, y)
        with shortened(net, EARLY):
            early = epoch(net, optim, x, y)
        chosen = choice(net, x) * public / private
        if i:  # the first one warms up
            ratios.append(early / whole)
            choices.append(chosen / whole)
    low, middle, high = statistics.quantiles(ratios, n=4)
    choosing = statistics.median(choices)
    search = SEARCH[name]
    steps = EARLY / STEPS
    return {
        "network": NETWORKS[name],
        "epoch_ratio": {"median": middle, "quartiles": [low, high]},
        "choice_in_epochs": choosing,
        "search_time": (PROBES + choosing + (search - PROBES) * middle) / search,
        "search_lif_steps": (PROBES + public / private + (search - PROBES) * steps) / search,
        "before": {
            "search_time": (PROBES + choosing + search * middle) / search,
            "search_lif_steps": (PROBES + public / private + search * steps) / search,
        },
        "bound": steps + 0.15,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    native.keep_memory()
    found = {name: measured(name, given.images, given.rounds) for name in NETWORKS}
    for name, figures in found.items():
        print(name, figures, flush=True)
    setting = {"steps": STEPS, "early": EARLY, "images": given.images, "rounds": given.rounds}
    print(provenance.write(given.out, "early-time", {"setting": setting, "networks": found}, sys.argv))


if __name__ == "__main__":
    main()
