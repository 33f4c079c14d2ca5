"""Small records of the study of codings in a federation, and the tables of docs/coding.md.

    python scripts/coding_federated.py collect runs/coding-federated --to results/coding-federated
    python scripts/coding_federated.py tables results/coding-federated

The runs are those of `spikefed compare experiments/sweeps/coding-federated-digits.toml`. Intervals are Student's over
the seeds, 95 %; differences are taken seed by seed.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from coding import T_975, percent
from records import study

LABELS = ("fsd", "fsd+", "fedavg", "fedavg-robust")
CODINGS = ("direct", "bernoulli")
TARGET = "0.95"


def record(run: Path) -> dict[str, Any]:
    """What a run says of its accuracy, its bytes and its attacks."""
    config = tomllib.loads((run / "config.toml").read_text())
    result = json.loads((run / "result.json").read_text())
    probed = json.loads((run / "probes" / "attack.json").read_text())["measurements"][-1]["headline"]
    reached = result["targets"].get(TARGET)
    robust = config["training"].get("adversarial", {}).get("attack", "none") != "none"
    return {
        "label": config["label"] if not robust or config["label"].endswith("robust") else f"{config['label']}-robust",
        "coding": config["network"]["coding"],
        "liar": config["name"].endswith("-liar"),
        "seed": config["seed"],
        "accuracy": round(result["accuracy"], 5),
        "upstream_bytes": result["upstream_bytes"],
        "downstream_bytes": result["downstream_bytes"],
        "upstream_bytes_to_target": reached and reached["upstream_bytes"],
        "config_hash": result["config_hash"],
        "attack": {name: round(value, 5) for name, value in probed.items()},
    }


class Study:
    """All records of a folder.

    Args:
        found: what `record` gave of each.
    """

    def __init__(self, found: Sequence[dict[str, Any]]) -> None:
        self._found = {(each["label"], each["coding"], each["liar"], each["seed"]): each for each in found}
        self.seeds = sorted({each["seed"] for each in found})

    def values(self, label: str, coding: str, liar: bool, read: Callable[[dict[str, Any]], float]) -> list[float]:
        """Of each seed, in order.

        Args:
            label: of the method.
            coding: of the network.
            liar: with a client that lies.
            read: the value of a record.
        """
        keys = [(label, coding, liar, seed) for seed in self.seeds]
        return [read(self._found[key]) for key in keys if key in self._found]


def points(values: Sequence[float]) -> str:
    """Mean of differences with its interval, in points."""
    middle = 100 * mean(values)
    if len(values) not in T_975:
        return f"{middle:+.1f}"
    half = 100 * T_975[len(values)] * stdev(values) / len(values) ** 0.5
    return f"{middle:+.1f} ({middle - half:+.1f} to {middle + half:+.1f})"


def less(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """Differences, seed by seed."""
    return [x - y for x, y in zip(a, b, strict=True)]


def accuracy(run: dict[str, Any]) -> float:
    """Share of the test images."""
    return run["accuracy"]


def worst(run: dict[str, Any]) -> float:
    """Share of the attacked images that stand under every attack, on draws that did not choose."""
    return run["attack"]["worst_accuracy_again"]


def kilobytes(values: Sequence[float]) -> str:
    """Mean in kB."""
    return f"{mean(values) / 1000:.1f}"


def tables(folder: Path) -> str:
    """What each coding reaches, sends, and loses to a liar and to attacks."""
    study = Study([json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))])
    heads = ["method", *CODINGS, "bernoulli minus direct", "a liar takes: direct", "bernoulli", "difference"]
    first = [_head(heads)]
    second = [_head(["method", "kB up: direct", "bernoulli", "worst case: direct", "bernoulli", "difference"])]
    for label in LABELS:
        clean = [study.values(label, coding, False, accuracy) for coding in CODINGS]
        lied = [study.values(label, coding, True, accuracy) for coding in CODINGS]
        lost = [less(a, b) for a, b in zip(clean, lied, strict=True)]
        first.append(
            _row(
                [label, *map(percent, clean), points(less(*clean[::-1])), *map(points, lost), points(less(*lost[::-1]))]
            )
        )
        sent = [study.values(label, coding, False, lambda run: run["upstream_bytes"]) for coding in CODINGS]
        stood = [study.values(label, coding, False, worst) for coding in CODINGS]
        second.append(_row([label, *map(kilobytes, sent), *map(percent, stood), points(less(*stood[::-1]))]))
    return "\n".join([*first, "", *second])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _head(cells: Sequence[str]) -> str:
    return _row(cells) + "\n|" + " --- |" * len(cells)


if __name__ == "__main__":
    study(__doc__ or "", record, tables, "results/coding-federated")
