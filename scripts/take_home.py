"""Collect what clients take home into small JSON files, and make the section of docs/results.md from them.

    python scripts/take_home.py collect runs/take-home     # every finished run there, to results/take-home
    python scripts/take_home.py table                      # the section of docs/results.md

No number there is typed in by hand: the section stands between markers and is replaced whole.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pages import filled
from records import record_of

from spikefed.federated.takehome import LEAST, MEAN, MOST, VOTE
from spikefed.files import write_atomic
from spikefed.report import load_run
from spikefed.report.curves import mean, spread
from spikefed.report.groups import Group, group_runs
from spikefed.report.takehome import ALONE, SERVER, HomeRow, home_rows, points, verdicts

ROOT = Path(__file__).parents[1]
PAGE, FOLDER = ROOT / "docs" / "results.md", ROOT / "results" / "take-home"
BEGIN, END = "<!-- take home: made by scripts/take_home.py -->", "<!-- end of take home -->"
SWEEP = "experiments/sweeps/take-home.toml"
PARTITIONS = {"iid": "IID", "dirichlet-0.1": "Dirichlet 0.1"}


def collect(source: Path) -> None:
    """One JSON a finished run: its result, where it came from, and the command."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob("*/result.json")):
        record = record_of(path)
        name, seed, threads = record["name"], record["seed"], record["provenance"]["threads"]
        only = f"--only {name} --seeds {seed} --out runs/take-home --set run.threads={threads}"
        record["command"] = f"spikefed compare {SWEEP} {only}"
        write_atomic(FOLDER / f"{name}-seed{seed}.json", json.dumps(record, indent=1) + "\n")


def section() -> str:
    """A table and the verdicts for each partition."""
    groups = group_runs([load_run(path) for path in sorted(FOLDER.glob("*.json"))])
    parts = []
    for partition, title in PARTITIONS.items():
        mine = [group for group in groups if group.setting.partition == partition]
        if mine:
            parts += [f"### {title}: taken home", "", *_table(home_rows(mine)), "", *_told(home_rows(mine)), ""]
    return "\n".join([*parts, _conditions(groups)])


def _table(rows: list[HomeRow]) -> list[str]:
    heads = ("run", "seeds", "server", "clients, mean", "least", "most", "together")
    beyond = ("server beyond alone", "clients beyond alone", "together beyond alone together")
    lines = [f"| {' | '.join((*heads, *beyond))} |", "|" + " --- |" * (len(heads) + len(beyond))]
    for row in rows:
        seeds = len(row.values[MEAN])
        cells = [f"`{row.group.label}`", str(seeds)]
        cells += [_spread(row.values[key]) for key in (SERVER, MEAN, LEAST, MOST, VOTE)]
        alone = row.group.method == ALONE
        cells += ["" if alone or not row.beyond.get(key) else points(row.beyond[key]) for key in (SERVER, MEAN, VOTE)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _told(rows: list[HomeRow]) -> list[str]:
    return [f"* {sentence.replace(chr(0xA0), ' ')}" for sentence in verdicts(rows)]


def _spread(shares: list[float]) -> str:
    deviation = spread(shares)
    return f"{100 * mean(shares):.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")


def _conditions(groups: list[Group]) -> str:
    records = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]
    facts = {(r["provenance"]["cpu"], r["provenance"]["spikefed"], r["provenance"]["torch"]) for r in records}
    told = "; ".join(f"{cpu}, spikefed {version}, torch {torch}" for cpu, version, torch in sorted(facts))
    count = sum(len(group.runs) for group in groups)
    return f"{count} runs of seven rounds, one thread a run beside other load, on {told}; the command is in each JSON."


def main() -> None:
    """See the module."""
    if sys.argv[1:2] == ["collect"] and len(sys.argv) == 3:
        collect(Path(sys.argv[2]))
    elif sys.argv[1:] == ["table"]:
        write_atomic(PAGE, filled(PAGE.read_text(), BEGIN, END, section()))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
