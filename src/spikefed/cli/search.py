"""The command ``search``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spikefed.cli.app import app
from spikefed.cli.console import bar
from spikefed.cli.options import DataDir, Json, Quietly, overrides


@app.command()
def search(
    file: Annotated[
        Path,
        typer.Argument(
            help="Search file (TOML): an experiment's data, network and seed, and a table 'search'; a model is "
            "experiments/search/digits.toml."
        ),
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as search.cells=100."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the search (default: runs/NAME-search-seedS).")
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=256, help="Processes that score; the result is the same.")
    ] = 1,
    data_dir: DataDir = None,
    quiet: Quietly = False,
    json_: Json = False,
) -> None:
    """Search cells of spiking networks without training one. Repeat an interrupted search to go on with it."""
    from spikefed.experiment.search import SearchFolder, run_search
    from spikefed.report.search import search_text, write_search_page

    given = overrides(set_, data_dir)
    with bar("cells", quiet) as tell:
        folder = SearchFolder(run_search(file, overrides=given, out=out, workers=workers, tell=tell))
    page = write_search_page(folder.path)
    if json_:
        print(folder.result.read_text(), end="")
    elif not quiet:
        print(search_text(folder.path))
        print(page.resolve())
