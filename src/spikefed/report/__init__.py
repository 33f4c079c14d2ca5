"""Metrics files become tables, figures and one offline HTML page."""

from spikefed.report.runs import Run, load_run
from spikefed.report.write import write_report

__all__ = ["Run", "load_run", "write_report"]
