"""The cells that a score picks, trained beside VGG-like networks of equal parameters and of equal synaptic operations.

    python scripts/cell_study.py [--seeds 3] [--cells 3] [--out results/search/cells-digits.json]

Cells of the highest, of the middle and of the lowest mean SAHD in ``--scores`` (of `score_study.py`), and a family of
VGG-like networks of eighteen widths (two convolutions, pool, two of twice the width, pool, 64 hidden), all with equal
neurons, norm, images, epochs and learning rate. The file is written after every run, and a repeated command goes on
with it; `--summary` reads it without running anything. Accuracy is that on the test images; synaptic operations are
counted on the trained network. Differences are paired by seed, with their 95 % t interval.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student
from score_study import SIZES, tree

import spikefed
from spikefed.experiment import RunFolder, from_tree, run
from spikefed.experiment.provenance import commit, cpu_model
from spikefed.files import write_atomic
from spikefed.networks import describe

WIDTHS = range(3, 21)
# The cells' neuron, u += 3/4 (x - u), fires at 1: written without the gain, as the threshold and the surrogate's width.
NEURON = {"kind": "hard", "decay": 0.25, "threshold": 4 / 3, "strict": False, "surrogate": "atan:alpha=1.5"}


def vgg(width: int) -> str:
    """The layout of a VGG-like network."""
    return f"{width}C3-{width}C3-AP2-{2 * width}C3-{2 * width}C3-AP2-64FC"


def chosen(path: Path, count: int) -> dict[str, list[str]]:
    """Cells by mean SAHD over seeds: the highest, those around the middle, the lowest."""
    scores = json.loads(path.read_text())["scores"]
    order = sorted(scores, key=lambda cell: -float(np.mean([row["sahd"] for row in scores[cell]])))
    middle = (len(order) - count) // 2
    return {"highest": order[:count], "middle": order[middle : middle + count], "lowest": order[-count:]}


def trained(args: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """Accuracy, parameters and synaptic operations an image of one network."""
    own = {} if name.startswith("cell:") else {"norm": "bn-step", "neuron": {**NEURON, "detach_reset": True}}
    with tempfile.TemporaryDirectory() as folder:
        path = run(from_tree(tree(args, {"name": name, **own}, seed)), out=Path(folder) / "run")
        energy = json.loads((path / "energy.json").read_text())["totals"]
        return {
            "network": name,
            "seed": seed,
            "accuracy": RunFolder(path).read_result()["accuracy"],
            "parameters": describe(spikefed.load_model(path).network).parameters,
            "synops": energy["synops"],
        }


def difference(ours: dict[int, float], other: dict[int, float]) -> dict[str, float]:
    """Mean of the paired differences over common seeds, in points, and its 95 % interval."""
    each = 100 * np.array([ours[seed] - other[seed] for seed in sorted(ours.keys() & other.keys())])
    half = float(student.ppf(0.975, len(each) - 1) * each.std(ddof=1) / len(each) ** 0.5) if len(each) > 1 else np.inf
    mean = float(each.mean())
    return {"points": mean, "low": mean - half, "high": mean + half, "seeds": len(each)}


def summary(found: dict[str, Any]) -> list[dict[str, Any]]:
    """For each cell its figures, and those of the VGG-like networks nearest in parameters and in operations."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in found["rows"]:
        by_name.setdefault(row["network"], []).append(row)
    means = {name: {key: float(np.mean([r[key] for r in rows])) for key in ("accuracy", "parameters", "synops")}
             for name, rows in by_name.items()}  # fmt: skip
    seeds = {name: {row["seed"]: row["accuracy"] for row in rows} for name, rows in by_name.items()}
    rivals = [name for name in means if not name.startswith("cell:")]
    told = []
    for kind, cells in found["cells"].items():
        for cell in cells:
            name = f"cell:{cell}:{SIZES}"
            if name not in means or not rivals:
                continue
            line: dict[str, Any] = {"kind": kind, "cell": cell, **means[name]}
            for key in ("parameters", "synops"):
                near = min(rivals, key=lambda other: abs(np.log(means[other][key] / means[name][key])))
                line[f"equal_{key}"] = {
                    "network": near, **means[near], "difference": difference(seeds[name], seeds[near])
                }  # fmt: skip
            told.append(line)
    return told


def table(lines: list[dict[str, Any]]) -> str:
    """As Markdown."""
    rows = ["| SAHD | cell | accuracy | parameters | SOPs | less VGG of its parameters | less VGG of its SOPs |"]
    rows.append("| --- | --- | --- | --- | --- | --- | --- |")
    for line in lines:
        beside = [line["equal_parameters"], line["equal_synops"]]
        apart = [
            f"{it['difference']['points']:+.1f} ({it['difference']['low']:.1f} to {it['difference']['high']:.1f}), "
            f"{it['parameters']:,.0f} and {it['synops']:,.0f}"
            for it in beside
        ]
        rows.append(
            f"| {line['kind']} | `{line['cell']}` | {100 * line['accuracy']:.1f} | {line['parameters']:,.0f} | "
            f"{line['synops']:,.0f} | {apart[0]} | {apart[1]} |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", type=Path, default=Path("results/search/scores-digits.json"))
    parser.add_argument("--cells", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--data-dir")
    parser.add_argument("--summary", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("results/search/cells-digits.json"))
    args = parser.parse_args()
    cells = chosen(args.scores, args.cells)
    found: dict[str, Any] = json.loads(args.out.read_text()) if args.out.is_file() else {}
    if not args.summary:
        setting = {key: getattr(args, key) for key in ("dataset", "images", "epochs", "lr")}
        if found.get("setting") != setting or found.get("cells") != cells:
            found = {"setting": setting, "cells": cells, "cpu": cpu_model(), "commit": commit(), "rows": []}
        done = {(row["network"], row["seed"]) for row in found["rows"]}
        names = [f"cell:{cell}:{SIZES}" for kind in cells.values() for cell in kind] + [vgg(width) for width in WIDTHS]
        for seed in range(args.seeds):
            for name in names:
                if (name, seed) not in done:
                    found["rows"].append(trained(args, name, seed))
                    args.out.parent.mkdir(parents=True, exist_ok=True)
                    write_atomic(args.out, json.dumps(found, indent=1) + "\n")
                    print(found["rows"][-1], flush=True)
    found["summary"] = summary(found)
    write_atomic(args.out, json.dumps(found, indent=1) + "\n")
    print(table(found["summary"]))


if __name__ == "__main__":
    main()
