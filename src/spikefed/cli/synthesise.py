"""The command ``synthesise``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from spikefed.cli.app import app
from spikefed.cli.console import bar
from spikefed.cli.options import Json, Quietly


@app.command()
def synthesise(
    run: Annotated[
        str, typer.Argument(metavar="RUN|MODEL", help="Run folder, RUN@ROUND for a checkpoint, or a model file.")
    ],
    images: Annotated[int, typer.Option("--images", help="How many.")] = 1000,
    kind: Annotated[
        str,
        typer.Option("--kind", help="statistics (of batch norm), impressions (of the classifier), or generator."),
    ] = "statistics",
    steps: Annotated[int, typer.Option("--steps", help="Gradient steps of an image.")] = 200,
    client: Annotated[
        int | None, typer.Option("--client", min=0, help="From this client's own network instead of the server's.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File to write [RUN/synthetic.safetensors].")] = None,
    quiet: Quietly = False,
    json_: Json = False,
) -> None:
    """Make images from a trained network alone; a sheet of them is kept beside."""
    from spikefed.data import SynthesisPlan
    from spikefed.experiment.synthesis import synthesise_run

    plan = SynthesisPlan(kind=cast(Any, kind), images=images, steps=steps)
    with bar("images", quiet) as tell:
        path, made = synthesise_run(run, plan, client=client, out=out, tell=tell)
    counts = made.labels.bincount(minlength=made.outputs.shape[1]).tolist()
    told = {"path": str(path), "sheet": str(path.with_suffix(".png")), "images": len(made)}
    told |= {"agreement_share": made.agreement, "of_each_class": counts}
    if json_:
        print(json.dumps(told, indent=1))
        return
    print(f"wrote {told['path']}: {len(made):,} images, {min(counts)} to {max(counts)} of a class; see {told['sheet']}")
    print(f"the network says the class that an image was made for in {made.agreement:.1%}")
