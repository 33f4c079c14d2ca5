"""Accuracy curves as a plain SVG or PDF: for notebooks, papers and pages without a script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spikefed.errors import ReportError
from spikefed.report.axes import BOTTOM, HEIGHT, RIGHT, WIDTH, Scale, across, across_axis, percent_axis, upward
from spikefed.report.costs import COSTS, TERMS, Terms, band_costs, cost_title
from spikefed.report.curves import MEASURES, axis_title
from spikefed.report.groups import Group, group_runs
from spikefed.report.pdf import pdf, width_of
from spikefed.report.points import ReaderPoint, read_points
from spikefed.report.runs import Run, load_runs
from spikefed.report.shapes import Dot, Label, Point, Shape, svg
from spikefed.report.shapes import Path as Line
from spikefed.report.text import bytes_text, energy_text, span_text

DASHES = ("", "7 4", "2 3", "7 3 2 3")
WRITTEN = {"energy": lambda pj: energy_text(pj).replace("\u00b5", "u"), "seconds": span_text}
"""How a number on the axis of a cost is written; the font of PDFs has no sign for micro."""
OWN = "#111820"
"""Colour of a reader's own points."""


@dataclass(frozen=True)
class Drawing:
    """A figure: shows itself in a notebook, or is saved with `save`.

    Attributes:
        shapes: from back to front.
        words: the figure for a reader who does not see it.
        height: in pixels.
    """

    shapes: Sequence[Shape]
    words: str
    height: int = HEIGHT

    @cached_property
    def svg(self) -> str:
        """The figure as SVG."""
        return svg(self.shapes, WIDTH, self.height, self.words)

    @cached_property
    def pdf(self) -> bytes:
        """The figure as a PDF file."""
        return pdf(self.shapes, WIDTH, self.height, self.words)

    def _repr_html_(self) -> str:
        return self.svg

    def save(self, path: Path | str) -> Path:
        """Write the file: PDF where its name ends in ``.pdf``, else SVG.

        Raises:
            ReportError: it cannot be written.
        """
        path = Path(path)
        try:
            path.write_bytes(self.pdf if path.suffix.lower() == ".pdf" else self.svg.encode())
        except OSError as error:
            raise ReportError(f"figure {path} cannot be written ({error.strerror}); name another file") from error
        return path


def plot(
    runs: Run | Path | str | Sequence[Run | Path | str],
    against: str = "rounds",
    points: Path | str | Sequence[ReaderPoint] = (),
) -> Drawing:
    """Server accuracy of runs: mean over the seeds of a config, with a band from the lowest to the highest.

    Args:
        runs: run folders, folders of runs, or what `load_run` gave; one or several.
        against: ``rounds``, or the cumulative bytes of all clients, logarithmic: ``upstream``, ``downstream``,
            ``paper`` (Algorithm 2 payload) or ``text`` (the paper's measure); or what a device spends, logarithmic:
            ``energy`` of a client's training or ``seconds`` of computing (`spikefed.report.costs`).
        points: numbers of your own beside them, or the CSV file that holds them (`spikefed.report.points`).

    Raises:
        ReportError: no run, none with a finished round, an unknown ``against``, or points that cannot be read.
    """
    given = [runs] if isinstance(runs, Run | Path | str) else list(runs)
    if against not in ("rounds", *MEASURES, *COSTS):
        known = ", ".join(("rounds", *MEASURES, *COSTS))
        raise ReportError(f"plot against '{against}' is not known; use one of {known}")
    read = [run for r in given for run in ([r] if isinstance(r, Run) else load_runs([r]))]
    own = read_points(points) if isinstance(points, Path | str) else points
    drawn = draw(group_runs(read), against, own)
    if drawn is None:
        raise ReportError("there is nothing to plot: no run has a finished round with these numbers")
    return drawn


def draw(
    groups: Sequence[Group], against: str, points: Sequence[ReaderPoint] = (), terms: Terms = TERMS
) -> Drawing | None:
    """The figure of groups; None where none of them has such numbers.

    Args:
        groups: of one setting.
        against: as in `plot`.
        points: those that stand in this figure are drawn.
        terms: of the devices.
    """
    lines = [line for line in (_line(group, against, terms) for group in groups) if line.xs]
    own = [p for p in points if p.places.get(against, 0) > 0]
    if not lines:
        return None
    several = any(len(line.group.curves) > 1 for line in lines)
    log = against != "rounds"
    x = across([*(x for line in lines for x in line.xs), *(p.places[against] for p in own)], log)
    heights = [v for line in lines for v in (*line.low, *line.high)] + [p.accuracy for p in own]
    y, step = upward(min(heights), max(heights))
    title = cost_title(against, terms) if against in COSTS else axis_title(against) if log else "Round"
    accuracy = "Server accuracy, mean over seeds" if several else "Server accuracy, one seed"
    shapes = [*percent_axis(y, step, accuracy), *across_axis(x, title, written=WRITTEN.get(against, bytes_text))]
    for line in lines:
        shapes += _curve(line, x, y)
    for point in own:
        shapes += _own((x(point.places[against]), y(point.accuracy)), point.label)
    ends = "; ".join(f"{line.group.label} ends at {line.mean[-1]:.1%}" for line in lines)
    return Drawing([*shapes, *legend([line.group for line in lines])], f"{accuracy}, against {title.lower()}. {ends}.")


@dataclass(frozen=True)
class _Line:
    group: Group
    xs: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


def _line(group: Group, against: str, terms: Terms) -> _Line:
    band = group.band
    xs = band.rounds if against == "rounds" else along(group, against, terms) or []
    rows = [
        (x, m, low, high)
        for x, m, low, high in zip(xs, band.mean, band.low, band.high, strict=False)
        if m is not None and low is not None and high is not None and (against == "rounds" or x > 0)
    ]
    columns: Any = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], []]
    return _Line(group, *columns)


def along(group: Group, against: str, terms: Terms = TERMS) -> list[float] | None:
    """Where the rounds of a group's band stand over bytes or a cost; None where that is not told."""
    return band_costs(group, against, terms) if against in COSTS else group.band.totals.get(against)


def _curve(line: _Line, x: Scale, y: Scale) -> list[Shape]:
    """The band of the seeds, the mean, and a dot a round where there is room."""
    colour = line.group.colour[0]
    out: list[Shape] = []
    if line.low != line.high:
        edge = [*zip(line.xs, line.high, strict=True), *reversed(list(zip(line.xs, line.low, strict=True)))]
        out.append(Line([(x(a), y(b)) for a, b in edge], colour, closed=True, opacity=0.18))
    dots = [(x(a), y(b)) for a, b in zip(line.xs, line.mean, strict=True)]
    if len(dots) > 1:
        out.append(Line(dots, colour, 2.2, dash_of(line.group)))
    return [*out, *(Dot(at, 3, colour) for at in dots if len(dots) <= 30)]


def _own(at: Point, label: str) -> list[Shape]:
    """A reader's own point, its label on the side that has room."""
    room = WIDTH - RIGHT - at[0] > width_of(label) + 10
    beside = Label((at[0] + 8, at[1] + 4), label) if room else Label((at[0] - 8, at[1] + 4), label, "end")
    return [Dot(at, 4.5, OWN), beside]


def dash_of(group: Group) -> str:
    """Strokes and gaps of a group's line."""
    return DASHES[group.variant % len(DASHES)]


def legend(groups: Sequence[Group]) -> list[Shape]:
    """At the lower right, where rising curves leave room."""
    out: list[Shape] = []
    for place, group in enumerate(reversed(groups)):
        y = HEIGHT - BOTTOM - 14 - 18 * place
        out.append(
            Line([(WIDTH - RIGHT - 40, y - 4), (WIDTH - RIGHT - 12, y - 4)], group.colour[0], 2.2, dash_of(group))
        )
        out.append(Label((WIDTH - RIGHT - 48, y), group.label, "end"))
    return out
