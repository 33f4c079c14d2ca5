"""Who leaks: membership and class mix on the same overfitted clients, by what they upload. results/audit/*.json.

    python benchmarks/audit.py SEED [--small]

Four clients with 100 Fashion-MNIST images each (Dirichlet 0.5) train for 100 epochs from the same weights, in one
round: whatever the method, clients of one kind of network are the same to the bit. Attacked are their weights, networks
taught what they say of the attacker's images (spikes or classes), and what the server makes of their uploads. Beside
them the same with no training at all, where an attack must find nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from cases import measure

import spikefed
from spikefed.experiment import probe_run

DATA = {"dataset": "fashion-mnist", "clients": 4, "private_per_client": 112, "public": 400, "test_limit": 1000}
SNN = {"name": "small", "steps": 4}
ANN = {"name": "small", "twin": "ann"}
UNTRAINED = {"local_epochs": 0}
CASES: dict[str, dict[str, Any]] = {
    "fedavg, SNN": {"network": SNN, "method": {"name": "fedavg"}, "imitate": 30},
    "fedavg, ANN": {"network": ANN, "method": {"name": "fedavg"}, "imitate": 30},
    "fsd, SNN": {"network": SNN, "method": {"name": "fsd"}},
    "fsd, SNN, randomised": {"network": SNN, "method": {"name": "fsd", "response_epsilon": 2.0}},
    "cfd, SNN": {"network": SNN, "method": {"name": "cfd"}},
    "untrained, SNN": {"network": SNN, "method": {"name": "fedavg"}, "training": UNTRAINED},
    "untrained, ANN": {"network": ANN, "method": {"name": "fedavg"}, "training": UNTRAINED},
}


def measured(case: str, seed: int, toy: bool, folder: Path) -> dict[str, Any]:
    """Rows of both probes, and the accuracy and bytes of the run."""
    told = dict(CASES[case])
    imitate = min(told.pop("imitate", 0), 1 if toy else 1000)
    data = {**DATA, "partition": "dirichlet", "alpha": 0.5}
    data |= {"dataset": "digits", "public": 60, "test_limit": 60} if toy else {}
    tree = {
        "name": "audit",
        "seed": seed,
        "rounds": 1,
        "data": data,
        "run": {"threads": 1, "keep_clients": True},
        **told,
        "training": {"local_epochs": 2 if toy else 100, **told.get("training", {})},
    }
    run = spikefed.run(tree, out=folder / case.replace(", ", "-"))
    result = json.loads((run / "result.json").read_text())
    probes = {}
    for name, settings in {"membership": {"imitate": imitate}, "mixture": {}}.items():
        probes[name] = probe_run(run, name, settings)["measurements"][0]["records"]
    kept = {key: result[key] for key in ("accuracy", "upstream_bytes", "downstream_bytes")}
    return {**kept, **probes}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--out", type=Path, default=Path("results/audit"))
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    file = args.out / f"{'digits' if args.small else 'fashion'}-seed{args.seed}.json"
    with tempfile.TemporaryDirectory() as folder:
        measure(file, args.seed, {c: partial(measured, c, args.seed, args.small, Path(folder)) for c in CASES})


if __name__ == "__main__":
    main()
