"""Metrics files become tables, figures and one offline HTML page."""

from spikefed.report.drawing import Drawing, plot
from spikefed.report.runs import Run, load_run
from spikefed.report.write import write_report

__all__ = ["Drawing", "Run", "load_run", "plot", "write_report"]
