"""Options that several commands have, and what they mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikefed.errors import ConfigError

if TYPE_CHECKING:
    from spikefed.experiment.progress import Progress

ExperimentFile = Annotated[Path, typer.Argument(metavar="FILE", help="Experiment file (TOML).")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a setting, such as training.lr=1e-4 (may be given again; keys: 'spikefed list settings').",
    ),
]
Quietly = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of the data files (default: $SPIKEFED_DATA, ./data, the user cache)."),
]
Shares = Annotated[
    Path | None,
    typer.Option("--data", help="Folder of share folders, client-0 to client-N and server, in place of data.dataset."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def overrides(set_: list[str] | None, data_dir: Path | None, shares: Path | None = None) -> list[str]:
    """The texts of ``--set``, with ``--data-dir`` and ``--data`` as more of them.

    Raises:
        ConfigError: two folders for one thing.
    """
    if shares is not None and data_dir is not None:
        raise ConfigError("--data and --data-dir both name the folder of the data; give one of them")
    folder = data_dir if shares is None else shares.absolute()
    told = [] if shares is None else ['data.dataset="shares:."']  # the folder may be another on another machine
    # A JSON string is a TOML string.
    return [*(set_ or []), *told, *([] if folder is None else [f"data.dir={json.dumps(str(folder))}"])]


def progress(quiet: bool) -> Progress:
    """What shows how far a run is."""
    from spikefed import native
    from spikefed.experiment.progress import Console_, Quiet

    native.keep_memory()  # for the programs that train; a library call leaves the caller's allocator alone
    return Quiet() if quiet else Console_()


def seeds(text: str | None) -> list[int]:
    """The numbers of ``--seeds``; none where the option is not given.

    Raises:
        ConfigError: not a list of whole numbers from 0 on.
    """
    try:
        numbers = [] if text is None else [int(seed) for seed in text.split(",")]
    except ValueError:
        numbers = [-1]
    if any(number < 0 for number in numbers):
        raise ConfigError(f"--seeds '{text}' is not a list of whole numbers from 0 on; write --seeds 0,1,2")
    return numbers
