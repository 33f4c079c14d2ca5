"""Every printed target of Tables 1 and 2 of Liu et al. 2022 that runs of this repository can speak of, as one table.

    python scripts/paper_targets.py          # the section of docs/results.md, from results/SET/*.json

No number there is typed in by hand: the section stands between markers and is replaced whole. A target that no seed of
a run reached says its best round; one of which no run of the data set exists says so.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pages import filled

from spikefed.experiment.progress import size
from spikefed.federated.takehome import LEAST, MEAN, MOST, VOTE
from spikefed.files import write_atomic
from spikefed.report.paper import PRINTED
from spikefed.report.text import times

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
BEGIN, END = "<!-- printed targets: made by scripts/paper_targets.py -->", "<!-- end of printed targets -->"
SETS = {
    "mnist-cpu": "4 x 10,000",
    "mnist-mini": "4 x 2,500",
    "fashion-mnist-cpu": "4 x 10,000",
    "fashion-mnist-mini": "4 x 2,500",
    "cifar10-cpu": "4 x 10,000",
    "cifar10-mini": "4 x 2,500",
}
"""Sets of results whose runs hold images as the paper's do, and the private images of their clients."""
METHODS = ("fsd", "fsd+", "fsd+labels", "fsd+foreign", "fedavg")
HEADS = ("data", "target", "printed: FSD", "printed: FedAvg", "our run", "private", "seeds", "rounds",
         "as the paper counts", "printed / this", "encoded")  # fmt: skip
NAMES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}


def runs_of(dataset: str, folder: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """IID runs of a data set by (set, method's label), seeds together."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for name in SETS:
        for path in sorted((folder / name).glob("*.json")):
            record = json.loads(path.read_text())
            if record["dataset"] == dataset and record["partition"] == "iid" and record["label"] in METHODS:
                found[name, record["label"]].append(record)
    places = list(SETS)
    return dict(sorted(found.items(), key=lambda item: (places.index(item[0][0]), METHODS.index(item[0][1]))))


def reached(record: dict[str, Any], target: float) -> dict[str, Any] | None:
    """The first point of the run's curve at or above the target."""
    return next((point for point in record["curve"] if point["accuracy"] >= target), None)


def row_of(records: Sequence[dict[str, Any]], target: float, printed_mb: float) -> list[str]:
    """Cells from ``seeds`` on, means over the seeds that reached the target."""
    points = [point for record in records if (point := reached(record, target))]
    seeds = str(len(records)) if len(points) == len(records) else f"{len(points)} of {len(records)}"
    if not points:
        best = max(record["best_accuracy"] for record in records)
        return [str(len(records)), "not reached", f"best round {100 * best:.1f} %", "", ""]
    rounds, text, encoded = (
        statistics.mean(point[key] for point in points) for key in ("round", "text_upstream_bytes", "upstream_bytes")
    )
    return [seeds, f"{rounds:.3g}", size(text), times(1e6 * printed_mb / text), size(encoded)]


def table(folder: Path) -> list[str]:
    """All rows, printed target by printed target."""
    lines = [f"| {' | '.join(HEADS)} |", "|" + " --- |" * len(HEADS)]
    for dataset, printed in PRINTED.items():
        runs = runs_of(dataset, folder)
        for network, target, fsd_mb, fedavg_mb in printed:
            told = [f"{NAMES[dataset]}, {network}", f"{100 * target:g} %", f"{fsd_mb:g} MB", f"{fedavg_mb:g} MB"]
            if not runs:
                lines.append(f"| {' | '.join([*told, 'none yet', *[''] * (len(HEADS) - 5)])} |")
            for (name, label), records in runs.items():
                printed_mb = fedavg_mb if label == "fedavg" else fsd_mb
                mine = [f"`{label}`", SETS[name], *row_of(records, target, printed_mb)]
                lines.append(f"| {' | '.join([*told, *mine])} |")
                told = [""] * 4
    return lines


def by_round(folder: Path) -> list[str]:
    """Runs of CIFAR-10 at the paper's size round by round: the server's network, the clients' own, and their vote."""
    records = [json.loads(path.read_text()) for path in sorted((folder / "cifar10-cpu").glob("*.json"))]
    lines: list[str] = []
    for record in (record for record in records if VOTE in record["curve"][0]):
        least, most = (100 * record["curve"][-1][key] for key in (LEAST, MOST))
        lines += [
            "",
            f"CIFAR-10, 4 x 10,000, `{record['label']}`, seed {record['seed']} alone, {record['rounds']} rounds "
            f"(accuracy in %; the clients' own networks end between {least:.1f} and {most:.1f}):",
            "",
            "| round | server | clients' own, mean | their vote | up, encoded | down, encoded |",
            "|" + " --- |" * 6,
        ]
        for point in record["curve"]:
            cells = [f"{100 * point[key]:.2f}" for key in ("accuracy", MEAN, VOTE)]
            traffic = [size(point[key]) for key in ("upstream_bytes", "downstream_bytes")]
            lines.append(f"| {' | '.join([str(point['round']), *cells, *traffic])} |")
    return lines


def section(folder: Path) -> str:
    """The table below what has to be known to read it."""
    words = (
        "Liu et al. print upstream megabytes until a target is reached, for networks of 37 to 45 million weights;",
        "ours are `small`, of about 200,000, and on 4 x 10,000 images of CIFAR-10 one of 750,932. “As the paper",
        "counts” is their measure of our messages (spikes as JSON text, weights pickled): only that column",
        "compares with the printed cells, as “printed / this” does (FedAvg with the printed FedAvg, the others",
        "with the printed FSD). “Encoded” is what our packets were. Their clients had 10,000 images each (of MNIST",
        "the paper does not say); where ours held 2,500 the public rows are 2,000 instead of 8,000, and a round of",
        "answers costs a quarter. `fsd+foreign` has public rows of another set of images, Fashion-MNIST's for MNIST.",
        "Means over the seeds that got there.",
    )
    return "\n".join([*words, "", *table(folder), *by_round(folder)])


def main() -> None:
    """See the module."""
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    write_atomic(PAGE, filled(PAGE.read_text(), BEGIN, END, section(ROOT / "results")))


if __name__ == "__main__":
    main()
