"""From a TOML file to a run folder."""

from spikefed.experiment.build import Federation, alike_rows, build
from spikefed.experiment.compare import run_missing
from spikefed.experiment.config import Experiment, from_tree, load, presets
from spikefed.experiment.folder import RunFolder
from spikefed.experiment.run import run

__all__ = [
    "Experiment",
    "Federation",
    "RunFolder",
    "alike_rows",
    "build",
    "from_tree",
    "load",
    "presets",
    "run",
    "run_missing",
]
