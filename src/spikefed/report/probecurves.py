"""Figures of a probe: what it says over its own axis (time steps, strengths) and over the rounds, a line a method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from spikefed.report.columns import WRITTEN
from spikefed.report.curves import mean
from spikefed.report.groups import Group
from spikefed.report.probes import column_of
from spikefed.report.tidy import number

WIDTH = 640
HEIGHT = 300
LEFT = 74
RIGHT = 18
TOP = 14
BOTTOM = 46
DASHES = ("", "7 4", "2 3", "7 3 2 3")
Points = dict[float, tuple[float, float, float]]
"""x to mean, lowest and highest y."""


@dataclass(frozen=True)
class Line:
    """One method's line.

    Attributes:
        group: colour, dash and label.
        points: in order of x.
    """

    group: Group
    points: Points


def figures(label: str, groups: Sequence[Group]) -> str:
    """The figures that a probe asks for, and the first number of its headline over the rounds; empty without any.

    Args:
        label: of the probe; every group has a run with it.
        groups: a line each; several seeds give a band from the lowest to the highest.
    """
    trees = {id(group): [run.probes[label] for run in group.runs if label in run.probes] for group in groups}
    first = trees[id(groups[0])][0]
    out = []
    for curve in first.get("curves", ()):
        lines = [Line(group, _merged([_of_records(tree, curve) for tree in trees[id(group)]])) for group in groups]
        out.append(_figure(first, curve["x"], curve["y"], lines))
    key = next((key for key, value in first["measurements"][-1]["headline"].items() if number(value) is not None), None)
    if key is not None and any(len(tree["measurements"]) > 1 for mine in trees.values() for tree in mine):
        lines = [Line(group, _merged([_of_rounds(tree, key) for tree in trees[id(group)]])) for group in groups]
        out.append(_figure(first, "round", key, lines))
    return "".join(out)


def _of_records(tree: Mapping[str, Any], curve: Mapping[str, str]) -> Points:
    """Of the last measurement, with the probe's own error around it."""
    rows = [row for row in tree["measurements"][-1]["records"] if row.get("part", "") == curve.get("part", "")]
    return _points([(row.get(curve["x"]), row.get(curve["y"]), row.get(f"{curve['y']}_se")) for row in rows])


def _of_rounds(tree: Mapping[str, Any], key: str) -> Points:
    told = [(m["round"], m["headline"].get(key), m["headline"].get(f"{key}_se")) for m in tree["measurements"]]
    return _points(told)


def _points(rows: Sequence[tuple[Any, Any, Any]]) -> Points:
    found: Points = {}
    for x, y, error in rows:
        place = number(x)
        value = number(y)
        around = number(error) or 0.0
        if place is not None and value is not None:
            found[place] = (value, value - around, value + around)
    return dict(sorted(found.items()))


def _merged(runs: Sequence[Points]) -> Points:
    """Several seeds: their mean, lowest and highest at the places that all have; one alone keeps its error."""
    if len(runs) == 1:
        return runs[0]
    places = sorted(set.intersection(*(set(run) for run in runs)))
    values = {x: [run[x][0] for run in runs] for x in places}
    return {x: (mean(each), min(each), max(each)) for x, each in values.items()}


def _figure(tree: Mapping[str, Any], x: str, y: str, lines: Sequence[Line]) -> str:
    drawn = [line for line in lines if line.points]
    if not drawn or max(len(line.points) for line in drawn) < 2:
        return ""
    across = "Round" if x == "round" else column_of(tree, x, []).title
    told = column_of(tree, y, [])
    caption = f"{told.title} over {across.lower()}"
    ends = "; ".join(f"{line.group.label} ends at {list(line.points.values())[-1][0]:.4g}" for line in drawn)
    label = escape(f"{caption}. {ends}.", quote=True)
    body = _drawn(drawn, across, WRITTEN.get(told.unit, WRITTEN["number"]))
    return (
        f'<figure class="probe-curve"><figcaption>{escape(caption)}</figcaption>'
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}" '
        f'style="max-width:{WIDTH}px;width:100%;background:#fff;border-radius:6px" '
        f'font-family="system-ui, sans-serif" font-size="12.5" fill="#333d48">{body}</svg></figure>'
    )


def _drawn(lines: Sequence[Line], across: str, written: Any) -> str:
    xs = [x for line in lines for x in line.points]
    x_low = min(xs)
    x_high = max(xs)
    y_ticks = ticks(
        min(low for line in lines for _, low, _ in line.points.values()),
        max(high for line in lines for _, _, high in line.points.values()),
    )

    def px(x: float) -> float:
        return LEFT + 12 + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT - 24)

    def py(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (HEIGHT - TOP - BOTTOM)

    out = []
    for tick in y_ticks:
        out.append(f'<path d="M{LEFT} {py(tick):.1f}H{WIDTH - RIGHT}" stroke="#d9e0e7"/>')
        out.append(f'<text x="{LEFT - 8}" y="{py(tick) + 4:.1f}" text-anchor="end">{escape(written(tick))}</text>')
    for tick in (tick for tick in ticks(x_low, x_high) if x_low <= tick <= x_high):
        out.append(f'<text x="{px(tick):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{tick:g}</text>')
    out += [_line(line, px, py) for line in lines]
    out.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(across)}</text>')
    return "".join([*out, *_legend(lines)])


def _line(line: Line, px: Any, py: Any) -> str:
    colour = line.group.colour[0]
    dash = DASHES[line.group.variant % len(DASHES)]
    high = [(x, top) for x, (_, _, top) in line.points.items()]
    low = [(x, bottom) for x, (_, bottom, _) in line.points.items()]
    around = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in [*high, *reversed(low)])
    path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, (y, _, _) in line.points.items())
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<polygon points="{around}" fill="{colour}" fill-opacity="0.16"/>'
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.2"{dashed}/>'
    )


def _legend(lines: Sequence[Line]) -> list[str]:
    """At the upper right."""
    out = []
    for place, line in enumerate(lines):
        y = TOP + 16 + 18 * place
        colour = line.group.colour[0]
        dash = DASHES[line.group.variant % len(DASHES)]
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        out.append(f'<path d="M{WIDTH - RIGHT - 40} {y - 4}h28" stroke="{colour}" stroke-width="2.2"{dashed}/>')
        out.append(f'<text x="{WIDTH - RIGHT - 48}" y="{y}" text-anchor="end">{escape(line.group.label)}</text>')
    return out


def ticks(low: float, high: float) -> list[float]:
    """Four to ten round numbers whose first and last lie around the range."""
    span = (high - low) or abs(high) or 1.0
    scale = 10.0 ** math.floor(math.log10(span / 5))
    step = next(s * scale for s in (1, 2, 5, 10) if span / (s * scale) <= 6)
    first = math.floor(low / step)
    last = max(math.ceil(high / step), first + 1)
    return [place * step for place in range(first, last + 1)]
