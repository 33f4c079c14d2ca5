"""ANN twins trained to be converted (QCFS) beside ReLU twins, in few steps: results/data-free/qcfs-DATASET.json.

    python benchmarks/qcfs.py [--dataset fashion-mnist] [--seeds 0,1,2]

``small`` on 10,000 images, 12 epochs (8x8 digits and CIFAR-10: 16), 512 calibration images of the clients, 1,000 test
images. A ReLU twin with recipe ``local``, and QCFS twins with L = 4 and 8 with the thresholds that they learnt, at each
T.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from cases import measure

import spikefed
from spikefed.experiment.conversion import ConversionPlan, convert_run

STEPS = (2, 4, 8, 16)
TWINS: dict[str, int | None] = {"ReLU": None, "QCFS, L = 4": 4, "QCFS, L = 8": 8}


def measured(levels: int | None, dataset: str, seed: int, toy: bool, work: Path) -> list[dict[str, Any]]:
    """The twin's own accuracy and its conversions'."""
    data = {"dataset": dataset, "pooled": True, "private_per_client": 2500, "public": 2000, "test_limit": 1000}
    data = {"dataset": "digits", "pooled": True, "public": 100} if dataset == "digits" else data
    data |= {"private_per_client": 60, "public": 60, "test_limit": 60} if toy else {}
    tree = {
        "name": "qcfs",
        "seed": seed,
        "rounds": 1 if toy else 6 if dataset == "fashion-mnist" else 8,
        "data": data,
        "network": {"name": "small", "twin": "ann", **({} if levels is None else {"qcfs": levels})},
        "training": {"local_epochs": 2},
        "method": {"name": "fedavg"},
        "run": {"threads": 1},
    }
    run = spikefed.run(tree, out=work / f"{dataset}-{levels}-{seed}")
    rows = []
    for recipe in ("local",) if levels is None else ("qcfs", "local"):
        for steps in STEPS[:2] if toy else STEPS:
            done = convert_run(run, ConversionPlan(steps, "train", recipe, 40 if toy else 512))  # type: ignore[arg-type]
            told = {"seed": seed, "recipe": recipe, "steps": steps}
            rows.append({**told, "ann": done["ann_accuracy"], "snn": done["snn_accuracy"]})
    return rows


def main() -> None:
    """See the module."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path, default=Path("results/data-free"))
    parser.add_argument("--small", action="store_true", help="a toy, for tests")
    args = parser.parse_args()
    torch.set_num_threads(1)
    dataset = "digits" if args.small else args.dataset
    with tempfile.TemporaryDirectory() as folder:
        cases = {
            f"{twin}, seed {seed}": partial(measured, levels, dataset, int(seed), args.small, Path(folder))
            for seed in args.seeds.split(",")
            for twin, levels in TWINS.items()
        }
        measure(args.out / f"qcfs-{dataset}.json", 0, cases)


if __name__ == "__main__":
    main()
