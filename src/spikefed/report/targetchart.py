"""Bytes to reach each target as points on a logarithmic axis: of every seed, and their mean."""

from __future__ import annotations

from collections.abc import Sequence

from spikefed.report.axes import RIGHT, TOP, WIDTH, Scale, across, across_axis
from spikefed.report.curves import axis_title
from spikefed.report.drawing import Drawing
from spikefed.report.pdf import width_of
from spikefed.report.shapes import GRID, Dot, Label, Path, Shape
from spikefed.report.targets import TargetRow, seeds_of
from spikefed.report.text import bytes_text, percent, target_text

ROW = 22
GAP = 10
NAMES = 170
"""Pixels left of the axis."""
SAID = 120
"""Pixels right of a point, for its number."""


def draw_targets(rows: Sequence[TargetRow], measure: str = "upstream") -> Drawing | None:
    """The figure of target rows; None where nobody reached one and sent anything.

    Args:
        rows: target by target.
        measure: which bytes, a key of `curves.MEASURES`.
    """
    reached = [row for row in rows if row.bytes[measure]]
    if not reached:
        return None
    sizes = [size for row in reached for size in seeds_of(row, measure)]
    x = across(sizes, True, NAMES, RIGHT + SAID)
    shapes: list[Shape] = []
    y = float(TOP)
    words = []
    for place, row in enumerate(rows):
        if not place or row.target != rows[place - 1].target:
            y += GAP + ROW
            shapes.append(Label((8, y), f"to reach {target_text(row.target)}"))
            shapes.append(Path([(8, y + 6), (WIDTH - RIGHT, y + 6)], GRID))
        y += ROW
        shapes += _row(row, measure, x, y)
        words.append(f"{row.group.label} to {target_text(row.target)}: {_said(row, measure)}")
    bottom = y + 16
    title = axis_title(measure)
    return Drawing([*shapes, *across_axis(x, title, bottom)], f"{title}. {'; '.join(words)}.", round(bottom + 50))


def _row(row: TargetRow, measure: str, x: Scale, y: float) -> list[Shape]:
    colour = row.group.colour[0]
    name = Label((NAMES - 10, y + 4), row.group.label, "end")
    size = row.bytes[measure]
    if not size:
        return [name, Label((NAMES + 8, y + 4), _said(row, measure))]
    seeds = seeds_of(row, measure)
    out: list[Shape] = [name]
    if len(seeds) > 1:
        out.append(Path([(x(min(seeds)), y), (x(max(seeds)), y)], colour, 1.5))
    out += [Dot((x(seed), y), 2, colour) for seed in seeds if len(seeds) > 1]
    out.append(Dot((x(size), y), 4.5, colour))
    right = x(max(seeds)) + 9
    text = _said(row, measure)
    room = right + width_of(text) < WIDTH
    return [*out, Label((right, y + 4), text) if room else Label((x(min(seeds)) - 9, y + 4), text, "end")]


def _said(row: TargetRow, measure: str) -> str:
    size = row.bytes[measure]
    if size is None:
        return f"not reached (best round {percent(row.best)})" if row.best is not None else "no round yet"
    some = f" ({row.reached} of {row.seeds} seeds)" if row.reached < row.seeds else ""
    return f"{bytes_text(size)}{some}"
