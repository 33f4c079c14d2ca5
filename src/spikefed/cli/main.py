"""Entry point: commands, errors as one sentence, exit codes.

Exit codes: 0 done; 2 bad input (config, data, run folder, checkpoint, arguments); 3 some jobs of a comparison have no
result; 130 interrupted; 1 a defect of spikefed.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from spikefed.errors import ConfigError, SpikefedError, UnfinishedError

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
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder of the data files.")]
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
    files: Annotated[
        list[Path], typer.Argument(help="Experiment or sweep files; runs that the folder already has are kept.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the runs and the report.")],
    set_: Overrides = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", metavar="0,1,2", help="Run everything once for each seed.")
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs",
            min=1,
            help="Runs at a time, each in a process of its own; run.threads says of how many threads [1].",
        ),
    ] = 1,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="LABEL", help="Only this method, partition or run (may be given again)."),
    ] = None,
    target: Annotated[
        list[float] | None, typer.Option("--target", help="Accuracy of the bytes-to-target table.")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="Title of the report.")] = None,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no report.")] = False,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Folder of the data files.")] = None,
    quiet: Quietly = False,
    json_: Json = False,
) -> None:
    """Run what has not been run yet, then write one report. Exit code 3: some jobs failed, the report has the rest."""
    from spikefed import experiment
    from spikefed.report import write_report
    from spikefed.report.write import check_targets

    numbers = _seeds(seeds)
    check_targets(target or ())
    overrides = [*(set_ or []), *_data_dir(data_dir)]
    chosen = everything = experiment.jobs_of(files, out, overrides=overrides, seeds=numbers, only=only or ())
    if only:
        with suppress(SpikefedError):  # a --set may suit the chosen jobs only: then the report shows those
            everything = experiment.jobs_of(files, out, overrides=overrides, seeds=numbers)
    outcomes = experiment.run_jobs(
        chosen, jobs, overrides=overrides, progress=_progress(quiet), say=(lambda text: None) if quiet else _say
    )
    folders = [job.folder.path for job in everything if job.folder.metrics.is_file()]
    if not quiet and not json_:
        for outcome in outcomes:
            if outcome.error is None:
                _summary(outcome.job.folder.path)
    page = None
    if folders and not no_report:
        heading = title or next((experiment.read_sweep(f)[0].title for f in files if experiment.is_sweep(f)), None)
        page = write_report(folders, out / "report.html", target or None, heading, _warn).resolve()
    if json_:
        print(json.dumps({"report": page and str(page), "jobs": [_ended(outcome) for outcome in outcomes]}, indent=1))
    elif page:
        print(page)
    experiment.check_finished(outcomes, _error)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders that hold some.")],
    out: Annotated[Path, typer.Option("--out", help="The HTML file to write.")] = Path("report.html"),
    target: Annotated[
        list[float] | None, typer.Option("--target", help="Accuracy of the bytes-to-target table.")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="Title of the report.")] = None,
) -> None:
    """Make one offline HTML report of one or more runs."""
    from spikefed.report import write_report

    print(write_report(runs, out, targets=target or None, title=title, warn=_warn).resolve())


@app.command()
def watch(
    run: Annotated[
        Path,
        typer.Argument(help="Run folder, of a run in progress or done; of a folder of runs the one that moved last."),
    ],
    port: Annotated[int, typer.Option("--port", help="Port on this machine; 0 takes a free one.")] = 0,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Follow a run in the browser: a read-only page on this machine, until Ctrl-C."""
    from spikefed.report import live

    if not run.exists():
        print(f"{run} does not exist yet; the page waits for a run there", file=sys.stderr)
    live.serve(run, port=port, open_browser=open_)


@app.command()
def export_tensorboard(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    out: Annotated[Path | None, typer.Option("--out", help="Event folder (default: RUN/tensorboard).")] = None,
) -> None:
    """Write a run's metrics as TensorBoard event files (needs the extra 'tensorboard')."""
    from spikefed.report import tensorboard

    print(tensorboard.write_events(run, out))


def _ended(outcome: Any) -> dict[str, Any]:
    folder = outcome.job.folder
    result = folder.read_result() if outcome.error is None else {}
    return {"run": str(folder.path), "error": outcome.error, **{k: v for k, v in result.items() if k != "curve"}}


def _seeds(text: str | None) -> list[int]:
    """The numbers of ``--seeds``; none where the option is not given."""
    try:
        numbers = [] if text is None else [int(seed) for seed in text.split(",")]
    except ValueError:
        numbers = [-1]
    if any(number < 0 for number in numbers):
        raise ConfigError(f"--seeds '{text}' is not a list of whole numbers from 0 on; write --seeds 0,1,2")
    return numbers


def _data_dir(path: Path | None) -> list[str]:
    return [] if path is None else [f"data.dir={json.dumps(str(path))}"]  # a JSON string is a TOML string


def _summary(path: Path) -> None:
    from spikefed.experiment import RunFolder
    from spikefed.experiment.progress import size
    from spikefed.federated import method

    result = RunFolder(path).read_result()
    steps = method(result["method"])
    # Without a server's network the run is measured on its clients', of which a pooled method has one.
    alone = not steps.server_model and not steps.pooled
    whose = "mean accuracy of the clients" if alone else "server accuracy"
    Console().print(
        f"{result['name']} ({result['method']}), seed {result['seed']}: {whose} {result['accuracy']:.4f} "
        f"after {result['rounds']} rounds, up {size(result['upstream_bytes'])}, "
        f"down {size(result['downstream_bytes'])}  [{path}]",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


INTERRUPTED = 130


def whole() -> typer.Typer:
    """The app with the commands of every module in it."""
    from spikefed.cli import deploy, energy, inspect  # noqa: F401 - register their commands

    return app


def main() -> None:
    """Run the command line; every `SpikefedError` becomes one sentence and exit code 2 (3: see above)."""
    try:
        whole()()
    except SpikefedError as error:
        _error(str(error))
        sys.exit(3 if isinstance(error, UnfinishedError) else 2)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # what Typer makes of Ctrl-C, without a word
            errors.print("interrupted; a run goes on with --resume", highlight=False)
        raise


def _error(text: str) -> None:
    errors.print(f"[bold red]error:[/] {_plain(text)}", highlight=False, soft_wrap=True)


def _warn(text: str) -> None:
    errors.print(f"[yellow]warning:[/] {_plain(text)}", highlight=False, soft_wrap=True)


def _say(text: str) -> None:
    errors.print(_plain(text), highlight=False, soft_wrap=True)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
