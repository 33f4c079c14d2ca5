"""What every table of an experiment file is."""

from __future__ import annotations

from typing import Any

from spikefed.hyper import Settings


class Section(Settings):
    """Base of every table of the file."""


SINCE_02: dict[str, Any] = {"since": "0.2"}
"""Marks a key that version 0.1 did not have: at its default it leaves an experiment's hash as it was."""
