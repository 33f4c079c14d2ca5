"""Learning parity: the `small` network on 10,000 Fashion-MNIST images, dense float32 beside event lists and bf16.

    python benchmarks/parity.py --data-dir DATA

Same initial weights, same order of images; last-50 loss and accuracy on 10,000 test images, three seeds.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import statistics
import sys
import time
from pathlib import Path

import nets
import provenance
import torch
import torch.nn.functional as F
from torch import Tensor

from spikefed import data, native
from spikefed.neurons import paths

VARIANTS = {"dense float32": (-1.0, False), "event lists": (1.1, False), "bf16": (-1.0, True)}


def train(
    train_set: tuple[Tensor, Tensor], test_set: tuple[Tensor, Tensor], seed: int, limit: float, bf16: bool, steps: int
):
    paths.FLOAT32_LIMIT = paths.FLOAT32_WEIGHT_LIMIT = limit
    paths.WINOGRAD_LIMIT = dict.fromkeys(paths.WINOGRAD_LIMIT, limit)
    paths.NARROW_LIMIT = limit
    layout = nets.LAYOUTS["small"]
    torch.manual_seed(seed)
    net = nets.Ours(layout)
    for w in net.weights:
        torch.nn.init.xavier_uniform_(w)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    order = torch.randperm(len(train_set[0]), generator=torch.Generator().manual_seed(seed))
    losses, start = [], time.process_time()
    for i in range(steps):
        rows = order[(i * 32) % len(order) :][:32]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(net(train_set[0][rows]).float(), train_set[1][rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    seconds = time.process_time() - start
    net.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        right = sum(
            int((net(x).argmax(1) == y).sum())
            for x, y in zip(test_set[0].split(500), test_set[1].split(500), strict=True)
        )
    return {"loss": statistics.mean(losses[-50:]), "accuracy": right / len(test_set[1]), "cpu_s": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=312)
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    native.keep_memory()
    sets = [data.load("fashion-mnist", split, given.data_dir) for split in ("train", "test")]
    train_set = (sets[0].to_float()[:10000], sets[0].labels[:10000])
    test_set = (sets[1].to_float(), sets[1].labels)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for seed in range(given.seeds):
        for name, (limit, bf16) in VARIANTS.items():
            rows[name].append(train(train_set, test_set, seed, limit, bf16, given.steps))
            print(f"  seed {seed} {name:14} {rows[name][-1]}", flush=True)
    for name, runs in rows.items():
        mean = {key: statistics.mean(run[key] for run in runs) for key in runs[0]}
        print(f"  {name:14} loss {mean['loss']:.4f}  accuracy {mean['accuracy']:.4f}  cpu {mean['cpu_s']:.1f} s")
    content = {"steps": given.steps, "batch": 32, "seeds": given.seeds, "rows": rows}
    print(f"written: {provenance.write(given.out, 'parity', content, sys.argv)}")


if __name__ == "__main__":
    main()
