"""A run as a notebook shows it: name, last numbers, and the accuracy curve as a small drawing."""

from __future__ import annotations

from html import escape
from typing import Protocol

from spikefed.report.curves import HasRounds, curve_of
from spikefed.report.palette import colour_of
from spikefed.report.text import bytes_text, percent, plural

WIDTH = 260
HEIGHT = 70
PAD = 6


class Named(HasRounds, Protocol):
    """A run's rounds, and what a reader calls it."""

    @property
    def name(self) -> str: ...

    @property
    def method(self) -> str: ...

    @property
    def dataset(self) -> str: ...

    @property
    def seed(self) -> int | None: ...

    @property
    def finished(self) -> bool: ...


def run_html(run: Named) -> str:
    """HTML of one run; needs no script and follows the notebook's own colours."""
    curve = curve_of(run)
    state = "finished" if run.finished else "in progress"
    seed = "" if run.seed is None else f", seed {run.seed}"
    facts = [
        plural(len(curve.rounds), "round"),
        f"server accuracy {percent(curve.last)} (best {percent(curve.best)})",
        f"{bytes_text(curve.total('upstream'))} up, {bytes_text(curve.total('downstream'))} down",
    ]
    return (
        f"<div><strong>{escape(run.name)}</strong> ({escape(run.method)} on {escape(run.dataset)}{seed}, {state})<br>"
        f"{escape(', '.join(facts))}<br>{sparkline(curve.accuracy, colour_of(run.method)[0])}</div>"
    )


def sparkline(values: list[float | None], colour: str) -> str:
    """An SVG line through the values, lowest at the bottom; empty for fewer than two."""
    points = [(i, v) for i, v in enumerate(values) if v is not None]
    if len(points) < 2:
        return ""
    low, high = min(v for _, v in points), max(v for _, v in points)
    across = (WIDTH - 2 * PAD) / points[-1][0]
    up = (HEIGHT - 2 * PAD) / ((high - low) or 1.0)
    line = " ".join(f"{PAD + across * i:.1f},{HEIGHT - PAD - up * (v - low):.1f}" for i, v in points)
    label = f"accuracy by round, from {percent(points[0][1])} to {percent(points[-1][1])}"
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{escape(label)}">'
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/></svg>'
    )
