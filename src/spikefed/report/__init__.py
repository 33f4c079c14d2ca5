"""Metrics files become tables, figures and one offline HTML page."""

from spikefed.report.drawing import Drawing, plot
from spikefed.report.figures import write_figures
from spikefed.report.points import ReaderPoint, read_points
from spikefed.report.runs import Run, load_run
from spikefed.report.write import write_report

__all__ = ["Drawing", "ReaderPoint", "Run", "load_run", "plot", "read_points", "write_figures", "write_report"]
