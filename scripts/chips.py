"""What studies of imperfect chips found, out of their run folders into small files and tables.

    python scripts/chips.py repair runs/chips-repair results/chips/repair.json
    python scripts/chips.py repair runs/chips-training results/chips/training.json
    python scripts/chips.py federated runs/chips-federated results/chips/federated-4.json

Each prints the tables of docs/chips.md as Markdown: means over the seeds in percent, their deviation in brackets.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

REPAIRS = ("none", "gain", "adapt", "soft", "labels")

UNCHANGED = {"drift": "none"}
"""How a study's chips are called where nothing of them was moved; frozen-noise begins from the same chips."""


def runs(folder: Path) -> Iterator[tuple[str, int, Path, dict[str, Any]]]:
    """Label, seed, folder and result of every finished run."""
    for path in sorted(folder.glob("*/result.json")):
        label, _, seed = path.parent.name.rpartition("-seed")
        yield label, int(seed), path.parent, json.loads(path.read_text())


def latest(path: Path) -> list[dict[str, Any]]:
    """Records of a probe's last measurement."""
    return json.loads(path.read_text())["measurements"][-1]["records"]


def repair(folder: Path) -> list[dict[str, Any]]:
    """A row a network, setting, repair and seed: accuracy over the chips, PC2."""
    found = []
    for label, seed, path, _ in runs(folder):
        for file in sorted((path / "probes").glob("*.json")):
            for row in latest(file):
                if row["part"] == "accuracy":
                    rest = {key: value for key, value in row.items() if key != "part"}
                    found.append({"network": label, "seed": seed, "study": file.stem, **rest})
    return found


def federated(folder: Path) -> list[dict[str, Any]]:
    """A row a method, partition, network (shared or own), repair and seed: accuracy over the clients' chips, bytes."""
    found = []
    for label, seed, path, result in runs(folder):
        sent = {key: result[key] for key in ("upstream_bytes", "downstream_bytes")}
        for row in latest(path / "probes" / "own-chips.json"):
            if row["part"] == "means":
                rest = {key: value for key, value in row.items() if key != "part"}
                found.append({"run": label, "seed": seed, **rest, **sent})
    return found


def cell(values: list[float]) -> str:
    """Mean in percent, and deviation over the seeds."""
    if not values:
        return ""
    spread = f" ({100 * stdev(values):.1f})" if len(values) > 1 else ""
    return f"{100 * fmean(values):.1f}{spread}"


def repair_table(rows: list[dict[str, Any]]) -> str:
    """Networks x settings x repairs that somebody measured."""
    names = [name for name in REPAIRS if any(row["repair"] == name for row in rows)]
    digital = {r["network"]: [] for r in rows}
    for row in rows:
        if row["repair"] == "digital" and row["study"] == "drift":
            digital[row["network"]].append(row["accuracy"])
    head = " | ".join(["network (ideal)", "setting", "PC2", *names])
    lines = [f"| {head} |", "|" + " --- |" * (3 + len(names))]
    kinds = [(r["network"], r["study"], r.get("setting"), r.get("value")) for r in rows if r["repair"] == "none"]
    for network, study, setting, value in dict.fromkeys(kinds):
        if value is None and study == "frozen-noise":
            continue
        mine = [r for r in rows if (r["network"], r["study"], r.get("value")) == (network, study, value)]
        mine = [r for r in mine if r["repair"] != "digital"]
        by = {name: [r["accuracy"] for r in mine if r["repair"] == name] for name in names}
        pc2 = fmean(r["pc2"] for r in mine if r["repair"] == "none")
        told = f"{network} ({cell(digital[network])})"
        text = UNCHANGED.get(study, study) if value is None else f"{setting} {value:g}"
        lines.append(f"| {told} | {text} | {pc2:.1e} | " + " | ".join(cell(by[name]) for name in names) + " |")
    return "\n".join(lines)


def federated_table(rows: list[dict[str, Any]]) -> str:
    """Methods and partitions x repairs."""
    head = "| run | network | up, kB | digital | none | gain | adapt | soft | labels |"
    lines = [head, "|" + " --- |" * 9]
    for run, network in dict.fromkeys((r["run"], r["network"]) for r in rows):
        mine = [r for r in rows if (r["run"], r["network"]) == (run, network)]
        by = {name: [r["accuracy"] for r in mine if r["repair"] == name] for name in ("digital", *REPAIRS)}
        sent = fmean(r["upstream_bytes"] for r in mine) / 1000
        cells = " | ".join(cell(by[name]) for name in ("digital", *REPAIRS))
        lines.append(f"| {run} | {network} | {sent:.1f} | {cells} |")
    return "\n".join(lines)


STUDIES = {"repair": (repair, repair_table), "federated": (federated, federated_table)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=sorted(STUDIES))
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    collect, table = STUDIES[given.study]
    rows = [row for folder in given.runs for row in collect(folder)]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
