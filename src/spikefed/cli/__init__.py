"""The command line: Typer commands, no logic of their own."""

import os

# Before torch is loaded: waiting threads that spin cost several times the work beside any other process on the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from spikefed.cli.app import app  # noqa: E402
from spikefed.cli.main import main, whole  # noqa: E402

__all__ = ["app", "main", "whole"]
