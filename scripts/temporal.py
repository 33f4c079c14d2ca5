"""Collect temporal information of finished runs into one small JSON a study, and print its table.

    python scripts/temporal.py collect runs/temporal-digits results/temporal/digits.json
    python scripts/temporal.py table results/temporal/digits.json
    python scripts/temporal.py learnt results/temporal/digits-nets-decayed.json
    python scripts/temporal.py attacks results/temporal/kappa-fashion-mnist.json    # where runs have the probe attack

A row of the table is an arm: the centroid after the first epoch and after the last, mean over seeds, and in how many
seeds it fell by more than two standard errors of the difference (of the two measurements together), or rose by more.
A row of ``learnt`` is what became of all runs that end with every measured training image right, or without.
"""

from __future__ import annotations

import json
import math
import os
import re
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

PROBES = {
    "temporal": "true labels, training",
    "temporal-sampled": "sampled, training",
    "temporal-expected": "all labels, training",
    "temporal-test": "true, held out",
    "temporal-test-expected": "all labels, held out",
}


def collect(source: Path, target: Path) -> None:
    """One record a finished run: its arm, seed, epochs, accuracy, and what the probes said at its end."""
    records = [_record(path.parent) for path in sorted(source.rglob("result.json"))]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    print(f"{len(records)} runs in {target}")


def _record(folder: Path) -> dict[str, Any]:
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    probes = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (folder / "probes").glob("*.json")}
    return {
        "run": re.sub(r"-seed\d+$", "", folder.name),
        "seed": result["seed"],
        "epochs": result["rounds"],
        "accuracy": result.get("server_accuracy", result.get("accuracy")),
        "probes": {label: _said(tree) for label, tree in sorted(probes.items())},
        "commit": provenance.get("commit"),
        "torch": provenance.get("torch"),
        "cpu": provenance.get("cpu"),
    }


def _said(tree: dict[str, Any]) -> dict[str, Any]:
    last = tree["measurements"][-1]
    if tree["probe"] == "attack":
        named = ("fgsm", "square")
        rows = [row for row in last["records"] if row.get("attack") in named or row["part"] == "worst case"]
        told = {f"{row.get('attack', 'worst')} at {row['eps']:g}": row["accuracy"] for row in rows}
        return {"images": last["images"], "clean": last["headline"]["clean_accuracy"], **told}
    if tree["probe"] != "temporal":
        return last["headline"]
    steps = [row for row in last["records"] if row["part"] == "steps"]
    keys = ("information", "accuracy", "kl_ratio")
    return last["headline"] | {key: [float(f"{row[key]:.5g}") for row in steps] for key in keys}


def table(path: Path) -> None:
    """Markdown: an arm a row."""
    records = json.loads(path.read_text(encoding="utf-8"))
    told = _told(records)
    print("| arm | accuracy | " + " | ".join(told.values()) + " |")
    print("| --- " * (2 + len(told)) + "|")
    for arm, seeds in _arms(records).items():
        print(f"| `{arm}` | {_accuracy(seeds)} | " + " | ".join(_cell(seeds, label) for label in told) + " |")


def learnt(path: Path) -> None:
    """Markdown: runs whose last network is right on every measured training image and the others, a row each."""
    records = json.loads(path.read_text(encoding="utf-8"))
    told = _told(records)
    runs = [epochs for seeds in _arms(records).values() for epochs in seeds.values()]
    print("| training images at the end | runs | " + " | ".join(told.values()) + " |")
    print("| --- " * (2 + len(told)) + "|")
    for title, whole in (("all right", True), ("not all right", False)):
        own = [run for run in runs if (run[max(run)]["probes"]["temporal"]["accuracy"][-1] == 1) is whole]
        cells = []
        for label in told:
            changes = [_change(run, label) for run in own]
            fell, rose = _far(changes)
            cells.append(f"fell in {sum(c < 0 for c in changes)}, by two errors in {fell}; rose by two in {rose}")
        print(f"| {title} | {len(own)} | " + " | ".join(cells) + " |")


def _far(changes: list[float]) -> tuple[int, int]:
    """How many fell by more than two standard errors, and how many rose by more."""
    return sum(c < -2 for c in changes), sum(c > 2 for c in changes)


def _told(records: list[dict[str, Any]]) -> dict[str, str]:
    """Titles of the probes that every run has."""
    return {label: title for label, title in PROBES.items() if all(label in record["probes"] for record in records)}


def _arms(records: list[dict[str, Any]]) -> dict[str, dict[int, dict[int, dict[str, Any]]]]:
    """Records by arm, seed and epochs; of runs that are named after their experiments too, the arm alone."""
    names = [record["run"].replace("-first", "") for record in records]
    common = os.path.commonprefix(sorted(set(names))).rpartition("-")[0]
    common = common if common.startswith("temporal-") else ""
    arms: dict[str, dict[int, dict[int, dict[str, Any]]]] = defaultdict(lambda: defaultdict(dict))
    for name, record in zip(names, records, strict=True):
        arms[name[len(common) + 1 if common else 0 :]][record["seed"]][record["epochs"]] = record
    return arms


def _change(run: dict[int, dict[str, Any]], label: str) -> float:
    """Of the centroid from the first measurement to the last, in standard errors of the difference."""
    first, last = (run[epochs]["probes"][label] for epochs in (min(run), max(run)))
    return (last["centroid"] - first["centroid"]) / math.hypot(first["centroid_se"], last["centroid_se"])


def attacks(path: Path) -> None:
    """Markdown: accuracy of each arm clean and under attack, mean over seeds and each seed."""
    arms: dict[str, list[dict[str, float]]] = defaultdict(list)
    for record in json.loads(path.read_text(encoding="utf-8")):
        if "attack" in record["probes"]:
            arms[record["run"]].append(record["probes"]["attack"])
    keys = [key for key in next(iter(arms.values()))[0] if key != "images"]
    print("| arm | " + " | ".join(keys) + " |")
    print("| --- " * (1 + len(keys)) + "|")
    for arm, found in arms.items():
        cells = [[100 * one[key] for one in found] for key in keys]
        told = [f"{statistics.mean(each):.1f} % ({', '.join(f'{v:.0f}' for v in each)})" for each in cells]
        print(f"| `{arm}` | " + " | ".join(told) + " |")


def _accuracy(seeds: dict[int, dict[int, dict[str, Any]]]) -> str:
    return f"{100 * statistics.mean(epochs[max(epochs)]['accuracy'] for epochs in seeds.values()):.1f} %"


def _cell(seeds: dict[int, dict[int, dict[str, Any]]], label: str) -> str:
    pairs = [(e[min(e)]["probes"][label], e[max(e)]["probes"][label]) for e in seeds.values()]
    before, after = ([pair[place]["centroid"] for pair in pairs] for place in (0, 1))
    if all(min(e) == max(e) for e in seeds.values()):
        return f"{statistics.mean(after):.2f} ({', '.join(f'{v:.2f}' for v in after)})"
    fell, rose = _far([_change(epochs, label) for epochs in seeds.values()])
    return (
        f"{statistics.mean(before):.2f} to {statistics.mean(after):.2f}; fell in {fell}, rose in {rose} of {len(pairs)}"
    )


def main() -> None:
    match sys.argv[1:]:
        case ["collect", source, target]:
            collect(Path(source), Path(target))
        case ["table", path]:
            table(Path(path))
        case ["learnt", path]:
            learnt(Path(path))
        case ["attacks", path]:
            attacks(Path(path))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
