"""Cells as pictures: four nodes in a row, operations as arcs, those within a step above, those back in time below."""

from __future__ import annotations

from html import escape

from spikefed.networks.cells import NODES, Cell, cell_ops
from spikefed.report.palette import BLUE, GREEN, OCHRE, SLATE, VERMILION

WIDTH = 220
HEIGHT = 164
MIDDLE = 82
COLOURS = {"1": SLATE[0], "2": OCHRE[0], "3": BLUE[0], "4": GREEN[0]}
OTHER = VERMILION[0]
"""Of operations that somebody has added."""


def cell_svg(cell: Cell) -> str:
    """A picture of a cell, with its matrix as the accessible name."""
    names = {op.code: op.name for op in cell_ops()}
    told = ", ".join(f"{names[code]} {i} to {j}{' (a step later)' if i > j else ''}" for i, j, code in cell.edges)
    arcs = "".join(_arc(i, j, code) for i, j, code in cell.edges)
    alive = set(cell.alive)
    nodes = "".join(
        f'<circle cx="{_x(i)}" cy="{MIDDLE}" r="9" fill="{"var(--card, #fff)" if i in alive else "none"}" '
        f'stroke="currentColor" stroke-width="{1.6 if i in alive else 0.6}"/>'
        f'<text x="{_x(i)}" y="{MIDDLE + 4}" text-anchor="middle" font-size="11" fill="currentColor">{i}</text>'
        for i in range(NODES)
    )
    title = escape(f"cell {cell}: {told}")
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{title}">'
        f"<title>{title}</title>{arcs}{nodes}</svg>"
    )


def _x(node: int) -> int:
    return 26 + node * (WIDTH - 52) // (NODES - 1)


def _arc(i: int, j: int, code: str) -> str:
    start, end = _x(i), _x(j)
    side = 1 if i > j else -1  # below is back in time
    from_y = MIDDLE + 9 * side
    lift = MIDDLE + side * (12 + 26 * abs(i - j))
    dash = ' stroke-dasharray="5 3"' if i > j else ""
    colour = COLOURS.get(code, OTHER)
    middle = (start + end) / 2
    label_y = MIDDLE + side * (9 + (12 + 26 * abs(i - j) - 9) * 0.72) + 4
    return (
        f'<path d="M{start} {from_y}C{start} {lift} {end} {lift} {end} {from_y}" fill="none" stroke="{colour}" '
        f'stroke-width="2"{dash}/><path d="M{end - 3} {from_y + 5 * side}L{end} {from_y}L{end + 3} '
        f'{from_y + 5 * side}" fill="none" stroke="{colour}" stroke-width="2"/>'
        f'<text x="{middle}" y="{label_y:.0f}" text-anchor="middle" font-size="11" fill="{colour}" '
        f'stroke="var(--card, #fff)" stroke-width="3" paint-order="stroke">{escape(code)}</text>'
    )


def legend() -> str:
    """What the colours and codes stand for, as a line of HTML."""
    parts = [
        f'<span style="white-space:nowrap"><b style="color:{COLOURS.get(op.code, OTHER)}">{escape(op.code)}</b> '
        f"{escape(op.name)} ({escape(op.summary)})</span>"
        for op in cell_ops()
    ]
    return "; ".join(parts) + "; dashed below: one time step later"
