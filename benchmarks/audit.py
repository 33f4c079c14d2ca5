"""Who leaks: membership and class mix on the same overfitted clients, by method and network. results/audit/*.json.

    python benchmarks/audit.py SEED [--small]

Four clients with 100 Fashion-MNIST images each (Dirichlet 0.5) train for 100 epochs in all, 20 a round: FedAvg with a
spiking network and with its ANN twin (uploads of weights), FSD (uploads of spikes; attacked is what a client holds).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from provenance import describe

import spikefed
from spikefed.experiment import probe_run

DATA = {"dataset": "fashion-mnist", "clients": 4, "private_per_client": 112, "public": 400, "test_limit": 1000}
CASES: dict[str, dict[str, Any]] = {
    "fedavg, SNN": {"network": {"name": "small", "steps": 4}, "method": {"name": "fedavg"}},
    "fedavg, ANN": {"network": {"name": "small", "twin": "ann"}, "method": {"name": "fedavg"}},
    "fsd, SNN": {"network": {"name": "small", "steps": 4}, "method": {"name": "fsd", "client_reset": "never"}},
}


def measured(case: str, seed: int, toy: bool, folder: Path) -> dict[str, Any]:
    """Rows of both probes, and the accuracy and bytes of the run."""
    rounds, epochs = (1, 2) if toy else (5, 20)
    data = {**DATA, "partition": "dirichlet", "alpha": 0.5}
    data |= {"dataset": "digits", "public": 60, "test_limit": 60} if toy else {}
    tree = {
        "name": "audit",
        "seed": seed,
        "rounds": rounds,
        "data": data,
        "training": {"local_epochs": epochs},
        "run": {"threads": 1, "keep_clients": True},
        **CASES[case],
    }
    run = spikefed.run(tree, out=folder / case.replace(", ", "-"))
    result = json.loads((run / "result.json").read_text())
    probes = {name: probe_run(run, name)["measurements"][0]["records"] for name in ("membership", "mixture")}
    kept = {key: result[key] for key in ("accuracy", "upstream_bytes", "downstream_bytes")}
    return {**kept, **probes}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--out", type=Path, default=Path("results/audit"))
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    found: dict[str, Any] = {"seed": args.seed, "machine": describe(sys.argv)}
    args.out.mkdir(parents=True, exist_ok=True)
    name = "digits" if args.small else "fashion"
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            found[case] = measured(case, args.seed, args.small, Path(folder))
            (args.out / f"{name}-seed{args.seed}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
