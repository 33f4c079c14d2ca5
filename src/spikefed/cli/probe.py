"""The command ``probe``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from spikefed.cli.app import app
from spikefed.cli.options import DataDir, Json, Quietly
from spikefed.cli.options import progress as progress_of


@app.command()
def probe(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a finished run, or a model file.")],
    name: Annotated[
        str,
        typer.Argument(
            help="Probe (see 'spikefed list probes'), module:ClassName, or the label of one of the run's own."
        ),
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of the probe, such as images=500; for a model file without its run data.dataset=NAME too.",
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", help="Name of the result's file (default: the probe's name).")
    ] = None,
    data_dir: DataDir = None,
    quiet: Quietly = False,
    json_: Json = False,
) -> None:
    """Measure a finished run's network; the result is kept in RUN/probes. Repeat an interrupted one to go on."""
    from spikefed.experiment import probe_run
    from spikefed.experiment.tables import merge, parse_override

    settings: dict[str, Any] = {}
    for text in set_ or ():
        settings = merge(settings, parse_override(text))
    found = probe_run(run, name, settings, label=label, data_dir=data_dir, progress=progress_of(quiet))
    if json_:
        print(json.dumps(found, indent=1))
    else:
        from spikefed.report.probes import probe_text

        print(probe_text(found))
