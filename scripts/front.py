"""Accuracy against upstream bytes as an SVG: one mark a run, the front as a line."""

from __future__ import annotations

import math
import statistics
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from spikefed.experiment.progress import size
from spikefed.files import write_atomic
from spikefed.report.palette import colour_of

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 60, 24, 16, 48


class Point(NamedTuple):
    """One run: means over its seeds after the last round."""

    name: str
    method: str
    bytes: float
    accuracy: float


def points_of(groups: dict[str, list[dict[str, Any]]]) -> list[Point]:
    """Every run that sends anything."""
    return [
        Point(
            name,
            rs[0]["method"],
            statistics.mean(r["upstream_bytes"] for r in rs),
            statistics.mean(r["accuracy"] for r in rs),
        )
        for name, rs in groups.items()
        if rs[0]["upstream_bytes"]
    ]


def front_of(points: list[Point]) -> list[Point]:
    """What nothing else beats in both bytes and accuracy, from the least bytes on."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.bytes, -p.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front


def front_figure(groups: dict[str, list[dict[str, Any]]], path: Path) -> tuple[str, str]:
    """Write the figure; returns its address from docs/ and what it shows in words."""
    points = points_of(groups)
    xs, ys = [math.log10(p.bytes) for p in points], [p.accuracy for p in points]
    x0, x1 = min(xs) - 0.15, max(xs) + 0.15
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2) if (max(ys) - min(ys)) / s <= 5)
    y0, y1 = math.floor(min(ys) / step) * step, math.ceil(max(ys) / step + 0.2) * step

    def px(x: float) -> float:
        return LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)

    def py(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for i in range(round((y1 - y0) / step) + 1):
        y = y0 + i * step
        parts.append(f'<path d="M{LEFT} {py(y):.1f}H{WIDTH - RIGHT}" stroke="#d9e0e7"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{py(y) + 4:.1f}" text-anchor="end">{100 * y:.0f} %</text>')
    for decade in range(math.ceil(x0), math.floor(x1) + 1):
        parts.append(f'<path d="M{px(decade):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#eef1f4"/>')
        parts.append(
            f'<text x="{px(decade):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{size(10**decade)}</text>'
        )
    line = [f"{px(math.log10(p.bytes)):.1f},{py(p.accuracy):.1f}" for p in front_of(points)]
    parts.append(f'<polyline points="{" ".join(line)}" fill="none" stroke="#8c99a8" stroke-dasharray="5 4"/>')
    parts += marks(points, px, py)
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">Upstream bytes of the whole run, all clients</text>'
    )
    words = "Accuracy against upstream bytes: " + "; ".join(f"{n} {y:.1%} for {size(x)}" for n, _, x, y in points)
    look = 'style="background:#fff" font-family="system-ui, sans-serif" font-size="12.5" fill="#333d48"'
    told = f'role="img" aria-label="{escape(words)}"'
    body = "".join(parts)
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {told} {look}>{body}</svg>'
    write_atomic(path, svg + "\n")
    return f"images/{path.name}", words


def marks(points: list[Point], px: Any, py: Any) -> list[str]:
    """Dots with names; a name moves down or up until it is clear of those before it."""
    out, taken = [], []
    for name, method, bytes_, accuracy in sorted(points, key=lambda p: -p.accuracy):
        x, y, colour = px(math.log10(bytes_)), py(accuracy), colour_of(method)[0]
        out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>')
        wide = 7.0 * len(name)
        left = x + wide + 12 > WIDTH - RIGHT
        start = x - 8 - wide if left else x + 8
        at = next(
            y + 4 + shift
            for shift in (-7, 6, 19, -20, 32, -33, 45, 58, 71, 84, 97, 110)
            if all(abs(y + 4 + shift - b) > 12 or start > d or c > start + wide for b, c, d in taken) or shift == 110
        )
        taken.append((at, start, start + wide))
        anchor, tx = ("end", x - 8) if left else ("start", x + 8)
        out.append(f'<text x="{tx:.1f}" y="{at:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(name)}</text>')
    return out
