"""What every table of an experiment file is."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict

from spikefed.hyper import Numbers


class Section(Numbers):
    """Base of every table of the file: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


SINCE_02: dict[str, Any] = {"since": "0.2"}
"""Marks a key that version 0.1 did not have: at its default it leaves an experiment's hash as it was."""
