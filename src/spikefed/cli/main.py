"""Entry point: commands, errors as one sentence, exit codes.

Exit codes: 0 done; 2 bad input (config, data, run folder, checkpoint, arguments); 130 interrupted; 1 a defect of
spikefed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from spikefed.errors import SpikefedError

app = typer.Typer(
    name="spikefed",
    help="Federated learning of spiking neural networks that sends spikes instead of weights.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
errors = Console(stderr=True)

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as training.lr=1e-4.")
]
Quietly = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def _progress(quiet: bool):
    from spikefed import native
    from spikefed.experiment.progress import Console_, Quiet

    native.keep_memory()  # for the programs that train; a library call leaves the caller's allocator alone
    return Quiet() if quiet else Console_()


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="Experiment file (TOML).")],
    set_: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in the folder from its last checkpoint.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder (default: runs/NAME-seedS).")] = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Folder of the data files.")] = None,
    quiet: Quietly = False,
    json_: Json = False,
) -> None:
    """Run one experiment."""
    from spikefed import experiment

    path = experiment.run(
        file, overrides=[*(set_ or []), *_data_dir(data_dir)], out=out, resume=resume, progress=_progress(quiet)
    )
    result = (path / "result.json").read_text()
    if json_:
        print(result)
    elif not quiet:
        _summary(path)


@app.command()
def compare(
    files: Annotated[list[Path], typer.Argument(help="Experiment files; those already run in the folder are kept.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the runs and the report.")],
    set_: Overrides = None,
    seeds: Annotated[str, typer.Option("--seeds", metavar="0,1,2", help="Run every file once for each seed.")] = "",
    target: Annotated[
        list[float] | None, typer.Option("--target", help="Accuracy of the bytes-to-target table.")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="Title of the report.")] = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Folder of the data files.")] = None,
    quiet: Quietly = False,
) -> None:
    """Run what has not been run yet, then write one report."""
    from spikefed import experiment
    from spikefed.errors import ConfigError
    from spikefed.report import write_report

    try:
        numbers = [int(seed) for seed in seeds.split(",") if seed.strip()]
    except ValueError as error:
        raise ConfigError(f"--seeds '{seeds}' is not a list of whole numbers; write --seeds 0,1,2") from error
    folders = experiment.run_missing(
        files, out, overrides=[*(set_ or []), *_data_dir(data_dir)], seeds=numbers, progress=_progress(quiet)
    )
    path = write_report(folders, out / "report.html", targets=target or None, title=title)
    if not quiet:
        for folder in folders:
            _summary(folder)
    print(path.resolve())


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    out: Annotated[Path, typer.Option("--out", help="The HTML file to write.")] = Path("report.html"),
    target: Annotated[
        list[float] | None, typer.Option("--target", help="Accuracy of the bytes-to-target table.")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="Title of the report.")] = None,
) -> None:
    """Make one offline HTML report of one or more runs."""
    from spikefed.report import write_report

    print(write_report(runs, out, targets=target or None, title=title).resolve())


@app.command()
def watch(
    run: Annotated[Path, typer.Argument(help="Run folder, of a run in progress or done.")],
    port: Annotated[int, typer.Option("--port", help="Port on this machine; 0 takes a free one.")] = 0,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Follow a run in the browser: a read-only page on this machine, until Ctrl-C."""
    from spikefed.report import live

    live.serve(run, port=port, open_browser=open_)


@app.command()
def export_tensorboard(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    out: Annotated[Path | None, typer.Option("--out", help="Event folder (default: RUN/tensorboard).")] = None,
) -> None:
    """Write a run's metrics as TensorBoard event files (needs the extra 'tensorboard')."""
    from spikefed.report import tensorboard

    print(tensorboard.write_events(run, out))


def _data_dir(path: Path | None) -> list[str]:
    return [] if path is None else [f"data.dir={json.dumps(str(path))}"]  # a JSON string is a TOML string


def _summary(path: Path) -> None:
    from spikefed.experiment.progress import size

    result = json.loads((path / "result.json").read_text())
    Console().print(
        f"{result['name']} ({result['method']}): server accuracy {result['accuracy']:.4f} "
        f"after {result['rounds']} rounds, up {size(result['upstream_bytes'])}, "
        f"down {size(result['downstream_bytes'])}  [{path}]",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def main() -> None:
    """Run the command line; every `SpikefedError` becomes one sentence and exit code 2."""
    from spikefed.cli import inspect  # noqa: F401 - registers its commands

    try:
        app()
    except SpikefedError as error:
        errors.print(f"[bold red]error:[/] {_plain(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        errors.print("interrupted; repeat the command with --resume to go on", highlight=False)
        sys.exit(130)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
