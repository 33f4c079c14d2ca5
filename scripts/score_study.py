"""Does a score of untrained cells tell how well they train? Kendall's tau with an interval, the pick, its spread.

    python scripts/score_study.py [--cells 24] [--seeds 5] [--data-dir DATA] [--out results/search/scores.json]

Random cells of the space with edges backward in time are scored with several seeds (other images, other weights), then
each is trained alike in a pooled run on 2,000 images of Fashion-MNIST; accuracy is that on 2,000 test images. The file
is written after every cell, and a repeated command, also one with more cells, goes on with it; `--summary` reads it
without running anything.

Trained longer, which is what docs/results.md reads:

    python scripts/score_study.py --cells 100 --dataset digits --images 1000 --epochs 16 --lr 4e-3 \
        --out results/search/scores-digits.json
    python scripts/score_study.py --cells 36 --epochs 5 --lr 4e-3 --out results/search/scores-fashion-mnist.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau, rankdata

from spikefed.experiment import RunFolder, from_tree, run
from spikefed.experiment.provenance import commit, cpu_model
from spikefed.experiment.search import SearchFile, SearchTable, task_of
from spikefed.files import write_atomic
from spikefed.networks.cells import CIFAR10, Cell
from spikefed.search import Space, scoring

SIZES = "width=8,hidden=64,vote=1,dropout=0"
SCORED = ("sahd", "hd", "parameters", "macs", "spikes", "sops")
RANKED = ("sahd", "macs", "spikes")  # more of each is better: the search's score "ensemble"
BOOTSTRAPS = 2000


def tree(args: argparse.Namespace, network: dict[str, Any], seed: int) -> dict[str, Any]:
    """A pooled run of one network; four time steps, the current read out."""
    return {
        "name": "network-study",
        "seed": seed,
        "rounds": args.epochs,
        "data": {
            "dataset": args.dataset,
            "clients": 4,
            "private_per_client": args.images // 4,
            "public": 200,
            "pooled": True,
            "test_limit": args.test,
            **({"dir": args.data_dir} if args.data_dir else {}),
        },
        "network": {"steps": 4, "readout": "current", **network},
        "training": {"local_epochs": 1, "local_batch": 32, "lr": args.lr},
        "method": {"name": "fedavg"},
        "run": {"threads": 1},
    }


def of_cell(cell: Cell) -> dict[str, Any]:
    """The network of one cell."""
    return {"name": f"cell:{cell}:{SIZES}"}


def cells(count: int) -> list[Cell]:
    """Different random cells."""
    draw, found = torch.Generator().manual_seed(0), []
    while len(found) < count:
        cell = Space(backward=True).draw(draw).canonical
        if cell not in found:
            found.append(cell)
    return found


def scored(args: argparse.Namespace, chosen: list[Cell]) -> dict[str, list[dict[str, float]]]:
    """Figures of every cell, one row a seed."""
    rows: dict[str, list[dict[str, float]]] = {str(cell): [] for cell in chosen}
    for seed in range(args.seeds):
        file = SearchFile(
            from_tree(tree(args, of_cell(CIFAR10), seed)), SearchTable(sizes=SIZES.removesuffix(",dropout=0"))
        )
        with scoring(task_of(file), 1) as score:
            for record in score(chosen):
                rows[record["cell"]].append({name: record[name] for name in SCORED})
    return rows


def trained(args: argparse.Namespace, cell: Cell) -> float:
    """Test accuracy after training, in [0, 1]."""
    with tempfile.TemporaryDirectory() as folder:
        path = run(from_tree(tree(args, of_cell(cell), 0)), out=Path(folder) / "run")
        return RunFolder(path).read_result()["accuracy"]


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """Taus with 90 % bootstrap intervals over cells, and what each score would have picked."""
    names = [cell for cell in found["scores"] if cell in found["accuracy"]]
    accuracy = np.array([found["accuracy"][cell] for cell in names])
    told: dict[str, Any] = {"cells": len(names), "median_accuracy": float(np.median(accuracy))}
    draws = np.random.default_rng(0).integers(0, len(names), (BOOTSTRAPS, len(names)))
    scores = {name: np.array([[row[name] for row in found["scores"][cell]] for cell in names]) for name in SCORED}
    for name in ("snip",):  # of studies that measured it
        if all(name in row for cell in names for row in found["scores"][cell]):
            scores[name] = np.array([[row[name] for row in found["scores"][cell]] for cell in names])
    scores["ensemble"] = np.mean([rankdata(scores[name], axis=0) for name in RANKED], axis=0) / len(names)
    for name, table in scores.items():
        mean = table.mean(1)
        taus = [kendalltau(mean[d], accuracy[d]).statistic for d in draws]
        picks = [float(accuracy[int(column.argmax())]) for column in table.T]
        told[name] = {
            "tau": float(kendalltau(mean, accuracy).statistic),
            "interval_90": [float(q) for q in np.nanquantile(taus, [0.05, 0.95])],
            "pick": float(accuracy[int(mean.argmax())]),
            "picks_by_seed": picks,
            "spread_of_picks": statistics.stdev(picks) if len(picks) > 1 else 0.0,
        }
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--data-dir")
    parser.add_argument("--summary", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("results/search/scores.json"))
    args = parser.parse_args()
    setting = {key: value for key, value in vars(args).items() if key not in ("out", "data_dir", "summary")}
    found: dict[str, Any] = json.loads(args.out.read_text()) if args.out.is_file() else {}
    if not args.summary:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        chosen = cells(args.cells)
        if {"lr": 1e-3, **found.get("setting", {}), "cells": args.cells} != setting:
            found = {"setting": setting, "cpu": cpu_model(), "commit": commit(), "scores": {}, "accuracy": {}}
        found["setting"] = setting  # a study with more cells goes on with that of fewer
        new = [cell for cell in chosen if str(cell) not in found["scores"]]
        found["scores"] |= scored(args, new)
        for cell in chosen:
            if str(cell) not in found["accuracy"]:
                found["accuracy"][str(cell)] = trained(args, cell)
                write_atomic(args.out, json.dumps(found, indent=1) + "\n")
                print(cell, found["accuracy"][str(cell)], flush=True)
    found["summary"] = summary(found)
    write_atomic(args.out, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["summary"], indent=1))


if __name__ == "__main__":
    main()
