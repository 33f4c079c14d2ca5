"""Tables of runs of `tickets` and of what they are compared with, from a folder of run folders.

    python scripts/tickets_table.py runs/tickets-pooled [--level-rounds 5] [--out results/tickets/pooled.json]
    python scripts/tickets_table.py runs/tickets-federated [--out results/tickets/federated.json]

A ticket's accuracy is that of the last round of its level; a run without levels counts by its last round. Where the
probe `sparsity` measured in that round (experiments/sweeps/tickets-operations.toml), what it told stands beside.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from spikefed.experiment import RunFolder


def tickets(lines: list[dict[str, Any]], level_rounds: int) -> dict[int, dict[str, float]]:
    """By level: what the last round of its own training gave; after `level_rounds` rounds, if told."""
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        said = line["diagnostics"]
        if not said.get("searching", 1.0):
            found[int(said["level"])].append(line)
    costs: dict[str, float] = {}
    for line in lines:
        costs |= {key: value for key, value in line["diagnostics"].items() if key.startswith("search_")}
    table = {}
    for level, rounds in found.items():
        last = rounds[min(level_rounds or len(rounds), len(rounds)) - 1]
        rates = last.get("firing_rates") or {}
        table[level] = {
            "accuracy": last["server_accuracy"],
            "sparsity": 1 - last["diagnostics"]["mask_density"],
            "search_lif_steps": costs.get(f"search_lif_steps_{level}", 0.0),
            "rate": mean(rates.values()) if rates else 0.0,
        }
        if f"search_joules_{level}" in costs:
            table[level]["search_joules"] = costs[f"search_joules_{level}"]
    return table


def client_joules(path: Path, lines: list[dict[str, Any]]) -> dict[str, float]:
    """Arithmetic of all clients' training in a run, J, on hardware that skips pruned weights and on such that does not.

    What the rounds of `tickets` said; for a network that stays whole, what the run's energy file says of a client's
    round with the last weights, times the clients that took part.
    """
    said = [line["diagnostics"] for line in lines]
    if all("train_joules" in told for told in said):
        return {key: sum(told[key] for told in said) for key in ("train_joules", "train_joules_unpruned")}
    file = path / "energy.json"
    if not file.exists() or any("mask_density" in told for told in said):
        return {}
    rounds = json.loads(file.read_text(encoding="utf-8"))["client_round"]["training_pj"]
    whole = 1e-12 * rounds * sum(len(line["participants"]) for line in lines)
    return {"train_joules": whole, "train_joules_unpruned": whole}


def measured(path: Path, lines: list[dict[str, Any]]) -> dict[int, dict[str, float]]:
    """What the probe `sparsity` told at the end of each level, level 0 the dense network; empty without it."""
    file = path / "probes" / "sparsity.json"
    if not file.exists():
        return {}
    levels = {line["round"]: int(line["diagnostics"].get("level", 0)) for line in lines}
    accuracies = {line["round"]: line["server_accuracy"] for line in lines}
    told = json.loads(file.read_text(encoding="utf-8"))["measurements"]
    return {levels[m["round"]]: {"accuracy": accuracies[m["round"]], **m["headline"]} for m in told}


def summary(path: Path, level_rounds: int) -> dict[str, Any]:
    """One run."""
    lines = RunFolder(path).read_lines(RunFolder(path).metrics)
    last, dense = lines[-1], [line for line in lines if line["diagnostics"].get("level") == 0]
    return {
        "rounds": last["round"],
        "accuracy": last["server_accuracy"],
        "dense_accuracy": dense[-1]["server_accuracy"] if dense else None,
        "search_seconds": sum(line["seconds"]["clients"] for line in searching(lines)),
        "early_steps": next(
            (line["diagnostics"]["early_steps"] for line in lines if "early_steps" in line["diagnostics"]), None
        ),
        "kl": [
            line["diagnostics"][f"kl_{t}"] for line in lines for t in range(1, 33) if f"kl_{t}" in line["diagnostics"]
        ],
        "upstream_bytes": last["upstream_bytes_total"],
        "downstream_bytes": last["downstream_bytes_total"],
        **client_joules(path, lines),
        "search_joules_unpruned": sum(
            line["diagnostics"].get("train_joules_unpruned", 0.0) for line in searching(lines)
        ),
        "own_accuracy": mean(client["accuracy"] for client in last["clients"]),
        **{key: last[key] for key in ("clients_accuracy_mean", "vote_accuracy") if key in last},
        "levels": tickets(lines, level_rounds),
        "measured": measured(path, lines),
    }


def searching(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rounds until the last mask was found; training that is itself the search (IMP) counts."""
    last = max(int(line["diagnostics"].get("level", 0)) for line in lines)
    apart = any(line["diagnostics"].get("searching") and line["diagnostics"].get("level") for line in lines)
    return [
        line
        for line in lines
        if line["diagnostics"].get("searching") or (not apart and line["diagnostics"].get("level", last) < last)
    ]


def spread(values: list[float]) -> str:
    """Mean and deviation in percent."""
    return f"{100 * mean(values):.2f} ± {100 * stdev(values):.2f}" if len(values) > 1 else f"{100 * values[0]:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--level-rounds", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    runs: dict[str, dict[str, Any]] = defaultdict(dict)
    for path in sorted(p for p in given.runs.iterdir() if (p / "metrics.jsonl").exists() and RunFolder(p).finished()):
        label, seed = re.fullmatch(r"(.+)-seed(\d+)", path.name).groups()  # type: ignore[union-attr]
        runs[label][seed] = summary(path, given.level_rounds)
    for label, seeds in runs.items():
        parts = list(seeds.values())
        up, down = (mean(p[key] for p in parts) / 1e6 for key in ("upstream_bytes", "downstream_bytes"))
        last = spread([p["accuracy"] for p in parts])
        energy = [
            f"{1e3 * mean(p[key] for p in parts):.3g} mJ"
            for key in ("train_joules", "train_joules_unpruned")
            if key in parts[0]
        ]
        spent = f", training {' or '.join(dict.fromkeys(energy))}" if energy else ""
        print(f"{label}: {len(parts)} seeds, last {last} %, {up:.3f} MB up, {down:.3f} MB down{spent}")
        for level in sorted({level for p in parts for level in p["levels"]}):
            rows = [p["levels"][level] for p in parts if level in p["levels"]]
            steps = mean(row["search_lif_steps"] for row in rows)
            said = spread([row["accuracy"] for row in rows])
            paid = [row["search_joules"] for row in rows if "search_joules" in row]
            joules = f", {1e3 * mean(paid):.3g} mJ" if paid else ""
            print(f"    {100 * rows[0]['sparsity']:6.2f} % gone: {said} %, search {steps:.0f} steps{joules}")
        for level in sorted({level for p in parts for level in p["measured"]}):
            rows = [p["measured"][level] for p in parts if level in p["measured"]]
            left, synops, size = (mean(row[key] for row in rows) for key in ("left_share", "synops", "file_bytes"))
            time = 1e6 * mean(row["image_s"] for row in rows) if all("image_s" in row for row in rows) else float("nan")
            said = spread([row["accuracy"] for row in rows])
            print(
                f"    {100 * left:6.2f} % left: {said} %, {synops / 1e3:.1f} thousand operations, {size / 1e3:.1f} kB, "
                f"{time:.0f} us an image"
            )
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
