"""Accuracy curves as a plain SVG: for notebooks, papers and pages without a script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from spikefed.errors import ReportError
from spikefed.report.curves import MEASURES
from spikefed.report.groups import Group, group_runs
from spikefed.report.runs import Run, load_runs
from spikefed.report.text import bytes_text

WIDTH = 640
HEIGHT = 360
LEFT = 62
RIGHT = 18
TOP = 14
BOTTOM = 50
DASHES = ("", "7 4", "2 3", "7 3 2 3")


@dataclass(frozen=True)
class Drawing:
    """A figure: shows itself in a notebook, or is saved with `save`."""

    svg: str

    def _repr_html_(self) -> str:
        return self.svg

    def save(self, path: Path | str) -> Path:
        """Write the SVG file."""
        Path(path).write_text(self.svg, encoding="utf-8")
        return Path(path)


def plot(runs: Run | Path | str | Sequence[Run | Path | str], against: str = "rounds") -> Drawing:
    """Server accuracy of runs: mean over the seeds of a config, with a band from the lowest to the highest.

    Args:
        runs: run folders, folders of runs, or what `load_run` gave; one or several.
        against: ``rounds``, or the cumulative bytes of all clients, logarithmic: ``upstream``, ``downstream``,
            ``paper`` (Algorithm 2 payload) or ``text`` (the paper's measure).

    Raises:
        ReportError: no run, none with a finished round, or an unknown ``against``.
    """
    given = [runs] if isinstance(runs, Run | Path | str) else list(runs)
    if against != "rounds" and against not in MEASURES:
        raise ReportError(f"plot against '{against}' is not known; use one of rounds, {', '.join(MEASURES)}")
    read = [run for r in given for run in ([r] if isinstance(r, Run) else load_runs([r]))]
    lines = [_line(g, against) for g in group_runs(read)]
    lines = [line for line in lines if line.xs]
    if not lines:
        raise ReportError("there is nothing to plot: no run has a finished round with these numbers")
    return Drawing(_svg(lines, against))


@dataclass(frozen=True)
class _Line:
    group: Group
    xs: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


def _line(group: Group, against: str) -> _Line:
    band = group.band
    xs = band.rounds if against == "rounds" else band.totals[against] or []
    rows = [
        (x, m, low, high)
        for x, m, low, high in zip(xs, band.mean, band.low, band.high, strict=False)
        if m is not None and low is not None and high is not None and (against == "rounds" or x > 0)
    ]
    columns: Any = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], []]
    return _Line(group, *columns)


def _svg(lines: list[_Line], against: str) -> str:
    log = against != "rounds"
    xs = [x for line in lines for x in line.xs]
    x_low, x_high = _widened(min(xs), max(xs), log)
    y_low = min(v for line in lines for v in line.low)
    y_high = max(v for line in lines for v in line.high)
    step = _step((y_high - y_low) or 0.1, 5)
    y_low, y_high = math.floor(y_low / step) * step, max(math.ceil(y_high / step), math.floor(y_low / step) + 1) * step

    def px(x: float) -> float:
        share = (math.log(x / x_low) / math.log(x_high / x_low)) if log else (x - x_low) / (x_high - x_low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def py(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    parts = [_axes(px, py, _x_ticks(x_low, x_high, log), (y_low, y_high, step), log)]
    for line in lines:
        colour = line.group.colour[0]
        dash = DASHES[line.group.variant % len(DASHES)]
        if line.low != line.high:
            edge = [*zip(line.xs, line.high, strict=True), *reversed(list(zip(line.xs, line.low, strict=True)))]
            around = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in edge)
            parts.append(f'<polygon points="{around}" fill="{colour}" fill-opacity="0.18"/>')
        dots = [(px(x), py(y)) for x, y in zip(line.xs, line.mean, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in dots)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.2"{dashed}/>')
        if len(dots) <= 30:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in dots]
    parts.append(_legend(lines))
    title = MEASURES[against][1] if log else "Round"
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(title)}</text>')
    ends = "; ".join(f"{line.group.label} ends at {line.mean[-1]:.1%}" for line in lines)
    label = escape(f"Server accuracy against {title.lower()}. {ends}.", quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}" '
        f'style="max-width:{WIDTH}px;width:100%;background:#fff;border-radius:6px" '
        f'font-family="system-ui, sans-serif" font-size="12.5" fill="#333d48">{"".join(parts)}</svg>'
    )


def _axes(px, py, x_ticks: list[float], y_range: tuple[float, float, float], log: bool) -> str:
    low, high, step = y_range
    out = []
    digits = 0 if step >= 0.0099 else 1 if step >= 0.00099 else 2
    for i in range(round((high - low) / step) + 1):
        value = low + i * step
        out.append(f'<path d="M{LEFT} {py(value):.1f}H{WIDTH - RIGHT}" stroke="#d9e0e7"/>')
        out.append(f'<text x="{LEFT - 8}" y="{py(value) + 4:.1f}" text-anchor="end">{100 * value:.{digits}f} %</text>')
    for tick in x_ticks:
        text = bytes_text(tick).replace(".00", "").replace(".0", "") if log else f"{tick:g}"
        out.append(f'<path d="M{px(tick):.1f} {HEIGHT - BOTTOM}v5" stroke="#8c99a8"/>')
        out.append(f'<text x="{px(tick):.1f}" y="{HEIGHT - BOTTOM + 19}" text-anchor="middle">{text}</text>')
    out.append(f'<path d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}" stroke="#8c99a8"/>')
    return "".join(out)


def _legend(lines: list[_Line]) -> str:
    """At the lower right, where rising curves leave room."""
    out = []
    for place, line in enumerate(reversed(lines)):
        y = HEIGHT - BOTTOM - 14 - 18 * place
        colour = line.group.colour[0]
        dash = DASHES[line.group.variant % len(DASHES)]
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        out.append(f'<path d="M{WIDTH - RIGHT - 40} {y - 4}h28" stroke="{colour}" stroke-width="2.2"{dashed}/>')
        out.append(f'<text x="{WIDTH - RIGHT - 48}" y="{y}" text-anchor="end">{escape(line.group.label)}</text>')
    return "".join(out)


def _widened(low: float, high: float, log: bool) -> tuple[float, float]:
    """The range with a little room on both sides, also when it is a point."""
    if log:
        room = max((high / low) ** 0.04, 1.15)
        return low / room, high * room
    room = max(0.03 * (high - low), 0.3)
    return low - room, high + room


def _x_ticks(low: float, high: float, log: bool) -> list[float]:
    if not log:
        step = max(1.0, _step(high - low, 8))
        return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    steps = (1, 2, 5) if math.log10(high / low) < 2.2 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [s * 10.0**d for d in decades for s in steps if low <= s * 10.0**d <= high]


def _step(span: float, most: int) -> float:
    """The smallest of 1, 2, 5 times a power of ten that gives at most ``most`` steps."""
    scale = 10.0 ** math.floor(math.log10(span / most))
    return next(s * scale for s in (1, 2, 5, 10) if span / (s * scale) <= most)
