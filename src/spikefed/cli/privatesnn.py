"""The command ``privatesnn``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spikefed.cli.app import app
from spikefed.cli.console import note as note_of
from spikefed.cli.options import DataDir, Json, Overrides, Quietly, overrides
from spikefed.cli.options import progress as progress_of


@app.command()
def privatesnn(
    file: Annotated[Path, typer.Argument(help="Experiment file (TOML) of an ANN twin, with a table 'privatesnn'.")],
    set_: Overrides = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of it all (default: runs/NAME-private-seedS).")
    ] = None,
    data_dir: DataDir = None,
    quiet: Quietly = False,
    json_: Json = False,
) -> None:
    """Make a spiking network from an ANN without its data, train it on, attack it. Repeat an interrupted one."""
    from spikefed.experiment.privatesnn import PrivateFolder, run_private
    from spikefed.report.private import private_text, write_private_page

    given = overrides(set_, data_dir)
    made = run_private(file, overrides=given, out=out, progress=progress_of(quiet), tell=note_of(quiet))
    folder = PrivateFolder(made)
    page = write_private_page(folder.path)
    if json_:
        print(folder.result.read_text(), end="")
    elif not quiet:
        print(private_text(folder.path))
        print(page.resolve())
