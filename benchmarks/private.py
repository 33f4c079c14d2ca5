"""DP-SGD at equal epsilon, FedAvg beside FSD: accuracy, and what a member-hunter finds. results/private/*.json.

    python benchmarks/private.py SEED [--small]

Fashion-MNIST, 4 clients with 500 images each, 4 rounds of 10 epochs in batches of 125, no normalisation. The noise is
the least with which a client's whole training spends epsilon at delta = 1e-4; "none" is the plain training.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from cases import measure

import spikefed
from spikefed.experiment import probe_run
from spikefed.training.accountant import noise_for

DELTA = 1e-4
EPSILONS = (None, 8.0, 3.0, 1.0)
METHODS: dict[str, dict[str, Any]] = {
    "fedavg": {"name": "fedavg"},
    "fsd": {"name": "fsd", "distil_epochs": 3, "server_epochs": 5, "client_reset": "never"},
}


def measured(method: str, epsilon: float | None, seed: int, toy: bool, folder: Path) -> dict[str, Any]:
    """Accuracy, bytes, what was spent, and the attack's rows."""
    rounds, epochs, held, batch = (1, 1, 54, 27) if toy else (4, 10, 500, 125)
    training: dict[str, Any] = {"local_epochs": epochs, "local_batch": batch, "lr": 2e-3, "logit_scale": 4.0}
    if epsilon is not None:
        steps = rounds * epochs * -(-held // batch)
        noise = noise_for(epsilon, batch / held, steps, DELTA)
        training["privacy"] = {"clip": 1.0, "noise": noise, "delta": DELTA, "source": "seeded"}
    data = {"dataset": "fashion-mnist", "clients": 4, "private_per_client": 556, "public": 1000, "test_limit": 2000}
    data |= {"dataset": "digits", "private_per_client": 60, "public": 60, "test_limit": 60} if toy else {}
    tree = {
        "name": "private",
        "seed": seed,
        "rounds": rounds,
        "data": data,
        "network": {"name": "small", "steps": 4, "norm": "none", "neuron": {"threshold": 0.25}},
        "training": training,
        "method": METHODS[method],
        "run": {"threads": 1, "keep_clients": True},
    }
    run = spikefed.run(tree, out=folder / f"{method}-{epsilon}")
    result = json.loads((run / "result.json").read_text())
    rows = probe_run(run, "membership")["measurements"][0]["records"]
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    return {
        **{key: result[key] for key in ("accuracy", "upstream_bytes", "downstream_bytes")},
        "spent": [client.get("epsilon") for client in last["clients"]],
        "membership": rows,
    }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--out", type=Path, default=Path("results/private"))
    parser.add_argument("--small", action="store_true", help="a toy, for tests")
    args = parser.parse_args()
    torch.set_num_threads(1)
    file = args.out / f"{'digits' if args.small else 'fashion'}-seed{args.seed}.json"
    with tempfile.TemporaryDirectory() as folder:
        cases = {
            f"{method}, {'none' if epsilon is None else f'epsilon {epsilon:g}'}": partial(
                measured, method, epsilon, args.seed, args.small, Path(folder)
            )
            for epsilon in EPSILONS
            for method in METHODS
        }
        measure(file, args.seed, cases)


if __name__ == "__main__":
    main()
