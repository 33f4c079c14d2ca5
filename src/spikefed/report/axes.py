"""The frame of a figure: scales, ticks, grid and titles as shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spikefed.report.shapes import GRID, RULE, Label, Path, Shape
from spikefed.report.text import bytes_text

WIDTH = 640
HEIGHT = 360
LEFT = 78
RIGHT = 18
TOP = 14
BOTTOM = 50


@dataclass(frozen=True)
class Scale:
    """Values to pixels along one axis.

    Attributes:
        low, high: values at its ends.
        start, end: their pixels.
        log: logarithmic.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def across(values: Sequence[float], log: bool, left: float = LEFT, right: float = RIGHT) -> Scale:
    """A horizontal scale around these values, with a little room on both sides.

    Args:
        values: at least one; above 0 where ``log``.
        log: logarithmic.
        left: pixels left of it.
        right: pixels right of it.
    """
    low, high = min(values), max(values)
    if log:
        room = max((high / low) ** 0.04, 1.15)
        return Scale(low / room, high * room, left, WIDTH - right, True)
    room = max(0.03 * (high - low), 0.3)
    return Scale(low - room, high + room, left, WIDTH - right)


def upward(low: float, high: float) -> tuple[Scale, float]:
    """A vertical scale of shares from a tick to a tick around both, and the step of its ticks."""
    step = step_of((high - low) or 0.1, 5)
    bottom = math.floor(low / step) * step
    top = max(math.ceil(high / step), math.floor(low / step) + 1) * step
    return Scale(bottom, top, HEIGHT - BOTTOM, TOP), step


def percent_axis(y: Scale, step: float, title: str) -> list[Shape]:
    """Grid lines with their percents, and the title along them."""
    digits = 0 if step >= 0.0099 else 1 if step >= 0.00099 else 2
    out: list[Shape] = []
    for tick in range(round((y.high - y.low) / step) + 1):
        value = y.low + tick * step
        out.append(Path([(LEFT, y(value)), (WIDTH - RIGHT, y(value))], GRID))
        out.append(Label((LEFT - 8, y(value) + 4), f"{100 * value:.{digits}f} %", "end"))
    return [*out, Label((18, (TOP + HEIGHT - BOTTOM) / 2), title, "middle", turned=True)]


def across_axis(
    x: Scale, title: str, bottom: float = HEIGHT - BOTTOM, written: Callable[[float], str] = bytes_text
) -> list[Shape]:
    """Ticks and title below the figure: bytes on a logarithmic scale, whole numbers on the other.

    Args:
        x: the scale.
        title: below the ticks.
        bottom: pixel of the axis.
        written: a number of a logarithmic scale as text.
    """
    out: list[Shape] = []
    for tick in ticks(x):
        text = written(tick).replace(".00", "").replace(".0", "") if x.log else f"{tick:g}"
        out.append(Path([(x(tick), bottom), (x(tick), bottom + 5)], RULE))
        out.append(Label((x(tick), bottom + 19), text, "middle"))
    out.append(Path([(x.start, bottom), (x.end, bottom)], RULE))
    return [*out, Label(((x.start + x.end) / 2, bottom + 42), title, "middle")]


def ticks(x: Scale) -> list[float]:
    """Round values of a scale: at most about eight, or one to three a decade."""
    if not x.log:
        step = max(1.0, step_of(x.high - x.low, 8))
        return [i * step for i in range(math.ceil(x.low / step), math.floor(x.high / step) + 1)]
    steps = (1, 2, 5) if math.log10(x.high / x.low) < 2.2 else (1,)
    decades = range(math.floor(math.log10(x.low)), math.ceil(math.log10(x.high)) + 1)
    return [s * 10.0**d for d in decades for s in steps if x.low <= s * 10.0**d <= x.high]


def step_of(span: float, most: int) -> float:
    """The smallest of 1, 2, 5 times a power of ten that gives at most ``most`` steps."""
    scale = 10.0 ** math.floor(math.log10(span / most))
    return next(s * scale for s in (1, 2, 5, 10) if span / (s * scale) <= most)
