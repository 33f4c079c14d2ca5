"""What was tried for FSD+ under skewed labels, and the rivals against drift, as tables of docs/results.md.

    python scripts/skew.py collect TITLE RUN...    # runs, finished or not, as one row of results/fsd-skew/tried.json
    python scripts/skew.py collect-cost TITLE RUN...      # the same, of results/fsd-skew/client-cost.json
    python scripts/skew.py collect-larger TITLE RUN...    # the same, of results/fsd-skew/larger-server.json
    python scripts/skew.py collect-many TITLE RUN...      # the same, of results/fsd-skew/many-clients.json
    python scripts/skew.py collect-server TITLE RUN...    # the same, of results/fsd-skew/server-epochs.json
    python scripts/skew.py collect-balance TITLE RUN...   # the same, of results/fsd-skew/balance.json
    python scripts/skew.py collect-searched TITLE RUN...  # the same, of results/fsd-skew/searched.json, pairs of rows
    python scripts/skew.py tables                  # the tables, from results/

Where a run did not measure what clients take home, its last round's is measured here, from its newest checkpoint.
No number there is typed in by hand: the tables stand between markers and are replaced whole.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from pages import filled
from scipy.stats import t as student

from spikefed.experiment import build
from spikefed.experiment import config as configs
from spikefed.experiment.progress import size
from spikefed.federated import method
from spikefed.federated.history import History
from spikefed.federated.takehome import MEAN, VOTE, together
from spikefed.files import write_atomic
from spikefed.report import load_run

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
TRIED = ROOT / "results" / "fsd-skew" / "tried.json"
COST = ROOT / "results" / "fsd-skew" / "client-cost.json"
LARGER = ROOT / "results" / "fsd-skew" / "larger-server.json"
MANY = ROOT / "results" / "fsd-skew" / "many-clients.json"
EPOCHS = ROOT / "results" / "fsd-skew" / "server-epochs.json"
BALANCE = ROOT / "results" / "fsd-skew" / "balance.json"
SEARCHED = ROOT / "results" / "fsd-skew" / "searched.json"
LAST = ROOT / "results" / "fsd-skew" / "last-round.json"
COLLECTED = {
    "collect": TRIED,
    "collect-cost": COST,
    "collect-larger": LARGER,
    "collect-many": MANY,
    "collect-server": EPOCHS,
    "collect-balance": BALANCE,
    "collect-searched": SEARCHED,
}
"""The file of each command."""
RIVALS = ROOT / "results" / "rivals"
MINI = ROOT / "results" / "fashion-mnist-mini"
WORDS = {"digits": "digits", "fashion-mnist": "Fashion-MNIST mini", "cifar10": "CIFAR-10 mini"}
KEPT = ("round", "server_accuracy", MEAN, VOTE, "upstream_bytes_total")


def collect(title: str, folders: list[Path], table: Path = TRIED) -> None:
    """Put a row of run folders or of collected results into a table's file, in place of one with its title."""
    runs = [_result(path) if path.suffix == ".json" else _run(path) for path in folders]
    tried = json.loads(table.read_text()) if table.is_file() else []
    rows = [row for row in tried if row["lever"] != title] + [{"lever": title, "runs": runs}]
    write_atomic(table, json.dumps(rows, indent=1) + "\n")


def _run(folder: Path) -> dict[str, Any]:
    config = load_run(folder).config
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rounds = [{key: line.get(key) for key in KEPT} for line in lines]
    if rounds[-1][VOTE] is None:
        rounds[-1] |= _taken_home(folder)
    told = {"dataset": config["data"]["dataset"], "images": config["data"].get("evaluate_on", "test")}
    told |= {"seed": config["seed"], "asked": config["rounds"], "method": config["method"]}
    return told | {"commit": json.loads((folder / "provenance.json").read_text())["commit"], "rounds": rounds}


def _taken_home(folder: Path) -> dict[str, float | None]:
    """Clients' own networks and their vote after the last round, on the run's test set."""
    config = configs.load(folder / "config.toml", [])
    tree = History(folder / "checkpoints", config.hash()).latest(print)
    assert tree is not None
    federation, steps, last = build(config), method(config.method["name"]), int(tree["server"]["round"])
    own = {int(client): kept for client, kept in tree["clients"].items() if client.isdecimal()}
    taken = {
        client: federation.take_home(
            steps.taken_home(kept["state"], federation.client_context(client, last)), last
        )
        for client, kept in own.items()
    }  # fmt: skip
    return {key: value for key, value in together(taken, federation.test.labels).items() if key in KEPT}


def _result(path: Path) -> dict[str, Any]:
    record = json.loads(path.read_text())
    named = {"server_accuracy": "accuracy", "upstream_bytes_total": "upstream_bytes"}
    rounds = [{key: point.get(named.get(key, key)) for key in KEPT} for point in record["curve"]]
    told = {"dataset": record["dataset"], "images": record["config"]["data"].get("evaluate_on", "test")}
    told |= {"seed": record["seed"], "asked": record["rounds"], "method": record["config"]["method"]}
    return told | {"commit": record["provenance"]["commit"], "rounds": rounds}


def tried_table(rows: list[dict[str, Any]]) -> list[str]:
    """Lever by lever: server, clients and vote after the last round at hand, means over seeds."""
    lines = [
        "| lever | data | seeds | rounds | server, round by round | clients' own, last | vote, last | up, one seed |",
        "|" + " --- |" * 8,
    ]
    for row in rows:
        runs = row["runs"]
        count = min(len(run["rounds"]) for run in runs)
        told = f"{WORDS[runs[0]['dataset']]}, {runs[0]['images']}"
        course = (_over([run["rounds"][at]["server_accuracy"] for run in runs]) for at in range(count))
        last = [run["rounds"][count - 1] for run in runs]
        own, together = (_over([line[key] for line in last]) for key in (MEAN, VOTE))
        sent = size(round(mean(line["upstream_bytes_total"] for line in last)))
        whole = str(count) if count == runs[0]["asked"] else f"{count} of {runs[0]['asked']}"
        cells = [row["lever"], told, ", ".join(str(run["seed"]) for run in runs), whole, ", ".join(course)]
        lines.append(f"| {' | '.join([*cells, own, together, sent])} |")
    return lines


def _over(shares: list[float | None]) -> str:
    known = [share for share in shares if share is not None]
    if len(known) < len(shares):
        return ""
    return f"{100 * mean(known):.1f}" + (f" ± {100 * stdev(known):.1f}" if len(known) > 1 else "")


def differences(rows: list[dict[str, Any]]) -> list[str]:
    """Of every two rows that follow each other on the same seeds: the server of the first beyond that of the second.

    In percent points after the last round, paired by seed, with the 95 % interval of the mean (Student's t).
    """
    lines = []
    for ours, theirs in zip(rows[::2], rows[1::2], strict=True):
        last = [{run["seed"]: run["rounds"][-1]["server_accuracy"] for run in row["runs"]} for row in (ours, theirs)]
        seeds = sorted(last[0].keys() & last[1].keys())
        gains = [100 * (last[0][seed] - last[1][seed]) for seed in seeds]
        told = ", ".join(f"{gain:+.1f}" for gain in gains)
        line = f"* {ours['lever']}, beyond {theirs['lever']}: {told} points (seeds {', '.join(map(str, seeds))})"
        if len(gains) > 1:
            half = float(student.ppf(0.975, len(gains) - 1)) * stdev(gains) / len(gains) ** 0.5
            line += f", mean {mean(gains):+.1f}, 95 % interval {mean(gains) - half:+.1f} to {mean(gains) + half:+.1f}"
        lines.append(f"{line}.")
    return lines


def last_table(rows: list[dict[str, Any]]) -> list[str]:
    """The last server round of runs done again from its checkpoint with other targets."""
    names = list(rows[0]["server"])
    lines = [f"| run | right on public rows: vote | reliability | {' | '.join(f'server: {n}' for n in names)} |"]
    lines.append("|" + " --- |" * (3 + len(names)))
    for row in rows:
        cells = [f"{100 * row['public'][key]:.1f}" for key in ("vote", "reliability")]
        cells += [f"{100 * row['server'][name]:.1f}" for name in names]
        lines.append(f"| {' | '.join([row['run'], *cells])} |")
    return lines


def rivals_table(folder: Path, mini: Path) -> list[str]:
    """Seed 0 of the rivals, and of what they are compared with."""
    lines = ["| run | split | accuracy, last round (%) | best (%) | up | down |", "|" + " --- |" * 6]
    for partition in ("iid", "dirichlet-0.1"):
        paths = sorted(folder.glob(f"*-{partition}-seed0.json"))
        paths += [mini / f"{name}-{partition}-seed0.json" for name in ("fedavg", "fedprox", "fsd+")]
        for path in paths:
            record = json.loads(path.read_text())
            shares = [f"{100 * record[key]:.2f}" for key in ("accuracy", "best_accuracy")]
            traffic = [size(record[key]) for key in ("upstream_bytes", "downstream_bytes")]
            split = {"iid": "IID", "dirichlet-0.1": "Dirichlet 0.1"}[partition]
            label = f"`{record['label']}`"
            lines.append(f"| {' | '.join([label, split, *shares, *traffic])} |")
    return lines


def tables(page: str) -> str:
    """The page with today's tables."""
    files = {
        "tried": TRIED,
        "client cost": COST,
        "larger server": LARGER,
        "many clients": MANY,
        "server epochs": EPOCHS,
        "balance": BALANCE,
        "searched": SEARCHED,
    }
    found = {name: tried_table(json.loads(path.read_text())) for name, path in files.items()}
    for name in ("balance", "searched"):
        found[name] += ["", *differences(json.loads(files[name].read_text()))]
    found["last round"] = last_table(json.loads(LAST.read_text()))
    found["rivals"] = rivals_table(RIVALS, MINI)
    for name, lines in found.items():
        begin, end = f"<!-- {name}: made by scripts/skew.py -->", f"<!-- end of {name} -->"
        page = filled(page, begin, end, "\n".join(lines))
    return page


def main() -> None:
    """See the module."""
    match sys.argv[1:]:
        case [command, title, first, *more] if command in COLLECTED:
            collect(title, [Path(folder) for folder in (first, *more)], COLLECTED[command])
        case ["tables"]:
            write_atomic(PAGE, tables(PAGE.read_text()))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
