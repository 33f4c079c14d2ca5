"""Collect the runs of ten people with smartwatches, set a ridge beside them, and make their section of the results.

    python scripts/watch.py collect runs/watch     # every finished run there, to results/watch
    python scripts/watch.py ridge                  # the baseline on the same people, to results/watch/ridge.json
    python scripts/watch.py collect-conv runs/watch-conv    # those of 1-d convolutions, to results/watch/conv
    python scripts/watch.py table                  # the section of docs/results.md

No number there is typed in by hand: the section stands between markers and is replaced whole.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pages import filled
from records import record_of

from spikefed import data
from spikefed.experiment import jobs_of
from spikefed.experiment.dealing import deal
from spikefed.experiment.progress import size
from spikefed.files import write_atomic

ROOT = Path(__file__).parents[1]
PAGE, FOLDER = ROOT / "docs" / "results.md", ROOT / "results" / "watch"
SWEEP = ROOT / "experiments" / "sweeps" / "watch.toml"
CONV_FOLDER, CONV_SWEEP = FOLDER / "conv", SWEEP.with_name("watch-conv.toml")
BEGIN, END = "<!-- watch: made by scripts/watch.py -->", "<!-- end of watch -->"
METHODS = ("central", "fedavg", "fsd", "fsd+", "local")
PENALTIES = 10.0 ** np.arange(-2, 4)
"""Ridge penalties; the best on people of the training part, one left out at a time, is taken."""


def collect(source: Path, folder: Path = FOLDER, sweep: Path = SWEEP) -> None:
    """One JSON a finished run: its result, where it came from, and the command."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob("*/result.json")):
        record = record_of(path)
        name, seed = record["name"], record["seed"]
        record["command"] = (
            f"spikefed compare {sweep.relative_to(ROOT)} --only {name} --seeds {seed} --out runs/{sweep.stem}"
        )
        write_atomic(folder / f"{name}-seed{seed}.json", json.dumps(record, indent=1) + "\n")


def ridge() -> None:
    """Ridge on mean, deviation and mean square of every channel: the clients' windows pooled, and nine people for one.

    The first is trained on what the federation's clients train on and tested on the people that the seed left out; the
    second, of wave to wave of one person, is the usual leave-one-person-out figure of the set.
    """
    whole = data.load_sources("watch")
    everybody = data.together(whole.train, whole.test)
    numbers = features(everybody.images[:].numpy())
    labels, people = everybody.labels.numpy(), np.asarray(everybody.columns["person"])
    alone = {int(p): fitted(numbers, labels, people != p, people == p, people) for p in np.unique(people)}
    found: dict[str, Any] = {"leave_one_person_out": alone, "mean": statistics.mean(alone.values()), "seeds": {}}
    for job in jobs_of([SWEEP], ROOT / "runs" / ".none", only=["local"]):
        train, test, split = deal(job.config)
        rows = np.concatenate([client.train.numpy() for client in split.clients])
        inside = np.isin(people, np.unique(np.asarray(train.columns["person"])[rows]))
        outside = np.isin(people, np.unique(np.asarray(test.columns["person"])))
        found["seeds"][job.config.seed] = fitted(numbers, labels, inside, outside, people)
    write_atomic(FOLDER / "ridge.json", json.dumps(found, indent=1) + "\n")


def features(series: np.ndarray) -> np.ndarray:
    """``[N, T, F, 1, 1]`` to ``[N, 3 F]``: mean, deviation and mean square over the window."""
    windows = series[..., 0, 0].astype(np.float64)
    return np.concatenate([windows.mean(1), windows.std(1), (windows**2).mean(1)], axis=1)


def fitted(
    numbers: np.ndarray, labels: np.ndarray, inside: np.ndarray, outside: np.ndarray, people: np.ndarray
) -> float:
    """Accuracy outside of a classifier fitted inside.

    Args:
        numbers: features ``[N, F]``.
        labels: classes ``[N]``.
        inside: rows to fit on, bool ``[N]``.
        outside: rows to test on, bool ``[N]``.
        people: whose a row is ``[N]``; they choose the penalty.
    """

    def accuracy(fit: np.ndarray, test: np.ndarray, penalty: float) -> float:
        centre, spread = numbers[fit].mean(0), numbers[fit].std(0) + 1e-9
        x = (numbers - centre) / spread
        x = np.concatenate([x, x**2, np.ones((len(x), 1))], axis=1)
        targets = np.eye(labels.max() + 1)[labels[fit]]
        weights = np.linalg.solve(x[fit].T @ x[fit] + penalty * np.eye(x.shape[1]), x[fit].T @ targets)
        return float((np.argmax(x[test] @ weights, axis=1) == labels[test]).mean())

    def inner(penalty: float) -> float:
        return statistics.mean(
            accuracy(inside & (people != person), inside & (people == person), penalty)
            for person in np.unique(people[inside])
        )

    return accuracy(inside, outside, max(PENALTIES, key=inner))


def section() -> str:
    """The table of methods, the table of people, and what they say."""
    runs = {
        method: [json.loads(path.read_text()) for path in sorted(FOLDER.glob(f"{method}-seed*.json"))]
        for method in METHODS
    }
    baseline = json.loads((FOLDER / "ridge.json").read_text())
    lines = ["| run | trained on | left-out people (%) | best round | own test windows (%) | up, all clients | down |"]
    lines.append("|" + " --- |" * 7)
    pooled = [100 * value for value in baseline["seeds"].values()]
    lines.append(f"| ridge | the six clients' windows, pooled | {_spread(pooled)} | | | | |")
    lines += [_method_line(method, runs[method]) for method in METHODS]
    ends = [*_verdict(runs), "", _conditions(runs, baseline), "", *_conv_table(runs)]
    return "\n".join([*lines, "", *_people_table(runs), "", *ends])


def _conv_table(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """1-d convolutions beside `small-1d`, seed by seed: the server of FSD+ and the best and mean network alone."""
    lines = ["| seed | network | best alone | mean alone | FSD+: server | beyond the best | both ways |"]
    lines.append("|" + " --- |" * 7)
    beyond = []
    for local in sorted(CONV_FOLDER.glob("local-seed*.json")):
        alone, merged = (json.loads((CONV_FOLDER / f"{m}-{local.stem.split('-')[1]}.json").read_text()) for m in
                         ("local", "fsd+"))  # fmt: skip
        seed = alone["seed"]
        before = [next(r for r in runs[m] if r["seed"] == seed) for m in ("local", "fsd+")]
        for name, pair in (("small-1d", before), ("conv-1d", [alone, merged])):
            own = [100 * row["own_on_test"] for row in pair[0]["people"]]
            server = 100 * pair[1]["accuracy"]
            sent = size(pair[1]["upstream_bytes"] + pair[1]["downstream_bytes"])
            numbers = f"{max(own):.1f} | {statistics.mean(own):.1f} | {server:.1f} | {server - max(own):+.1f}"
            lines.append(f"| {seed} | `{name}` | {numbers} | {sent} |")
            beyond += [(name, server)]
    means = {name: _spread([server for n, server in beyond if n == name]) for name in ("small-1d", "conv-1d")}
    told = ", ".join(f"{means[name]} % with `{name}`" for name in means)
    return [
        "1-d convolutions along the ten samples of each of ten steps (`experiments/sweeps/watch-conv.toml`, 15 rounds, "
        f"JSON in `results/watch/conv/`), seed by seed; the server of `fsd+`: {told}.", "", *lines,
    ]  # fmt: skip


TRAINED_ON = {
    "central": "the same, pooled (`small-1d`)",
    "fedavg": "each its own, weights averaged",
    "fsd": "each its own, spikes merged",
    "fsd+": "each its own, spikes merged",
    "local": "each client alone, mean of the six",
}


def _method_line(method: str, records: list[dict[str, Any]]) -> str:
    own = [100 * value for record in records for row in record["people"] if (value := _here(row)) is not None]
    up, down = (statistics.mean(record[f"{way}_bytes"] for record in records) for way in ("upstream", "downstream"))
    cells = [
        f"`{method}`", TRAINED_ON[method], _spread([100 * record["accuracy"] for record in records]),
        _spread([100 * record["best_accuracy"] for record in records]), _spread(own),
        size(up) if up else "", size(down) if down else "",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _here(row: dict[str, Any]) -> float | None:
    """On a client's own test windows: of its own network where it has one, else of the federation's."""
    return row["own_accuracy"] if row["own_accuracy"] is not None else row["accuracy"]


def _people_table(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Person by person: the network alone and what the federation gives, on people left out."""
    lines = ["| seed | person | alone | FSD+: own network | FSD+: server | FedAvg | FSD+ server beyond alone |"]
    lines.append("|" + " --- |" * 7)
    by_seed = {method: {record["seed"]: record for record in records} for method, records in runs.items()}
    for seed, record in by_seed["local"].items():
        taken = {row["client"]: row for row in by_seed["fsd+"][seed]["people"]}
        server, averaged = by_seed["fsd+"][seed]["accuracy"], by_seed["fedavg"][seed]["accuracy"]
        for row in sorted(record["people"], key=lambda row: int(row["name"])):
            alone, after = row["own_on_test"], taken[row["client"]]["own_on_test"]
            numbers = " | ".join(f"{100 * value:.1f}" for value in (alone, after, server, averaged))
            lines.append(f"| {seed} | {row['name']} | {numbers} | {100 * (server - alone):+.1f} |")
    return lines


def _verdict(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Who gains, counted."""
    by_seed = {method: {record["seed"]: record for record in records} for method, records in runs.items()}
    gains: dict[str, list[float]] = {"fsd+ server": [], "fsd+ clients": [], "fedavg": []}
    best = []
    for seed, record in by_seed["local"].items():
        taken = {row["client"]: row["own_on_test"] for row in by_seed["fsd+"][seed]["people"]}
        for row in record["people"]:
            gains["fsd+ server"].append(by_seed["fsd+"][seed]["accuracy"] - row["own_on_test"])
            gains["fsd+ clients"].append(taken[row["client"]] - row["own_on_test"])
            gains["fedavg"].append(by_seed["fedavg"][seed]["accuracy"] - row["own_on_test"])
        best.append(100 * (by_seed["fsd+"][seed]["accuracy"] - max(row["own_on_test"] for row in record["people"])))
    told = [
        f"* {who}: {sum(gain > 0 for gain in found)} of {len(found)} people gain; {_spread([100 * g for g in found])} "
        "points over all."
        for who, found in gains.items()
    ]
    over = f"{min(best):+.1f} to {max(best):+.1f}"
    goal = "above every client alone in each seed" if min(best) > 0 else "not above the best client alone in each seed"
    up = statistics.mean(r["upstream_bytes"] + r["downstream_bytes"] for r in runs["fsd+"])
    return [*told, f"* The server of `fsd+` is {goal}: {over} points from there, for {size(up)} both ways together."]


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    return f"{statistics.mean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def _conditions(runs: dict[str, list[dict[str, Any]]], baseline: dict[str, Any]) -> str:
    records = [record for found in runs.values() for record in found]
    facts = {(r["provenance"]["cpu"], r["provenance"]["spikefed"], r["provenance"]["torch"]) for r in records}
    told = "; ".join(f"{cpu}, spikefed {version}, torch {torch}" for cpu, version, torch in sorted(facts))
    alone = [100 * value for value in baseline["leave_one_person_out"].values()]
    return (
        f"{len(records)} runs of {records[0]['rounds']} rounds, one thread a run beside other load, on {told}; the "
        "command is in each JSON. The ridge on nine people, tested on the tenth, reaches "
        f"{statistics.mean(alone):.1f} % on average over people ({min(alone):.0f} to {max(alone):.0f})."
    )


def main() -> None:
    """See the module."""
    if sys.argv[1:2] == ["collect"] and len(sys.argv) == 3:
        collect(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["collect-conv"] and len(sys.argv) == 3:
        collect(Path(sys.argv[2]), CONV_FOLDER, CONV_SWEEP)
    elif sys.argv[1:] == ["ridge"]:
        ridge()
    elif sys.argv[1:] == ["table"]:
        write_atomic(PAGE, filled(PAGE.read_text(), BEGIN, END, section()))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
