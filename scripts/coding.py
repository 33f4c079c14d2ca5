"""Small records of the study of input codings, and the tables of docs/coding.md.

    python scripts/coding.py collect RUNS... --to results/coding-fashion-mnist
    python scripts/coding.py tables results/coding-fashion-mnist

RUNS are folders of `spikefed compare experiments/sweeps/coding-*.toml`. Intervals are Student's, over the seeds.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from records import study

T_975 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""Student's t for a 95 % interval, by the number of seeds."""

KEPT = ("attack", "surrogate", "eps", "flips", "accuracy", "accuracy_again", "changed_share", "spikes_flipped")
SIGNS = ("check", "flagged", "value")
ORDER = ("direct", "poisson", "bernoulli", "latency")


def record(run: Path) -> dict[str, Any]:
    """What a run says of its coding."""
    config = tomllib.loads((run / "config.toml").read_text())
    result = json.loads((run / "result.json").read_text())
    found = {
        "coding": config["network"]["coding"],
        "steps": config["network"]["steps"],
        "network": config["network"]["name"],
        "dataset": config["data"]["dataset"],
        "method": config["method"]["name"],
        "seed": config["seed"],
        "accuracy": result["accuracy"],
        "config_hash": result["config_hash"],
        "probes": {},
    }
    for path in sorted((run / "probes").glob("*.json")):
        last = json.loads(path.read_text())["measurements"][-1]
        found["probes"][path.stem] = {
            "headline": _rounded(last["headline"]),
            "rows": [_slim(row) for row in last["records"]],
        }
    return found


def _slim(row: dict[str, Any]) -> dict[str, Any]:
    keys = SIGNS if row.get("part") == "masking" else KEPT if row.get("part") in ATTACKED else tuple(row)
    return _rounded({key: row[key] for key in ("part", *keys) if row.get(key) is not None})


ATTACKED = ("attacks", "worst case", "spike flips")


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()}


def percent(values: Sequence[float]) -> str:
    """Mean with the interval of the seeds, in per cent."""
    middle = mean(values)
    if len(values) not in T_975:
        return f"{100 * middle:.1f}"
    half = T_975[len(values)] * stdev(values) / len(values) ** 0.5
    return f"{100 * middle:.1f} ({100 * (middle - half):.1f} to {100 * (middle + half):.1f})"


def attacked(found: dict[str, Any], name: str, eps: float | None = None) -> float | None:
    """Accuracy under an attack, or of a row of the worst case, at an eps or at the largest one.

    What has no eps of the study (clean images, spike flips, every pixel free) is found at any.
    """
    rows = found["probes"].get("attack", {}).get("rows", [])
    known = distances([found])
    for row in reversed(rows):
        if eps is not None and row.get("eps") in known and row["eps"] != eps:
            continue
        told = row.get("attack", row["part"]) if row["part"] in ("attacks", "worst case") else row["part"]
        told = f"{told} {row['surrogate']}" if row.get("surrogate", "own") != "own" else told
        if told == name:
            return row["accuracy"]
    return None


def distances(found: Sequence[dict[str, Any]]) -> list[float]:
    """Every eps of the records, ascending."""
    rows = [row for each in found for row in each["probes"].get("attack", {}).get("rows", [])]
    return sorted({row["eps"] for row in rows if row["part"] == "worst case"})


def again(found: dict[str, Any], eps: float) -> float | None:
    """What the worst case at an eps leaves on draws that did not choose."""
    rows = found["probes"].get("attack", {}).get("rows", [])
    return next((row["accuracy_again"] for row in rows if row["part"] == "worst case" and row["eps"] == eps), None)


def tables(folder: Path) -> str:
    """Accuracy by T, under attack, and energy."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    codings = [coding for coding in ORDER if any(each["coding"] == coding for each in found)]
    steps = sorted({each["steps"] for each in found})

    def cell(coding: str, t: int, value: Callable[[dict[str, Any]], float | None], write: Any = percent) -> str:
        values = [value(each) for each in found if (each["coding"], each["steps"]) == (coding, t)]
        known = [each for each in values if each is not None]
        return write(known) if known else ""

    out = ["| T | " + " | ".join(codings) + " |", "| --- |" + " --- |" * len(codings)]
    out += [f"| {t} | " + " | ".join(cell(c, t, lambda e: e["accuracy"]) for c in codings) + " |" for t in steps]
    for t in steps:
        here = [each for each in found if each["steps"] == t and "attack" in each["probes"]]
        for eps in distances(here):
            out += ["", f"T = {t}, eps = {eps:g}", ""]
            out += _attack_table(here, codings, lambda c, v, t=t: cell(c, t, v), eps)
    plain = lambda values: f"{mean(values) / 1e6:.2f}"  # noqa: E731
    rows = {
        "network": lambda e: e["cost"]["network, once"],
        "network, first layer T times": lambda e: e["cost"]["network, every-step"],
        "random numbers": lambda e: e["cost"]["random numbers"],
        "coder memory": lambda e: e["cost"]["coder memory"],
    }
    for each in found:
        probed = each["probes"].get("coding", {}).get("rows", [])
        each["cost"] = {row["item"]: row["energy_pj"] for row in probed if "item" in row}
    for t in steps:
        if all(each["cost"] for each in found if each["steps"] == t):
            out += [
                "",
                f"T = {t}, uJ an image",
                "",
                "| item | " + " | ".join(codings) + " |",
                "| --- |" + " --- |" * len(codings),
            ]
            out += [
                f"| {name} | " + " | ".join(cell(c, t, v, plain) for c in codings) + " |" for name, v in rows.items()
            ]
    return "\n".join(out)


def _attack_table(here: list[dict[str, Any]], codings: list[str], cell: Callable[..., str], eps: float) -> list[str]:
    names = list(
        dict.fromkeys(
            _name(row) for each in here for row in each["probes"]["attack"]["rows"] if row["part"] in ATTACKED
        )
    )
    out = ["| accuracy under | " + " | ".join(codings) + " |", "| --- |" + " --- |" * len(codings)]
    out += [
        f"| {name} | " + " | ".join(cell(c, lambda e, n=name: attacked(e, n, eps)) for c in codings) + " |"
        for name in names
    ]
    return [*out, "| worst case, fresh draws | " + " | ".join(cell(c, lambda e: again(e, eps)) for c in codings) + " |"]


def _name(row: dict[str, Any]) -> str:
    told = row.get("attack", row["part"])
    return f"{told} {row['surrogate']}" if row.get("surrogate", "own") != "own" else told


if __name__ == "__main__":
    study(__doc__ or "", record, tables, "results/coding-fashion-mnist")
