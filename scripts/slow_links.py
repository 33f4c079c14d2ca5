"""How long methods take to a target on slow links, from the result files of Fashion-MNIST mini, as one table.

    python scripts/slow_links.py             # the section of docs/figures.md, from results/fashion-mnist-mini/*.json

Carrying alone: result files tell no seconds of computing. No number there is typed in by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pages import filled

from spikefed.files import write_atomic
from spikefed.report import Run, load_run
from spikefed.report.curves import mean
from spikefed.report.groups import Group, group_runs
from spikefed.report.links import LINKS
from spikefed.report.linktable import times_to
from spikefed.report.targets import TargetRow, target_rows
from spikefed.report.text import bytes_text, short_duration, span_text

ROOT = Path(__file__).parents[1]
PAGE, FOLDER = ROOT / "docs" / "figures.md", ROOT / "results" / "fashion-mnist-mini"
BEGIN, END = "<!-- slow links: made by scripts/slow_links.py -->", "<!-- end of slow links -->"
LABELS = ("fsd+labels", "fsd+", "fsd", "fedavg+stc", "fedavg+qsgd", "fedavg")
TARGETS = (0.80, 0.84)


def groups_of(folder: Path) -> list[Group]:
    """IID groups of the methods in the table, in its order."""
    found = {group.runs[0].label or group.method: group for group in group_runs(_runs(folder))}
    return [found[label] for label in LABELS if label in found]


def _runs(folder: Path) -> list[Run]:
    return [run for path in sorted(folder.glob("*.json")) if (run := load_run(path)).partition == "iid"]


def section(folder: Path) -> str:
    """The table: a row a target and method."""
    heads = ("target", "method", "seeds", "upstream, all clients", *(f"{link.name} ({link.told})" for link in LINKS))
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    lines += [_line(row) for row in target_rows(groups_of(folder), TARGETS)]
    return "\n".join(lines)


def _line(row: TargetRow) -> str:
    seeds = str(row.seeds) if row.complete else f"{row.reached} of {row.seeds}"
    cells = [f"{100 * row.target:g} %", f"`{row.group.runs[0].label or row.group.method}`", seeds]
    if not row.reached:
        return f"| {' | '.join([*cells, 'not reached', *[''] * len(LINKS)])} |"
    cells += [bytes_text(row.bytes["upstream"]), *(_time(mean(times_to(row, link))) for link in LINKS)]
    return f"| {' | '.join(cells)} |".replace("\u00a0", " ")


def _time(seconds: float) -> str:
    return short_duration(seconds) if seconds < 10 else span_text(seconds)


def main() -> None:
    """See the module."""
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    write_atomic(PAGE, filled(PAGE.read_text(), BEGIN, END, section(FOLDER)))


if __name__ == "__main__":
    main()
