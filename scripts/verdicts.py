"""Who wins where: sentences and the short table of docs/results.md, from the records of runs."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from front import Point, front_of, points_of

from spikefed.experiment.progress import size

RESULTS = Path(__file__).parents[1] / "results"


class Section(NamedTuple):
    """Runs that share data, split and ledger: records by label, and the targets they are measured at."""

    title: str
    partition: str
    groups: dict[str, list[dict[str, Any]]]
    targets: list[float]


def spread(values: list[float], form: str) -> str:
    """Mean and, from two seeds on, the sample standard deviation."""
    text = format(statistics.mean(values), form)
    return f"{text} ± {format(statistics.stdev(values), form.lstrip('+'))}" if len(values) > 1 else text


def reached(record: dict[str, Any], target: float) -> dict[str, Any] | None:
    """First point of the curve at or above ``target``."""
    return next((point for point in record["curve"] if point["accuracy"] >= target), None)


def to_target(records: list[dict[str, Any]], target: float) -> float | None:
    """Mean upstream bytes to a target, if every seed reaches it and anything was sent."""
    points = [p for r in records if (p := reached(r, target))]
    if len(points) < len(records):
        return None
    return statistics.mean(p["upstream_bytes"] for p in points) or None


def verdict(groups: dict[str, list[dict[str, Any]]], targets: list[float]) -> list[str]:
    """Who wins where, in words, from the numbers."""
    lines = []
    means = {n: statistics.mean(r["accuracy"] for r in rs) for n, rs in groups.items()}
    upstream = {n: statistics.mean(r["upstream_bytes"] for r in rs) for n, rs in groups.items()}
    talkers = {n: m for n, m in means.items() if groups[n][0]["upstream_bytes"]}
    top = max(talkers, key=lambda n: talkers[n])
    lines.append(f"* Highest accuracy after the last round: `{top}`, {means[top]:.2%}{_seed_by_seed(groups, talkers)}.")
    front = [point.name for point in front_of(points_of(groups))]
    lines.append(
        "* Front (nobody has more accuracy for fewer upstream bytes), from the least bytes on: "
        + ", ".join(f"`{name}`" for name in front)
        + "."
    )
    lines += [
        f"* `fsd+` against `{other}` after equal rounds: {gain(groups['fsd+'], groups[other])} points for "
        f"{_bytes_against(upstream['fsd+'], upstream[other])}."
        for other in ("fsd-faithful", "fsd", "fsd-6", "fsd+labels", "cfd", "fedavg")
        if "fsd+" in means and other in means
    ]
    silent = [f"`{n}` {means[n]:.2%}" for n in ("local", "central") if n in means]
    if silent:
        lines.append(
            f"* Without a byte (clients alone, mean of their own networks; all data in one place): {', '.join(silent)}."
        )
    if "local" in means:
        better = sorted((n for n in talkers if means[n] > means["local"]), key=lambda n: upstream[n])
        lines.append(
            "* Better than `local`, from the least bytes on: " + (", ".join(f"`{n}`" for n in better) or "none") + "."
        )
    for target in targets:
        costs = costs_to(groups, target)
        if not costs:
            continue
        first = min(costs, key=lambda n: costs[n])
        rest = [
            f"`{n}` {times(costs[n] / costs[first])} times"
            for n in ("fsd+", "cfd", "fsd", "fedavg")
            if n in costs and n != first
        ]
        also = f"; {', '.join(rest)} that" if rest else ""
        lines.append(f"* Fewest bytes to {target:.0%} with every seed: `{first}`, {size(costs[first])}{also}.")
    return lines


def _seed_by_seed(groups: dict[str, list[dict[str, Any]]], names: Iterable[str]) -> str:
    """Which of these runs is first in how many seeds, of those that all of them have; nothing of a single seed."""
    names, by_seed = list(names), dict[int, dict[str, float]]()
    for name in names:
        for record in groups[name]:
            by_seed.setdefault(record["seed"], {})[name] = record["accuracy"]
    by_seed = {seed: found for seed, found in by_seed.items() if len(found) == len(names)}
    if len(by_seed) < 2:
        return ""
    first = Counter(max(found, key=lambda n: found[n]) for found in by_seed.values())
    return " (first in " + ", ".join(f"{n} of {len(by_seed)} seeds `{name}`" for name, n in first.most_common()) + ")"


def gain(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> str:
    """Points of accuracy that the first runs end above the second: mean and spread over the seeds that both have."""
    other = {r["seed"]: r["accuracy"] for r in theirs}
    pairs = [100 * (r["accuracy"] - other[r["seed"]]) for r in ours if r["seed"] in other]
    return spread(pairs, "+.2f") if pairs else "(no seed in common) unknown"


def overview(sections: list[Section]) -> list[str]:
    """One line a section: who wins what there."""
    lines = [
        "| data | split | seeds | highest accuracy | most accuracy for at most 1/100 of FedAvg's upstream bytes "
        "| fewest upstream bytes to the hardest target that anybody reaches | without a byte |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for section in sections:
        groups = section.groups
        points = {point.name: point for point in points_of(groups)}
        if "fedavg" not in points:
            continue
        limit = points["fedavg"].bytes / 100
        top = max(points.values(), key=lambda p: p.accuracy)
        small = max((p for p in points.values() if p.bytes <= limit), key=lambda p: p.accuracy, default=None)
        # The hardest target that anybody reaches with every seed.
        target = max((t for t in section.targets if costs_to(groups, t)), default=None)
        race = "" if target is None else _race(costs_to(groups, target), target)
        alone = f"`local` {statistics.mean(r['accuracy'] for r in groups['local']):.2%}" if "local" in groups else ""
        seeds = min(len(records) for records in groups.values())
        cells = [
            section.title,
            section.partition,
            str(seeds),
            _standing(top),
            _standing(small) if small else "",
            race,
            alone,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


SHOWN = {"fedavg": "FedAvg", "fsd": "FSD, our settings", "fsd+": "FSD+", "fsd+labels": "FSD+, labels"}
"""The runs of the README's table, and its headings."""


def short_table(sections: list[Section]) -> list[str]:
    """The README's table: accuracy and upstream bytes of four runs by section, and what clients reach alone."""
    heads = ["data", "split", "seeds", *SHOWN.values(), "each client alone"]
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for section in sections:
        points = {point.name: point for point in points_of(section.groups)}
        if points.keys() >= SHOWN.keys():
            seeds = min(len(section.groups[n]) for n in SHOWN)
            cells = [f"{points[n].accuracy:.1%}, {size(points[n].bytes)}" for n in SHOWN]
            alone = section.groups.get("local")
            cells.append(f"{statistics.mean(r['accuracy'] for r in alone):.1%}, 0 B" if alone else "")
            lines.append(f"| {section.title} | {section.partition} | {seeds} | {' | '.join(cells)} |")
    return lines


def levers(groups: dict[str, list[dict[str, Any]]]) -> list[str]:
    """What each lever does to the recipe when it alone is moved: points and bytes against ``recommended``."""
    recipe = groups["recommended"]
    own = statistics.mean(r["upstream_bytes"] for r in recipe)
    data, right = recipe[0]["config"]["data"], recipe[0]["accuracy"]
    images = round(data["clients"] * data["private_per_client"] * data["validation"])
    error = 100 * (right * (1 - right) / images) ** 0.5
    lines = [
        f"{data['dataset']}, {partition_of(recipe[0])}, one seed, on {images:,} held-out training images. These alone "
        f"give one accuracy a standard error of {error:.1f} points; another start of training changes more.",
        "",
        "| lever moved | seeds | accuracy, last round (%) | best (%) | points | upstream | times the recipe's |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, rs in sorted(groups.items(), key=lambda item: -statistics.mean(r["accuracy"] for r in item[1])):
        sent = statistics.mean(r["upstream_bytes"] for r in rs)
        points = "" if name == "recommended" else gain(rs, recipe)
        lines.append(
            f"| `{name}` | {len(rs)} | {spread([100 * r['accuracy'] for r in rs], '.2f')} | "
            f"{spread([100 * r['best_accuracy'] for r in rs], '.2f')} | {points} | {size(sent)} | {times(sent / own)} |"
        )
    return lines


def _standing(point: Point) -> str:
    own = ", clients' own networks" if point.method == "fd" else ""
    return f"`{point.name}` {point.accuracy:.2%}, {size(point.bytes)}{own}"


def _race(costs: dict[str, float], target: float) -> str:
    first = min(costs, key=lambda n: costs[n])
    return f"`{first}`: {size(costs[first])} to {target:.0%}{', nobody else gets there' * (len(costs) == 1)}"


def costs_to(groups: dict[str, list[dict[str, Any]]], target: float) -> dict[str, float]:
    """Mean upstream bytes to a target of all who reach it with every seed."""
    return {n: c for n, rs in groups.items() if (c := to_target(rs, target)) is not None}


def paper_recipe(folder: str, partition: str, groups: dict[str, list[dict[str, Any]]]) -> list[str]:
    """What the paper's own recipe gave at this size, where it was run as a file of its own."""
    files = sorted((RESULTS / f"{folder}-presets").glob("*-faithful-*.json"))
    records = [r for r in map(json.loads, (f.read_text() for f in files)) if partition_of(r) == partition]
    if not records or "fsd+" not in groups:
        return []
    paper = spread([100 * r["accuracy"] for r in records], ".2f")
    return [
        f"* The paper's own recipe at this size (`{records[0]['name']}`, below) ends at {paper}%: "
        f"`fsd+` stands {gain(groups['fsd+'], records)} points from there after equal rounds."
    ]


def partition_of(record: dict[str, Any]) -> str:
    """How the data was dealt out, in words."""
    data = record["config"]["data"]
    if data["partition"] == "dirichlet":
        return f"Dirichlet {data['alpha']:g}"
    return {"iid": "IID"}.get(data["partition"], data["partition"])


def _bytes_against(ours: float, theirs: float) -> str:
    more = ours > theirs
    return (
        f"{times(ours / theirs)} times the upstream bytes"
        if more
        else f"1/{times(theirs / ours)} of the upstream bytes"
    )


def times(ratio: float) -> str:
    """A ratio with three digits, in full from 1,000 on."""
    return f"{ratio:,.0f}" if ratio >= 1000 else f"{ratio:.3g}"
