"""Small records of the study of input codings, and the tables of docs/coding.md.

    python scripts/coding.py collect RUNS... --to results/coding-fashion-mnist
    python scripts/coding.py tables results/coding-fashion-mnist

RUNS are folders of `spikefed compare experiments/sweeps/coding-*.toml`. Intervals are Student's, over the seeds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from spikefed.experiment import config as configs
from spikefed.files import write_atomic
from spikefed.report.curves import interval, mean

KEPT = ("attack", "surrogate", "eps", "flips", "accuracy", "accuracy_again", "changed_share", "spikes_flipped")
SIGNS = ("check", "flagged", "value")
ORDER = ("direct", "poisson", "bernoulli", "latency")


def record(run: Path) -> dict[str, Any]:
    """What a run says of its coding."""
    config = configs.load(run / "config.toml")
    result = json.loads((run / "result.json").read_text())
    found = {
        "coding": config.network.coding,
        "steps": config.network.steps,
        "network": config.network.name,
        "dataset": config.data.dataset,
        "method": config.method["name"],
        "adversarial": config.hyper().adversarial.attack,  # type: ignore[attr-defined]
        "seed": config.seed,
        "accuracy": result["accuracy"],
        "config_hash": result["config_hash"],
    }
    for path in sorted((run / "probes").glob("*.json")):
        last = json.loads(path.read_text())["measurements"][-1]
        found[path.stem] = {"headline": _rounded(last["headline"]), "rows": [_slim(row) for row in last["records"]]}
    return found


def _slim(row: dict[str, Any]) -> dict[str, Any]:
    keys = SIGNS if row.get("part") == "masking" else KEPT if row.get("part") in ATTACKED else tuple(row)
    return _rounded({key: row[key] for key in ("part", *keys) if row.get(key) is not None})


ATTACKED = ("attacks", "worst case", "spike flips")


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()}


def collect(folders: Iterable[Path], target: Path) -> None:
    """A file a run, named after it."""
    for folder in folders:
        for run in sorted(path.parent for path in folder.glob("*/result.json")):
            text = json.dumps(record(run), indent=1) + "\n"
            target.mkdir(parents=True, exist_ok=True)
            write_atomic(target / f"{run.name}.json", text.encode())


def percent(values: Sequence[float]) -> str:
    """Mean with the interval of the seeds, in per cent."""
    ends = interval(values)
    told = f"{100 * mean(values):.1f}"
    return told if ends is None else f"{told} ({100 * ends[0]:.1f} to {100 * ends[1]:.1f})"


def attacked(found: dict[str, Any], name: str) -> float | None:
    """Accuracy under an attack, or of a row of the worst case, at the largest eps."""
    for row in reversed(found.get("attack", {}).get("rows", [])):
        told = row.get("attack", row["part"]) if row["part"] in ("attacks", "worst case") else row["part"]
        told = f"{told} {row['surrogate']}" if row.get("surrogate", "own") != "own" else told
        if told == name:
            return row["accuracy"]
    return None


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
        here = [each for each in found if each["steps"] == t and "attack" in each]
        if here:
            out += ["", f"T = {t}", "", *_attack_table(here, codings, lambda c, v, t=t: cell(c, t, v))]
    plain = lambda values: f"{mean(values) / 1e6:.2f}"  # noqa: E731
    rows = {
        "network": lambda e: e["coding_probe"]["network, once"],
        "network, first layer T times": lambda e: e["coding_probe"]["network, every-step"],
        "random numbers": lambda e: e["coding_probe"]["random numbers"],
        "coder memory": lambda e: e["coding_probe"]["coder memory"],
    }
    for each in found:
        probed = each.get("coding-cost", {}).get("rows", [])
        each["coding_probe"] = {row["item"]: row["energy_pj"] for row in probed if "item" in row}
    for t in steps:
        if all(each["coding_probe"] for each in found if each["steps"] == t):
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


def _attack_table(here: list[dict[str, Any]], codings: list[str], cell: Callable[..., str]) -> list[str]:
    names = list(
        dict.fromkeys(_name(row) for each in here for row in each["attack"]["rows"] if row["part"] in ATTACKED)
    )
    out = ["| accuracy under | " + " | ".join(codings) + " |", "| --- |" + " --- |" * len(codings)]
    out += [
        f"| {name} | " + " | ".join(cell(c, lambda e, n=name: attacked(e, n)) for c in codings) + " |" for name in names
    ]
    again = lambda e: e["attack"]["headline"]["worst_accuracy_again"] if "attack" in e else None  # noqa: E731
    return [*out, "| worst case, fresh draws | " + " | ".join(cell(c, again) for c in codings) + " |"]


def _name(row: dict[str, Any]) -> str:
    told = row.get("attack", row["part"])
    return f"{told} {row['surrogate']}" if row.get("surrogate", "own") != "own" else told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("collect", "tables"))
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--to", type=Path, default=Path("results/coding-fashion-mnist"))
    given = parser.parse_args()
    if given.command == "collect":
        collect(given.folders, given.to)
    else:
        print("\n\n".join(map(tables, given.folders)))


if __name__ == "__main__":
    main()
