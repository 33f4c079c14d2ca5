"""Runs of stages: what was learned, what was forgotten, and the accuracy matrix as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from spikefed.report import columns
from spikefed.report.columns import Column
from spikefed.report.curves import mean, spread
from spikefed.report.groups import Group
from spikefed.report.runs import Run
from spikefed.report.text import percent
from spikefed.report.tidy import number

SIDES = {"known": "task known", "unknown": "task unknown"}
"""Whether a network is told the task of a test image; `experiment.stages` says both where both have a meaning."""
MEASURES = {
    "average_accuracy": ("Average", "mean over the stages of the mean over the tasks learned by then"),
    "last_accuracy": ("Last", "mean over all tasks after the last stage"),
    "forgetting": ("Forgetting", "best accuracy since a task was learned, minus the last; mean over the tasks"),
    "forward_transfer": ("Forward transfer", "accuracy just before a task is learned, minus that of the start"),
}
CELL = 46
"""Side of a matrix's cell, in pixels."""

Matrix = list[list[float]]


@dataclass(frozen=True)
class StagesRow:
    """One configuration, with tasks known or unknown.

    Attributes:
        group: its runs.
        side: ``known`` or ``unknown``.
        told: what each run's result says of this side; at least one.
        stage_bytes: bytes up of a stage, mean over the stages, by run.
    """

    group: Group
    side: str
    told: list[Mapping[str, Any]]
    stage_bytes: list[float]

    def values(self, key: str) -> list[float]:
        """A measure of every run that says it."""
        return [value for each in self.told if (value := number(each.get(key))) is not None]

    @property
    def matrix(self) -> Matrix | None:
        """A[s, t] as mean over the runs; None where they have different shapes."""
        found = [matrix for each in self.told if (matrix := matrix_of(each))]
        if not found or len({(len(m), len(m[0])) for m in found}) > 1:
            return None
        return [[mean([m[s][t] for m in found]) for t in range(len(found[0][0]))] for s in range(len(found[0]))]


def matrix_of(told: Mapping[str, Any]) -> Matrix | None:
    """The accuracy matrix that a result tells of; None where it is none of finite numbers in equal rows."""
    rows = told.get("matrix")
    if not isinstance(rows, list) or not all(isinstance(row, list) and row for row in rows) or not rows:
        return None
    found = [[number(value) for value in row] for row in rows]
    if len({len(row) for row in found}) > 1 or any(value is None for row in found for value in row):
        return None
    return [[value or 0.0 for value in row] for row in found]


def stage_rows(groups: Sequence[Group]) -> list[StagesRow]:
    """A row for each configuration with stages, and each side that its runs were measured on."""
    rows = []
    for group in groups:
        told = [stages for run in group.runs if (stages := stages_of(run))]
        for side in SIDES:
            mine = [each for each in told if isinstance(each.get(side), dict) and each[side]]
            if mine:
                rows.append(
                    StagesRow(group, side, [each[side] for each in mine], [_stage_bytes(each) for each in mine])
                )
    return rows


def stages_of(run: Run) -> Mapping[str, Any]:
    """What a run's result says of its stages; empty where it has none."""
    found = (run.result or {}).get("stages")
    return found if isinstance(found, dict) else {}


def _stage_bytes(told: Mapping[str, Any]) -> float:
    sizes = told.get("upstream_bytes")
    known = [size for size in map(number, sizes) if size is not None] if isinstance(sizes, list) else []
    return mean(known) if known else 0.0


def stages_table(setting: int, groups: Sequence[Group], css: Any) -> str:
    """Measures of every configuration with stages, and their matrices; empty where none has stages.

    Args:
        setting: its number on the page.
        css: gives a group's style class.
    """
    rows = stage_rows(groups)
    if not rows:
        return ""
    heads = [
        Column("method", "Method", lambda row: row.group.label, "text", css=lambda row: css(row.group)),
        Column("side", "Tested with", lambda row: SIDES[row.side], "text", "with task known, only its outputs count"),
        *(_measure(key, *told) for key, told in MEASURES.items()),
        Column("bytes", "Bytes up a stage", lambda row: mean(row.stage_bytes) or None, "bytes", "mean over the stages"),
    ]
    table = columns.html(f"stages-{setting + 1}", "Tasks one after another", heads, rows)
    pictures = "".join(picture(matrix, _named(row)) for row in rows if (matrix := row.matrix))
    return f"<h3>Tasks one after another</h3>{table}" + (f'<div class="pair">{pictures}</div>' if pictures else "")


def _named(row: StagesRow) -> str:
    seeds = f", mean of {len(row.told)} seeds" if len(row.told) > 1 else ""
    return f"{row.group.label}, {SIDES[row.side]}{seeds}"


def _measure(key: str, title: str, note: str) -> Column:
    def middle(row: StagesRow) -> float | None:
        found = row.values(key)
        return mean(found) if found else None

    return Column(key, title, middle, "share", note, spread=lambda row: spread(row.values(key)))


def picture(matrix: Matrix, name: str) -> str:
    """The matrix as a figure: a row a stage, a column a task, the darker the more accurate, the number in it."""
    tasks = len(matrix[0])
    marks = [_word(1.5 + task, 0.6, f"task {task}") for task in range(tasks)]
    for stage, row in enumerate(matrix):
        marks.append(_word(0.5, 1.5 + stage, f"stage {stage}"))
        for task, value in enumerate(row):
            x, y = ((1 + task) * CELL, (1 + stage) * CELL)
            marks.append(
                f'<rect x="{x + 1}" y="{y + 1}" width="{CELL - 2}" height="{CELL - 2}" rx="4" fill="currentColor" '
                f'fill-opacity="{0.03 + 0.3 * min(max(value, 0.0), 1.0):.3f}"/>'
            )
            marks.append(_word(1.5 + task, 1.5 + stage, percent(value).replace("\u00a0%", "")))
    width, height = ((1 + tasks) * CELL, (1 + len(matrix)) * CELL)
    caption = f"Accuracy in percent on every task after every stage: {name}"
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" style="max-width:{width}px;width:100%" role="img" '
        f'aria-label="{escape(caption)}" font-size="11" text-anchor="middle">{"".join(marks)}</svg>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _word(column: float, row: float, text: str) -> str:
    """A word in the middle of a cell, counted in cells."""
    return f'<text x="{column * CELL:g}" y="{row * CELL + 4:g}" fill="currentColor">{escape(text)}</text>'
