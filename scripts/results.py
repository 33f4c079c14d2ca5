"""Collect results of runs into small JSON files, and make docs/results.md from those files.

    python scripts/results.py collect runs/mini results/fashion-mnist-mini    # every finished run there, sweeps too
    python scripts/results.py tables              # docs/results.md and the README's table from results/*/*.json

No number there is typed in by hand: the tables stand between markers and are replaced whole.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

from front import front_figure
from pages import filled
from records import record_of
from verdicts import (
    Section,
    levers,
    overview,
    paper_recipe,
    partition_of,
    reached,
    short_table,
    spread,
    to_target,
    verdict,
)

from spikefed.experiment import Experiment, Job, jobs_of
from spikefed.experiment import config as configs
from spikefed.experiment.folder import flatten
from spikefed.experiment.progress import size
from spikefed.files import write_atomic

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
README = ROOT / "README.md"
FIGURES = ROOT / "docs" / "images"
BEGIN, END = "<!-- tables: made by scripts/results.py -->", "<!-- end of tables -->"
SETS = {
    "digits": "Digits (4 clients x 250, 400 public)",
    "fashion-mnist-mini": "Fashion-MNIST, mini (4 clients x 2,500, 2,000 public)",
    "fashion-mnist-cpu": "Fashion-MNIST, CPU (4 clients x 10,000, 8,000 public)",
    "cifar10-mini": "CIFAR-10, mini (4 clients x 2,500, 2,000 public)",
    "fsdplus-levers": "FSD+, one lever moved at a time",
    "digits-presets": "Digits: the files of single methods",
    "fashion-mnist-mini-presets": "Fashion-MNIST, mini: the files of single methods, Algorithm 2's packing",
    "fashion-mnist-cpu-presets": "Fashion-MNIST, CPU: the files of single methods, Algorithm 2's packing",
}


def collect(source: Path, target: Path) -> None:
    """One JSON a finished run: its result and where it came from."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob("*/result.json")):
        record = record_of(path)
        record["command"] = command(record, record["provenance"]["threads"])
        write_atomic(target / f"{run_name(record)}.json", json.dumps(record, indent=1) + "\n")
        print(target / f"{run_name(record)}.json")


def command(record: dict[str, Any], threads: int) -> str:
    """What repeats the run: its experiment file or its sweep's job, and every setting that differs from it today."""
    name, seed = record["name"], record["seed"]
    file = Path("experiments") / f"{name}.toml"
    if (ROOT / file).is_file():
        changed = _changed(configs.load(ROOT / file), record)
        return f"spikefed run {file} {_settings({'seed': seed, 'run.threads': threads, **changed})}"
    jobs = [job for job in sweep_jobs(seed) if job.name == run_name(record)]
    if not jobs:
        sys.exit(
            f"run {run_name(record)} is no job of a sweep in experiments/sweeps, and {file} does not exist; "
            "commit the file that the run was made with"
        )
    job = min(jobs, key=lambda job: len(_changed(job.config, record)))
    settings = _settings({"run.threads": threads, **_changed(job.config, record)})
    where = f"{job.file.relative_to(ROOT)} --only {job.name} --seeds {seed} --out runs"
    return f"spikefed compare {where} {settings}"


def run_name(record: dict[str, Any]) -> str:
    """Name of the run's folder."""
    return f"{record['name']}-seed{record['seed']}"


@cache
def sweep_jobs(seed: int) -> list[Job]:
    """Every job of one seed of every sweep file that ships."""
    files = sorted((ROOT / "experiments" / "sweeps").glob("*.toml"))
    return [job for file in files for job in jobs_of([file], ROOT / "runs" / ".none", seeds=[seed])]


def _changed(config: Experiment, record: dict[str, Any]) -> dict[str, Any]:
    now, then = flatten(config.resolved()), flatten(record["config"])
    return {key: value for key, value in then.items() if now.get(key) != value and key != "data.dir"}


def _settings(values: dict[str, Any]) -> str:
    return " ".join(f"--set {key}={value}" for key, value in values.items())


def accuracy_table(groups: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Last and best accuracy, and bytes of the whole run."""
    lines = [
        "| run | seeds | rounds | accuracy, last round (%) | best (%) | upstream, encoded | Algorithm 2 or raw weights | as the paper counts | downstream |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, records in groups.items():
        mean = lambda key, records=records: statistics.mean(r[key] for r in records)  # noqa: E731
        last = [r["curve"][-1] for r in records]
        lines.append(
            f"| `{name}` | {len(records)} | {records[0]['rounds']} | {spread([100 * r['accuracy'] for r in records], '.2f')} | "
            f"{spread([100 * r['best_accuracy'] for r in records], '.2f')} | {size(mean('upstream_bytes'))} | "
            f"{size(statistics.mean(p['paper_upstream_bytes'] for p in last))} | "
            f"{size(statistics.mean(p['text_upstream_bytes'] for p in last))} | {size(mean('downstream_bytes'))} |"
        )
    return lines


def target_table(groups: dict[str, list[dict[str, Any]]], targets: list[float]) -> list[str]:
    """Upstream bytes to each target with their spread over seeds, rounds in brackets; bold where no other run of all its seeds needs fewer."""
    lines = ["| upstream bytes to | " + " | ".join(f"{target:.0%}" for target in targets) + " |"]
    lines.append("| --- |" + " --- |" * len(targets))
    cost = {(name, target): to_target(rs, target) for name, rs in groups.items() for target in targets}
    for name, records in groups.items():
        cells = []
        for target in targets:
            points = [p for r in records if (p := reached(r, target))]
            if not points:
                cells.append("")
                continue
            costs = [p["upstream_bytes"] for p in points]
            mean = statistics.mean(costs)
            about = f" ± {size(statistics.stdev(costs))}" if len(set(costs)) > 1 else ""
            rounds = format(statistics.mean(p["round"] for p in points), ".3g")
            seeds = "" if len(points) == len(records) else f", {len(points)} of {len(records)} seeds"
            best = min((c for n in groups if (c := cost[n, target]) is not None), default=None)
            mark = "**" if cost[name, target] == best and best is not None else ""
            cells.append(f"{mark}{size(mean)}{mark}{about} ({rounds}{seeds})")
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return lines


def label_of(record: dict[str, Any], partition: str) -> str:
    """A run's name without what its section says: a sweep appends the partition's label."""
    ending = "-" + partition.lower().replace(" ", "-")
    return str(record["name"]).removesuffix(ending)


def tables() -> tuple[str, str]:
    """All tables, and the README's short one, in Markdown."""
    text: list[str] = []
    sections: list[Section] = []
    for folder, title in SETS.items():
        records = [json.loads(path.read_text()) for path in sorted((ROOT / "results" / folder).glob("*.json"))]
        if not records:
            continue
        text += [f"## {title}", ""]
        parts = sorted({partition_of(r) for r in records}, key=lambda p: (p != "IID", p))
        for partition in parts:
            groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
            for record in sorted(records, key=_rank):
                if partition_of(record) == partition:
                    groups[label_of(record, partition)].append(record)
            section = Section(title.partition(" (")[0], partition, groups, targets_of(groups))
            sections.append(section)
            text += [f"### {partition}", ""] if len(parts) > 1 else []
            text += [*section_text(folder, section), ""]
        text += [conditions(records), ""]
    return "\n".join(["## Who wins where", "", *overview(sections), "", *text]), "\n".join(short_table(sections))


def section_text(folder: str, section: Section) -> list[str]:
    """Front, verdict and tables of one section."""
    _, partition, groups, targets = section
    if "recommended" in groups:
        return levers(groups)
    figure = front_figure(groups, FIGURES / f"front-{folder}-{partition.lower().replace(' ', '-')}.svg")
    words = [*verdict(groups, targets), *paper_recipe(folder, partition, groups)]
    return [f"![{figure[1]}]({figure[0]})", "", *words, "", *accuracy_table(groups), "", *target_table(groups, targets)]


def targets_of(groups: dict[str, list[dict[str, Any]]]) -> list[float]:
    """The runs' own targets; where most runs reach none of them, the tenths from 40% to the best."""
    stated = sorted({float(t) for rs in groups.values() for r in rs for t in r["targets"]})
    best = {name: max(r["best_accuracy"] for r in rs) for name, rs in groups.items() if rs[0]["upstream_bytes"]}
    if stated and 2 * sum(b >= stated[0] for b in best.values()) >= len(best):
        return stated
    return [tenth / 10 for tenth in range(4, 10) if tenth / 10 <= max(best.values())]


def _rank(record: dict[str, Any]) -> tuple[bool, ...] | tuple[Any, ...]:
    order = ("fsd", "fsd+", "cfd", "ds-fl", "hdsfl", "fd", "fedavg")
    place = order.index(record["method"]) if record["method"] in order else len(order)
    return place, record["preset"] or "", record["name"], record["seed"]


def conditions(records: list[dict[str, Any]]) -> str:
    """Where and how fast the runs were made."""
    machines = sorted({r["provenance"]["cpu"] for r in records})
    facts = records[0]["provenance"]
    minutes = sorted(r["seconds"] / 60 for r in records)
    public = size(records[0]["public_set_bytes"])
    return (
        f"The public set, {public} of raw pixels, is on every device beforehand and in no figure here; methods that send "
        f"weights need none. {len(records)} runs on {', '.join(machines)}, {facts['threads']} thread a run beside other load, {minutes[0]:.1f} to "
        f"{minutes[-1]:.1f} minutes each; spikefed {facts['spikefed']}, torch {facts['torch']}."
    )


def main() -> None:
    """``collect SOURCE TARGET`` or ``tables``."""
    if len(sys.argv) == 4 and sys.argv[1] == "collect":
        collect(Path(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1:] == ["tables"]:
        for page, text in zip((PAGE, README), tables(), strict=True):
            write_atomic(page, filled(page.read_text(), BEGIN, END, text))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
