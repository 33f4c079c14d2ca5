"""Metrics files become tables, figures and one offline HTML page."""

from spikefed.report.costs import Terms, terms_of
from spikefed.report.drawing import Drawing, plot
from spikefed.report.figures import write_figures
from spikefed.report.links import Link
from spikefed.report.points import ReaderPoint, read_points
from spikefed.report.runs import Run, load_run
from spikefed.report.write import write_report

__all__ = [
    "Drawing",
    "Link",
    "ReaderPoint",
    "Run",
    "Terms",
    "load_run",
    "plot",
    "read_points",
    "terms_of",
    "write_figures",
    "write_report",
]
