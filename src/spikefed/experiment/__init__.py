"""From a TOML file to a run folder."""

from spikefed.experiment.build import alike_rows, build
from spikefed.experiment.compare import check_finished, compare, run_missing
from spikefed.experiment.config import Experiment, from_tree, load, presets
from spikefed.experiment.federation import Federation
from spikefed.experiment.folder import RunFolder
from spikefed.experiment.holdings import Holdings, holdings
from spikefed.experiment.jobs import Outcome, run_jobs
from spikefed.experiment.models import load_model
from spikefed.experiment.probe import probe_run
from spikefed.experiment.run import run
from spikefed.experiment.shrink import shrink
from spikefed.experiment.sweep import Job, is_sweep, jobs_of, read_sweep

__all__ = [
    "Experiment",
    "Federation",
    "Holdings",
    "Job",
    "Outcome",
    "RunFolder",
    "alike_rows",
    "build",
    "check_finished",
    "compare",
    "from_tree",
    "holdings",
    "is_sweep",
    "jobs_of",
    "load",
    "load_model",
    "presets",
    "probe_run",
    "read_sweep",
    "run",
    "run_jobs",
    "run_missing",
    "shrink",
]
