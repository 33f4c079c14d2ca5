"""Federated learning of spiking neural networks that sends spikes instead of weights.

``spikefed.run(config)`` does what ``spikefed run FILE`` does; ``spikefed.load_run(folder)`` reads a run folder,
``spikefed.plot`` and ``spikefed.write_report`` show one or many. ``spikefed.load_model(folder)`` gives the trained
network back, ready to predict. ``spikefed.keep_memory()`` lets programs of your own train as fast as the commands do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spikefed.version import __version__

__all__ = [
    "Experiment",
    "__version__",
    "describe",
    "explain",
    "keep_memory",
    "load_experiment",
    "load_model",
    "load_run",
    "plot",
    "run",
    "write_report",
]

if TYPE_CHECKING:
    from spikefed.experiment import Experiment, load_model, run
    from spikefed.experiment import load as load_experiment
    from spikefed.native import keep_memory
    from spikefed.networks import describe, explain
    from spikefed.report import load_run, plot, write_report

_PUBLIC = {
    "Experiment": ("spikefed.experiment", "Experiment"),
    "describe": ("spikefed.networks", "describe"),
    "explain": ("spikefed.networks", "explain"),
    "keep_memory": ("spikefed.native", "keep_memory"),
    "load_experiment": ("spikefed.experiment", "load"),
    "load_model": ("spikefed.experiment", "load_model"),
    "load_run": ("spikefed.report", "load_run"),
    "plot": ("spikefed.report", "plot"),
    "run": ("spikefed.experiment", "run"),
    "write_report": ("spikefed.report", "write_report"),
}


def __getattr__(name: str) -> Any:
    # Imported on first use: 'spikefed --help' and the wire format need no torch.
    import importlib

    if name not in _PUBLIC:
        raise AttributeError(f"module 'spikefed' has no attribute '{name}'")
    module, attribute = _PUBLIC[name]
    return getattr(importlib.import_module(module), attribute)
