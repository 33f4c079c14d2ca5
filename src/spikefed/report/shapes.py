"""What a figure is drawn of, and its SVG. Points are in pixels from the upper left; `pdf` writes the same as PDF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]


@dataclass(frozen=True)
class Path:
    """A line through points, or with ``closed`` an area.

    Attributes:
        points: at least two.
        colour: ``#rrggbb`` of the line, or of the area.
        width: of the line in pixels.
        dash: lengths of strokes and gaps, such as ``"7 4"``; empty: whole.
        closed: fill the polygon instead of drawing its edge.
        opacity: of an area, in (0, 1].
    """

    points: Sequence[Point]
    colour: str
    width: float = 1.0
    dash: str = ""
    closed: bool = False
    opacity: float = 1.0


@dataclass(frozen=True)
class Dot:
    """A filled circle."""

    centre: Point
    radius: float
    colour: str


@dataclass(frozen=True)
class Label:
    """A line of text.

    Attributes:
        at: where its baseline begins, has its middle, or ends.
        text: what it says.
        anchor: ``start``, ``middle`` or ``end``.
        turned: a quarter turn to the left, for the title of a vertical axis.
    """

    at: Point
    text: str
    anchor: str = "start"
    turned: bool = False


Shape = Path | Dot | Label
FONT_PX = 12.5
INK = "#333d48"
GRID = "#d9e0e7"
RULE = "#8c99a8"


def svg(shapes: Sequence[Shape], width: int, height: int, label: str) -> str:
    """The figure as SVG, white behind; ``label`` is what a reader who does not see it is told.

    Args:
        shapes: from back to front.
        width: in pixels.
        height: in pixels.
        label: the figure in words.
    """
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(label, quote=True)}" '
        f'style="max-width:{width}px;width:100%;background:#fff;border-radius:6px" '
        f'font-family="system-ui, sans-serif" font-size="{FONT_PX}" fill="{INK}">'
        f"{''.join(map(_element, shapes))}</svg>"
    )


def _element(shape: Shape) -> str:
    if isinstance(shape, Dot):
        x, y = shape.centre
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{shape.radius:g}" fill="{shape.colour}"/>'
    if isinstance(shape, Label):
        x, y = shape.at
        turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if shape.turned else ""
        return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{shape.anchor}"{turn}>{escape(shape.text)}</text>'
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
    if shape.closed:
        return f'<polygon points="{points}" fill="{shape.colour}" fill-opacity="{shape.opacity:g}"/>'
    dashed = f' stroke-dasharray="{shape.dash}"' if shape.dash else ""
    line = f'fill="none" stroke="{shape.colour}" stroke-width="{shape.width:g}"{dashed}'
    if len(shape.points) > 2:
        return f'<polyline points="{points}" {line}/>'
    (x0, y0), (x1, y1) = shape.points
    return f'<path d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}" {line}/>'
