"""The command line: Typer commands, no logic of their own."""

from spikefed.cli.main import app, main

__all__ = ["app", "main"]
