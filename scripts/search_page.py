"""Collect runs of mixed networks and of classes of devices into results/search, and fill the tables of docs/search.md.

    python scripts/search_page.py mixed runs/mixed        # folders of experiments/fsd-digits-mixed.toml, one a seed
    python scripts/search_page.py devices runs/devices    # of experiments/dcnas-digits-devices.toml
    python scripts/search_page.py page                    # tables between marks, each from its file in results/search

Tables of samplers come from what scripts/dcnas_table.py wrote.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from pages import filled
from records import record_of

from spikefed.experiment import RunFolder
from spikefed.files import write_atomic

ROOT = Path(__file__).parents[1]
PAGE, RESULTS = ROOT / "docs" / "search.md", ROOT / "results" / "search"
FILES = {
    "mixed": "experiments/fsd-digits-mixed.toml --set rounds=3",
    "devices": "experiments/dcnas-digits-devices.toml",
}
KINDS = {"snn": "spiking", "ann": "ANN"}
SAMPLERS = ("full", "diversified", "lean", "uniform", "hadamard")


def mixed(path: Path, last: dict[str, Any]) -> dict[str, Any]:
    """What a run of different networks ended with."""
    own = [client["test_accuracy"] for client in last["clients"]]
    return {
        "server": last["server_accuracy"],
        "vote": last["vote_accuracy"],
        "clients": own,
        "upstream_bytes": last["upstream_bytes_total"],
    }


def devices(path: Path, last: dict[str, Any]) -> dict[str, Any]:
    """What a search for several classes of devices ended with; bytes are those of a client in the last round."""
    said = last["diagnostics"]
    folder = RunFolder(path)
    entries = [entry for entry in folder.read_lines(folder.ledger) if entry["round"] == last["round"]]
    budgets = [0.5, 0.3, 0.15]
    classes = []
    for number, budget in enumerate(budgets):
        members = [client for client in last["clients"] if client["client"] % len(budgets) == number]
        sent = sum(entry["encoded_bytes"] for entry in entries if entry["client"] == number)
        classes.append(
            {
                "budget": budget,
                "parameters": said[f"device_{number}_parameters"] if number else said["network_parameters"],
                "bytes": sent,
                "accuracy": mean(client["test_accuracy"] for client in members),
            }
        )
    return {"server": last["server_accuracy"], "vote": last["vote_accuracy"], "classes": classes}


def collect(study: str, source: Path) -> None:
    """Every finished run below ``source`` to one file, with where it came from and the command."""
    read: Callable[[Path, dict[str, Any]], dict[str, Any]] = {"mixed": mixed, "devices": devices}[study]
    runs = {}
    for result in sorted(source.glob("*/result.json")):
        record = record_of(result)
        folder = RunFolder(result.parent)
        runs[f"seed{record['seed']}"] = {
            **read(result.parent, folder.read_lines(folder.metrics)[-1]),
            "command": f"spikefed run {FILES[study]} --set seed={record['seed']} --set run.threads=1",
            "provenance": record["provenance"],
        }
    write_atomic(RESULTS / f"{study}.json", json.dumps(runs, indent=1) + "\n")


def spread(values: Sequence[float], unit: float = 100, digits: int = 1) -> str:
    """Mean ± deviation; alone where there is one."""
    scaled = [unit * value for value in values]
    told = f"{mean(scaled):,.{digits}f}"
    return f"{told} ± {stdev(scaled):,.{digits}f}" if len(scaled) > 1 else told


def mixed_table(runs: dict[str, Any]) -> str:
    """A row a seed."""
    rows = [
        "| seed | their own accuracy, mean (least to most) | their vote | the server's own network | sent up by all "
        "together |",
        "| --- | --- | --- | --- | --- |",
    ]
    for seed, run in runs.items():
        own = [100 * accuracy for accuracy in run["clients"]]
        rows.append(
            f"| {seed.removeprefix('seed')} | {mean(own):.1f} % ({min(own):.1f} to {max(own):.1f}) | "
            f"{100 * run['vote']:.1f} % | {100 * run['server']:.1f} % | {run['upstream_bytes'] / 1000:.1f} kB |"
        )
    return "\n".join(rows)


def devices_table(runs: dict[str, Any]) -> str:
    """A row a class, over seeds, and what server and vote reach."""
    rows = [
        "| class | budget | parameters at the end, by seed | kB a client sends and gets in a round after the search | "
        "mean accuracy of the clients' own networks, % |",
        "| --- | --- | --- | --- | --- |",
    ]
    for number, classes in enumerate(zip(*(run["classes"] for run in runs.values()), strict=True)):
        parameters = ", ".join(f"{row['parameters']:,.0f}" for row in classes)
        rows.append(
            f"| {number} | {classes[0]['budget']:g} | {parameters} | "
            f"{spread([row['bytes'] for row in classes], 1e-3)} | {spread([row['accuracy'] for row in classes])} |"
        )
    told = " and ".join(
        f"{who} {spread([run[key] for run in runs.values()])} %"
        for key, who in (("server", "the server's network is right on"), ("vote", "the clients' vote on"))
    )
    return "\n".join([*rows, "", f"Over {len(runs)} seeds {told} of the test images."])


def samplers_table(study: dict[str, Any]) -> str:
    """A row a kind and sampler; costs are means over both partitions."""
    groups = study["groups"]
    rows = [
        "| | IID | Dirichlet 0.5 | MACs, bytes of the supernet | largest client | "
        "search alone: MACs, bytes of `full`'s | all rounds: MACs, bytes of `full` |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind, title in KINDS.items():
        for sampler in SAMPLERS:
            found = [groups.get(f"{kind} {sampler} {partition}") for partition in ("iid", "dirichlet-0.5")]
            if None in found:
                continue
            seeds = found[0]["seeds"]
            few = "" if seeds > 1 else " (one seed)"
            told = [_accuracy(group) for group in found] + [_costs(found, "macs_share", "bytes_share")]
            told.append(f"{max(group['peak_share'] for group in found):.0%}")
            if sampler == "full":
                told += ["", ""]
            else:
                told.append(_costs(found, "search_macs_of_full", "search_bytes_of_full"))
                told.append(_costs(found, "macs_of_full", "bytes_of_full"))
            rows.append(f"| {title}, {sampler}{few} | {' | '.join(told)} |".replace("%", " %"))
    return "\n".join(rows)


def _accuracy(group: dict[str, Any]) -> str:
    told = f"{100 * group['accuracy']:.1f}"
    return f"{told} ± {100 * group['accuracy_deviation']:.1f}" if group["seeds"] > 1 else told


def _costs(groups: list[dict[str, Any]], macs: str, sent: str) -> str:
    return f"{mean(group[macs] for group in groups):.0%}, {mean(group[sent] for group in groups):.0%}"


TABLES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "mixed": ("mixed", mixed_table),
    "devices": ("devices", devices_table),
    "samplers": ("dcnas-digits", samplers_table),
    "samplers, 40 rounds": ("dcnas-digits-long", samplers_table),
}


def main() -> None:
    """As told on the command line."""
    if sys.argv[1:] == ["page"]:
        page = PAGE.read_text()
        for name, (study, table) in TABLES.items():
            begin = f"<!-- {name}: made by scripts/search_page.py -->"
            page = filled(
                page, begin, f"<!-- end of {name} -->", table(json.loads((RESULTS / f"{study}.json").read_text()))
            )
        PAGE.write_text(page)
    elif len(sys.argv) == 3 and sys.argv[1] in FILES:
        collect(sys.argv[1], Path(sys.argv[2]))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
