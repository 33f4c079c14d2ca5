"""The command ``convert``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.table import Table

from spikefed.cli.app import app
from spikefed.cli.console import note as note_of
from spikefed.cli.options import DataDir, Json, Quietly


@app.command()
def convert(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run folder of an ANN twin (network.twin = 'ann').")],
    steps: Annotated[int, typer.Option("--steps", help="Time steps T of the spiking network, 1 to 64.")] = 8,
    calibrate: Annotated[
        str, typer.Option("--calibrate", help="Images that set thresholds: train, public or synthetic.")
    ] = "train",
    recipe: Annotated[
        str, typer.Option("--recipe", help="How thresholds are found: max, percentile, channel, local, or qcfs.")
    ] = "local",
    images: Annotated[int, typer.Option("--images", help="Calibration images.")] = 512,
    compensate: Annotated[
        bool, typer.Option("--compensate/--no-compensate", help="Take mean errors out of the biases.")
    ] = True,
    out: Annotated[Path | None, typer.Option("--out", help="Model file to write [RUN/converted/...].")] = None,
    data_dir: DataDir = None,
    quiet: Quietly = False,
    json_: Json = False,
) -> None:
    """Turn a trained ANN twin into a spiking network, without training."""
    from spikefed.experiment.conversion import Calibrate, ConversionPlan, convert_run

    plan = ConversionPlan(steps, cast(Calibrate, calibrate), cast(Any, recipe), images, compensate)
    done = convert_run(run, plan, out=out, data_dir=data_dir, tell=note_of(quiet))
    if json_:
        print(json.dumps(done, indent=1))
        return
    table = Table("layer", "least threshold", "largest", "error", box=None, pad_edge=False)
    for row in done["layers"]:
        ends = ["" if row[key] is None else f"{row[key]:.3g}" for key in ("least_threshold", "largest_threshold")]
        table.add_row(row["layer"], *ends, f"{row['error_share']:.1%}")
    console = Console(emoji=False)
    console.print(table)
    gap = 100 * (done["snn_accuracy"] - done["ann_accuracy"])
    console.print(
        f"wrote {done['path']}: accuracy {done['snn_accuracy']:.4f} in {steps} steps, {gap:+.2f} points to the ANN's "
        f"{done['ann_accuracy']:.4f}",
        highlight=False,
        soft_wrap=True,
    )
