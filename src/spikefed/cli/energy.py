"""The command ``energy``."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Annotated

import typer

from spikefed.cli.app import app
from spikefed.cli.options import DataDir, Json, Overrides
from spikefed.cli.options import overrides as overrides_of


class FirstLayerChoice(enum.StrEnum):
    """How direct coding is charged."""

    once = "once"
    every_step = "every-step"


class WeightBits(enum.StrEnum):
    """Bits of the quantised ANN's weights."""

    eight = "8"
    thirty_two = "32"


@app.command()
def energy(
    source: Annotated[
        Path, typer.Argument(metavar="FILE|RUN", help="Experiment file, or run folder of a finished run.")
    ],
    set_: Overrides = None,
    images: Annotated[int, typer.Option("--images", min=1, help="Test images to show to the network.")] = 256,
    first_layer: Annotated[
        FirstLayerChoice, typer.Option("--first-layer", help="Charge direct coding's first layer once, or T times.")
    ] = FirstLayerChoice.once,
    weight_bits: Annotated[
        WeightBits, typer.Option("--weight-bits", help="Weights of the quantised ANN, and of the SNN beside it.")
    ] = WeightBits.eight,
    radio_nj_per_byte: Annotated[
        float | None, typer.Option("--radio-nj-per-byte", min=0, help="Price of a byte on the air, for a run's bytes.")
    ] = None,
    data_dir: DataDir = None,
    json_: Json = False,
) -> None:
    """Energy of one inference by several published models, layer by layer, and of a client's round."""
    from spikefed.experiment.energy import experiment_energy

    found = experiment_energy(
        source,
        overrides=overrides_of(set_, data_dir),
        images=images,
        first_layer=first_layer.value,
        weight_bits=int(weight_bits.value),
        radio_nj_per_byte=radio_nj_per_byte,
    )
    print(json.dumps(found.to_dict(), indent=1) if json_ else found)
