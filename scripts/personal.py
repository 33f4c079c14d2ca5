"""The study of personal networks: adapters of a frozen network against FedAvg of all weights, accuracy over bytes.

``python scripts/personal.py tune`` picks learning rates on a seed of its own, ``... run SEED`` then runs the rest; both
write ``results/continual/personal-*.json``, a configuration at a time, and go on where they were stopped.
``... table`` prints what the files say.

The parent learned 2,000 images of MNIST at 16x16; five clients then hold 400 images of Fashion-MNIST each at that size,
and test their own networks, as their last training left them, on the 40 % of their images that nobody trains on.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from continual import RESULTS, over, result, shown

import spikefed
from spikefed.experiment import config as configs
from spikefed.experiment.build import build

NETWORK = {"name": "16C3-AP2-32C3-AP2-64C3-AP2-128C3-AP2", "steps": 4, "norm": "bn", "readout": "current"}
ROUNDS = 8
PARTITIONS: dict[str, dict[str, Any]] = {
    "iid": {"partition": "iid"},
    "dirichlet 0.1": {"partition": "dirichlet", "alpha": 0.1},
}
SPARSE = {"payload": "change", "payload_down": "change"}
CASES: dict[str, dict[str, Any]] = {
    "FedAvg": {"method": {"name": "fedavg"}},
    "FedAvg by STC 1:100": {
        "method": {"name": "fedavg", **SPARSE},
        "wire": {"weights_up": "stc-100", "weights_down": "stc-100"},
    },
    "alone": {"method": {"name": "fedavg"}},
    "head": {"kinds": ["head"]},
    "thresholds + head": {"kinds": ["thresholds", "head"]},
    "norms + head": {"kinds": ["bn", "head"]},
    "thresholds a neuron + head": {"kinds": ["thresholds", "head"], "per": "neuron"},
    "rank 1 + head": {"kinds": ["low-rank", "head"], "rank": 1},
    "rank 6 + head": {"kinds": ["low-rank", "head"], "rank": 6},
    "thresholds, head personal": {"kinds": ["thresholds", "head"], "personal": ["head"]},
    "norms, head personal": {"kinds": ["bn", "head"], "personal": ["head"]},
}
RATES = {"FedAvg": (1e-3, 3e-3, 1e-2), "adapters": (3e-3, 1e-2, 3e-2)}
AS = {"FedAvg by STC 1:100": "FedAvg", "alone": "FedAvg", "head": "thresholds + head", "rank 1 + head": "rank 6 + head"}
"""Cases that take the learning rate of another."""
ONLY_IID = ("thresholds a neuron + head", "rank 1 + head", "rank 6 + head")
"""Cases that are measured where clients are alike."""
TUNING_SEED = 100


def tables(seed: int, case: str, partition: str, lr: float, parent: Path) -> dict[str, Any]:
    """One run; without federation all its epochs are those of one round.

    Args:
        seed: of the run.
        case: of `CASES`.
        partition: of `PARTITIONS`.
        lr: of local training.
        parent: run folder.
    """
    told = CASES[case]
    network: dict[str, Any] = {**NETWORK, "start": str(parent)}
    method = told.get("method") or {"name": "adapters", "personal": told.get("personal", [])}
    if "kinds" in told:
        network["adapters"] = {key: told[key] for key in ("kinds", "per", "rank") if key in told}
    rounds = 1 if case == "alone" else ROUNDS
    return {
        "name": "personal",
        "seed": seed,
        "rounds": rounds,
        "data": {
            "clients": 5,
            "public": 20,
            "validation": 0.4,
            "evaluate_on": "validation",
            **PARTITIONS[partition],
        },  # fmt: skip
        "network": network,
        "training": {"local_epochs": 2 * ROUNDS // rounds, "local_batch": 32, "lr": lr},
        "method": method,
        "wire": told.get("wire", {}),
        "run": {"threads": 1},
    }


def parent_of(seed: int, folder: Path) -> Path:
    told = {
        "name": "parent",
        "seed": seed,
        "rounds": 5,
        "data": {"clients": 2, "public": 20},
        "network": NETWORK,
        "training": {"local_epochs": 1, "lr": 3e-3},
        "method": {"name": "fedavg"},
        "run": {"threads": 1},
    }
    out = folder / "parent"
    return out if out.exists() else spikefed.run(told, dataset=shown("mnist", size=16, train=2020), out=out)


def measured(told: dict[str, Any], out: Path) -> dict[str, Any]:
    """A run's curves: accuracy of the clients' own networks and of the shared one on the clients' own test shares."""
    images = shown("fashion-mnist", size=16, train=2020)
    run = spikefed.run(told, dataset=images, out=out)
    split = build(configs.from_tree(told), dataset=images).split
    sizes = [len(client.validation) for client in split.clients]
    own = []
    shared = []
    sent = []
    for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()):
        parts = [sizes[row["client"]] * row["accuracy"] for row in line["clients"]]
        own.append(round(sum(parts) / sum(sizes), 4))
        shared.append(line["server_accuracy"])
        sent.append(line["upstream_bytes_total"] + line["downstream_bytes_total"])
    return {"own": own, "shared": None if result(run).get("accuracy_of") == "clients" else shared, "bytes": sent}


def grid(case: str) -> tuple[float, ...]:
    return RATES["adapters" if "kinds" in CASES[case] else "FedAvg"]


def reached(cell: dict[str, Any]) -> float:
    """The better of what the clients' own networks and the shared one reach in the end."""
    return max(cell["own"][-1], (cell["shared"] or [0.0])[-1])


def rates() -> dict[str, dict[str, float]]:
    """Learning rates that the tuning chose, by partition and case."""
    found = json.loads((RESULTS / "personal-tuning.json").read_text())

    def best(cases: dict[str, Any], case: str) -> float:
        own = cases[AS.get(case, case)]
        return float(max(own, key=lambda lr: reached(own[lr])))

    return {
        partition: {case: best(cases, case) for case in CASES if partition == "iid" or case not in ONLY_IID}
        for partition, cases in found.items()
    }


def collect(seed: int, out: Path, tuned: dict[str, dict[str, float]] | None) -> None:
    """All cases of a seed into one file, which is written after each.

    Args:
        seed: of the runs.
        out: what it holds already is not run again.
        tuned: learning rates; None: every one of the grid, for the cases that have one of their own.
    """
    rows: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    RESULTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for partition, case in product(PARTITIONS, CASES):
            if (tuned is None and case in AS) or (partition != "iid" and case in ONLY_IID):
                continue
            place = rows.setdefault(partition, {}).setdefault(case, {})
            for lr in grid(case) if tuned is None else (tuned[partition][case],):
                if f"{lr:g}" in place:
                    continue
                told = tables(seed, case, partition, lr, parent_of(seed, Path(folder)))
                run = Path(folder) / f"{partition}-{case}-{lr:g}".replace(" ", "-").replace(":", "-")
                place[f"{lr:g}"] = measured(told, run)
                out.write_text(json.dumps(rows) + "\n")


def table() -> Iterator[str]:
    """What the files say: mean and deviation over the seeds."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("personal-seed*.json"))]
    for partition in PARTITIONS:
        whole = fmean(next(iter(row[partition]["FedAvg"].values()))["bytes"][-1] for row in found)
        for case in CASES:
            if partition != "iid" and case in ONLY_IID:
                continue
            cells = [next(iter(row[partition][case].values())) for row in found]
            lr = next(iter(found[0][partition][case]))
            own = over([cell["own"][-1] for cell in cells])
            shared = over([cell["shared"][-1] for cell in cells]) if cells[0]["shared"] and case != "alone" else "-"
            sent = 0 if case == "alone" else fmean(cell["bytes"][-1] for cell in cells)
            share = f"1/{whole / sent:.0f}" if sent else "0"
            yield f"| {partition} | {case} | {lr} | {own} | {shared} | {sent:,.0f} | {share} |"


def main(part: str, seed: int = 0) -> None:
    if part == "table":
        print("\n".join(table()))
    elif part == "tune":
        collect(TUNING_SEED, RESULTS / "personal-tuning.json", None)
    else:
        collect(seed, RESULTS / f"personal-seed{seed}.json", rates())


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
