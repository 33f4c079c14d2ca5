"""One round and no more: what clients have, what their average has, their ensemble, and who learned from the ensemble.

    python benchmarks/one_shot.py [--seeds 0,1,2] [--dataset digits]

Five clients with 200 images each, Dirichlet 0.5, one round of 20 epochs, all from the same weights (the setting of
DENSE, Zhang et al., NeurIPS 2022, but for data set and network). Distilled: the average, taught by all clients' outputs
on public rows that are nobody's (noise), on images of a generator (500 rows, 24 epochs: as many steps as on noise), and
on the experiment's own. results/one-shot/DATASET.json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from provenance import describe

import spikefed

CASES: dict[str, dict[str, Any]] = {
    "fedavg": {"method": {"name": "fedavg"}},
    "distilled, noise": {
        "method": {"name": "feddf", "server_epochs": 40, "rate_scale": 10.0},
        "data": {"public_dataset": "noise"},
    },
    "distilled, generator": {
        "method": {
            "name": "feddf",
            "server_epochs": 24,
            "rate_scale": 10.0,
            "rows": "generator",
            "made_rows": 500,
            "made_steps": 30,
        },
        "data": {"public_dataset": "noise"},
    },
    "distilled, own set": {"method": {"name": "feddf", "server_epochs": 40, "rate_scale": 10.0}},
}


def measured(case: str, dataset: str, seed: int, out: Path) -> dict[str, Any]:
    """Accuracy of the server, of the clients and of all together, and the bytes."""
    chosen = CASES[case]
    data = {
        "dataset": dataset,
        "clients": 5,
        "private_per_client": 200,
        "partition": "dirichlet",
        "alpha": 0.5,
        "public": 300,
    }
    tree = {
        "name": "one-shot",
        "seed": seed,
        "rounds": 1,
        "data": {**data, **chosen.get("data", {})},
        "network": {"name": "small", "steps": 4},
        "training": {"local_epochs": 20, "logit_scale": 4.0, "train_bn_at_eval": True},
        "method": chosen["method"],
        "run": {"threads": 1, "take_home": True},
    }
    run = spikefed.run(tree, out=out / f"{case}-{seed}")
    result = json.loads((run / "result.json").read_text())
    keys = ("accuracy", "clients_accuracy_least", "clients_accuracy_most", "vote_accuracy", "upstream_bytes")
    return {key: result[key] for key in keys}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--out", type=Path, default=Path("results/one-shot"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in map(int, args.seeds.split(",")):
            for case in CASES:
                rows.append({"case": case, "seed": seed, **measured(case, args.dataset, seed, Path(folder))})
    args.out.mkdir(parents=True, exist_ok=True)
    told = {"machine": describe(sys.argv), "rows": rows}
    (args.out / f"{args.dataset}.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
