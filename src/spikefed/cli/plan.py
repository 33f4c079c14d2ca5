"""The command ``plan``."""

from __future__ import annotations

import json
from math import isfinite
from typing import Annotated

import typer

from spikefed.cli.app import app
from spikefed.cli.options import DataDir, ExperimentFile, Json, Overrides, Quietly, overrides, progress
from spikefed.errors import ConfigError


@app.command()
def plan(
    file: ExperimentFile,
    set_: Overrides = None,
    rounds_a_day: Annotated[
        float, typer.Option("--rounds-a-day", min=0, help="Rounds in the field, for the bytes of 30 days.")
    ] = 24.0,
    radio_nj_per_byte: Annotated[
        float | None, typer.Option("--radio-nj-per-byte", min=0, help="Price of a byte on the air.")
    ] = None,
    data_dir: DataDir = None,
    quiet: Quietly = False,
    json_: Json = False,
) -> None:
    """Say what an experiment will cost, from its first rounds: time, memory, bytes, energy. Nothing is kept."""
    from spikefed.experiment.plan import plan as planned

    for option, value in (("--rounds-a-day", rounds_a_day), ("--radio-nj-per-byte", radio_nj_per_byte or 0.0)):
        if not isfinite(value):
            raise ConfigError(f"{option} {value} is no number; write digits, such as 24")
    found = planned(
        file,
        overrides=overrides(set_, data_dir),
        rounds_a_day=rounds_a_day,
        radio_nj_per_byte=radio_nj_per_byte,
        progress=progress(quiet),
    )
    print(json.dumps(found.to_dict(), indent=1) if json_ else found)
