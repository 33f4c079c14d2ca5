"""Figures and tables of runs as files for a paper: PDF, SVG and CSV of every figure, LaTeX of every table."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from spikefed.errors import ReportError
from spikefed.files import write_atomic
from spikefed.report.costs import COSTS, TERMS, Terms
from spikefed.report.curves import MEASURES
from spikefed.report.drawing import Drawing, along, draw
from spikefed.report.groups import Group, group_runs
from spikefed.report.latex import latex, tables_of
from spikefed.report.points import ReaderPoint
from spikefed.report.runs import load_runs
from spikefed.report.targetchart import draw_targets
from spikefed.report.targets import TargetRow, default_targets, seeds_of, target_rows
from spikefed.report.write import check_targets, render

Rows = list[list[object]]


def write_figures(
    runs: Sequence[Path | str],
    folder: Path | str,
    targets: Sequence[float] | None = None,
    points: Sequence[ReaderPoint] = (),
    terms: Terms = TERMS,
) -> list[Path]:
    """Write every figure that needs no single run, and every table of the report, as files of their own.

    Args:
        runs: as for `write_report`.
        folder: where; made if it is missing.
        targets: as for `write_report`.
        points: the reader's own numbers.
        terms: of the devices, for figures over energy and seconds.

    Returns:
        the files, by name.

    Raises:
        ReportError: runs that cannot be read, or a folder that cannot be written.
    """
    check_targets(targets or ())
    read = load_runs(runs)
    groups = group_runs(read)
    files: dict[str, bytes] = {}
    settings = list(dict.fromkeys(group.setting for group in groups))
    for place, setting in enumerate(settings):
        mine = [group for group in groups if group.setting == setting]
        rows = target_rows(mine, sorted(targets) if targets else default_targets(mine))
        files |= _of_setting(mine, rows, points, f"-{place + 1}" if len(settings) > 1 else "", terms)
    for table in tables_of(render(read, targets, points=points, terms=terms)):
        files[f"table-{table.name}.tex"] = latex(table).encode()
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomic(folder / name, content)
    except OSError as error:
        raise ReportError(
            f"figures cannot be written into {folder} ({error.strerror}); name another folder with --figures"
        ) from error
    return [folder / name for name in sorted(files)]


def _of_setting(
    groups: Sequence[Group], rows: Sequence[TargetRow], points: Sequence[ReaderPoint], mark: str, terms: Terms
) -> dict[str, bytes]:
    """Files of one setting by name.

    Args:
        groups: of the setting.
        rows: their targets.
        points: the reader's own numbers.
        mark: stands behind each name.
        terms: of the devices.
    """
    files: dict[str, bytes] = {}

    def add(name: str, drawn: Drawing | None, numbers: Callable[[], Rows]) -> None:
        if drawn is not None:
            stem = f"{name}{mark}"
            files[f"{stem}.pdf"] = drawn.pdf
            files[f"{stem}.svg"] = drawn.svg.encode()
            files[f"{stem}.csv"] = _csv(numbers())

    for against in ("rounds", *MEASURES):
        add(f"accuracy-{against}", draw(groups, against, points), partial(_curves, groups, against, points, terms))
    for cost in COSTS:
        add(f"accuracy-{cost}", draw(groups, cost, (), terms), partial(_curves, groups, cost, (), terms))
    for measure in MEASURES:
        add(f"targets-{measure}", draw_targets(rows, measure), partial(_targets, rows, measure))
    return files


def _curves(groups: Sequence[Group], against: str, points: Sequence[ReaderPoint], terms: Terms) -> Rows:
    over = {"energy": "energy_pj", "seconds": "seconds"}.get(against, "bytes")
    out: Rows = [["label", "round", over, "accuracy_mean", "accuracy_lowest_seed", "accuracy_highest_seed"]]
    for group in groups:
        band = group.band
        totals = along(group, against, terms) or [None] * len(band.rounds)
        columns = zip(band.rounds, totals, band.mean, band.low, band.high, strict=False)
        out += [[group.label, *row] for row in columns]
    place = "rounds" if against == "rounds" else against
    for point in points:
        if place in point.places:
            sent = None if place == "rounds" else point.places[place]
            out.append([point.label, point.places.get("rounds"), sent, point.accuracy, None, None])
    return out


def _targets(rows: Sequence[TargetRow], measure: str) -> Rows:
    out: Rows = [["label", "target", "seeds", "reached", "bytes_mean", "bytes_least", "bytes_most"]]
    for row in rows:
        seeds = seeds_of(row, measure)
        ends = [min(seeds), max(seeds)] if seeds else [None, None]
        out.append([row.group.label, row.target, row.seeds, row.reached, row.bytes[measure], *ends])
    return out


def _csv(rows: Rows) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([["" if cell is None else cell for cell in row] for row in rows])
    return text.getvalue().encode()
