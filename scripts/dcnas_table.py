"""Tables of runs of `dc-nas`: accuracy and cost of every sampler, and their differences seed by seed.

    python scripts/dcnas_table.py runs/dcnas-digits [--out results/search/dcnas-digits.json]

Run folders are named KIND-SAMPLER-PARTITION-seedS, or KIND-SAMPLER-PARTITION-CLIENTS-seedS. Costs are sums over all
rounds, those after the search included, and over those of the search alone: beside the supernet (what it would have
taken in all of them), and beside the run of sampler `full` of the same seed.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from scipy.stats import t as student

from spikefed.experiment import RunFolder

NAME = re.compile(r"(snn|ann)-(\w+)-((?:iid|dirichlet-[\d.]+)(?:-\d+)?)-seed(\d+)")
PAIRS = (
    ("full", "diversified"),
    ("full", "lean"),
    ("diversified", "uniform"),
    ("diversified", "hadamard"),
    ("short_sahd", "short"),  # of experiments/sweeps/dcnas-prior.toml
    ("long_sahd", "long"),
)
COSTS = ("macs", "bytes", "search_macs", "search_bytes")
METERS = ("macs_trained", "macs_full", "tensor_bytes", "tensor_bytes_full")


def summary(path: Path) -> dict[str, Any]:
    """One run."""
    lines = RunFolder(path).read_lines(RunFolder(path).metrics)
    said = [line["diagnostics"] for line in lines]
    last = lines[-1]
    sums = {key: sum(round[key] for round in said) for key in METERS}
    searching = [line for line in lines if line["diagnostics"]["searching"]]
    return {
        "rounds": last["round"],
        "accuracy": last["server_accuracy"],
        "searched_accuracy": searching[-1]["server_accuracy"],
        "bytes": last["upstream_bytes_total"] + last["downstream_bytes_total"],
        "macs": sums["macs_trained"],
        "search_bytes": searching[-1]["upstream_bytes_total"] + searching[-1]["downstream_bytes_total"],
        "search_macs": sum(line["diagnostics"]["macs_trained"] for line in searching),
        "macs_share": sums["macs_trained"] / sums["macs_full"],
        "bytes_share": sums["tensor_bytes"] / sums["tensor_bytes_full"],
        "peak_share": max(round["parameters_peak"] for round in said) / said[0]["parameters_full"],
        "network_parameters": said[-1]["network_parameters"],
        "distance_miss": max(
            (abs(round["distance"] - round["distance_asked"]) for round in said if "distance" in round), default=0.0
        ),
    }


def interval(differences: list[float]) -> dict[str, float | None]:
    """Mean difference in points, and its 95 % t interval (none of a single pair)."""
    points = [100 * d for d in differences]
    found: dict[str, float | None] = {"pairs": len(points), "mean": mean(points), "low": None, "high": None}
    if len(points) > 1:
        half = float(student.ppf(0.975, len(points) - 1)) * stdev(points) / len(points) ** 0.5
        found |= {"low": mean(points) - half, "high": mean(points) + half}
    return found


def compared(runs: dict[tuple[str, str, str, int], dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Differences of accuracy, by kind and pair: of each partition, and of both together."""
    found: dict[str, list[float]] = defaultdict(list)
    for kind, sampler, partition, seed in sorted(runs):
        for one, other in PAIRS:
            if sampler == one and (kind, other, partition, seed) in runs:
                difference = (
                    runs[kind, one, partition, seed]["accuracy"] - runs[kind, other, partition, seed]["accuracy"]
                )
                found[f"{kind} {one} - {other}, {partition}"].append(difference)
                found[f"{kind} {one} - {other}, all"].append(difference)
    return {name: interval(values) for name, values in sorted(found.items())}


def grouped(runs: dict[tuple[str, str, str, int], dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Means over seeds of every kind, sampler and partition."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for (kind, sampler, partition, seed), run in sorted(runs.items()):
        full = runs.get((kind, "full", partition, seed))
        told = [cost for cost in COSTS if full is not None and cost in run and cost in full]  # older files lack some
        beside = {} if full is None else {f"{cost}_of_full": run[cost] / full[cost] for cost in told}
        groups[kind, sampler, partition].append({**run, **beside})
    return {
        " ".join(key): {
            "seeds": len(found),
            "accuracy_deviation": stdev(run["accuracy"] for run in found) if len(found) > 1 else 0.0,
            **{name: mean(run[name] for run in found) for name in found[0] if all(name in run for run in found)},
        }
        for key, found in groups.items()
    }


def table(groups: dict[str, dict[str, Any]]) -> str:
    """As Markdown."""
    head = "| | accuracy | MACs trained | bytes | largest client | parameters at the end | MACs, bytes beside full |"
    rows = [head, "| --- | --- | --- | --- | --- | --- | --- |"]
    for name, it in groups.items():
        beside = f"{it['macs_of_full']:.0%}, {it['bytes_of_full']:.0%}" if "macs_of_full" in it else ""
        rows.append(
            f"| {name} | {100 * it['accuracy']:.1f} ± {100 * it['accuracy_deviation']:.1f} | {it['macs_share']:.0%} | "
            f"{it['bytes_share']:.0%} | {it['peak_share']:.0%} | {it['network_parameters']:,.0f} | {beside} |"
        )
    return "\n".join(rows)


def main() -> None:
    """Read the runs, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--out", type=Path)
    told = parser.parse_args()
    runs = {}
    for path in sorted(told.runs.iterdir()):
        if (match := NAME.fullmatch(path.name)) and RunFolder(path).finished():
            runs[match[1], match[2], match[3], int(match[4])] = summary(path)
    groups = grouped(runs)
    differences = compared(runs)
    print(table(groups))
    for name, it in differences.items():
        within = f" [{it['low']:+.2f}, {it['high']:+.2f}]" if it["low"] is not None else ""
        print(f"{name}: {it['mean']:+.2f} points{within}, {it['pairs']} pairs")
    if told.out is not None:
        each = {"-".join(map(str, key)): run for key, run in sorted(runs.items())}
        told.out.parent.mkdir(parents=True, exist_ok=True)
        first = next(path for path in sorted(told.runs.iterdir()) if RunFolder(path).finished())
        made = json.loads((first / "provenance.json").read_text())
        known = {key: made[key] for key in ("spikefed", "python", "torch", "cpu", "threads")}
        told.out.write_text(
            json.dumps({"machine": known, "groups": groups, "differences": differences, "runs": each}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
