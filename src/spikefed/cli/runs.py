"""Commands that run experiments: run, compare."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from spikefed.cli.app import app
from spikefed.cli.console import error, note, warn
from spikefed.cli.options import DataDir, Json, Overrides, Quietly, Shares, overrides, progress
from spikefed.cli.options import seeds as seeds_of
from spikefed.errors import SpikefedError


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="Experiment file (TOML), such as those in experiments/.")],
    set_: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in the folder from its last checkpoint.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder (default: runs/NAME-seedS).")] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--start", metavar="RUN", help="Begin from this run's network, RUN@ROUND or a model file (network.start)."
        ),
    ] = None,
    data: Shares = None,
    data_dir: DataDir = None,
    quiet: Quietly = False,
    json_: Json = False,
) -> None:
    """Run one experiment: progress here, all it leaves in its run folder (for report, predict, probe, export)."""
    from spikefed import experiment

    given = overrides(set_, data_dir, data) + ([] if start is None else [f"network.start={json.dumps(start)}"])
    path = experiment.run(file, overrides=given, out=out, resume=resume, progress=progress(quiet))
    result = (path / "result.json").read_text()
    if json_:
        print(result)
    elif not quiet:
        summary(path)


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
    data_dir: DataDir = None,
    quiet: Quietly = False,
    json_: Json = False,
) -> None:
    """Run what has not been run yet, then write one report. Exit code 3: some jobs failed, the report has the rest."""
    from spikefed import experiment
    from spikefed.report import write_report
    from spikefed.report.write import check_targets

    numbers = seeds_of(seeds)
    check_targets(target or ())
    given = overrides(set_, data_dir)
    chosen = everything = experiment.jobs_of(files, out, overrides=given, seeds=numbers, only=only or ())
    if only:
        with suppress(SpikefedError):  # a --set may suit the chosen jobs only: then the report shows those
            everything = experiment.jobs_of(files, out, overrides=given, seeds=numbers)
    outcomes = experiment.run_jobs(chosen, jobs, overrides=given, progress=progress(quiet), say=note(quiet))
    folders = [job.folder.path for job in everything if job.folder.metrics.is_file()]
    if not quiet and not json_:
        for outcome in outcomes:
            if outcome.error is None:
                summary(outcome.job.folder.path)
    page = None
    if folders and not no_report:
        heading = title or next((experiment.read_sweep(f)[0].title for f in files if experiment.is_sweep(f)), None)
        page = write_report(folders, out / "report.html", target or None, heading, warn).resolve()
    if json_:
        print(json.dumps({"report": page and str(page), "jobs": [_ended(outcome) for outcome in outcomes]}, indent=1))
    elif page:
        print(page)
    experiment.check_finished(outcomes, error)


def _ended(outcome: Any) -> dict[str, Any]:
    from spikefed.report.probefiles import headlines

    folder = outcome.job.folder
    result = folder.read_result() if outcome.error is None else {}
    told = {"run": str(folder.path), "error": outcome.error, **{k: v for k, v in result.items() if k != "curve"}}
    probed = headlines(folder.path)
    return told | ({"probes": probed} if probed else {})


def summary(path: Path) -> None:
    """The line that ends a run."""
    from spikefed.experiment import RunFolder
    from spikefed.experiment.progress import size
    from spikefed.federated import method

    result = RunFolder(path).read_result()
    steps = method(result["method"])
    # Without a server's network the run is measured on its clients', of which a pooled method has one.
    alone = result.get("accuracy_of") == "clients" or (not steps.server_model and not steps.pooled)
    whose = "mean accuracy of the clients" if alone else "server accuracy"
    if result.get("accuracy_of") == "shared parts":
        whose = "accuracy without the clients' own parts"
    Console(emoji=False).print(
        f"{result['name']} ({result['method']}), seed {result['seed']}: {whose} {result['accuracy']:.4f} "
        f"after {result['rounds']} rounds{_taken_home(result)}, up {size(result['upstream_bytes'])}, "
        f"down {size(result['downstream_bytes'])}  [{path}]",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _taken_home(result: dict[str, Any]) -> str:
    """What the clients hold themselves, where the run measured it."""
    from spikefed.federated.takehome import KEYS

    mean, least, most, vote = (result.get(key) for key in KEYS)
    if mean is None or least is None or most is None or vote is None:
        return ""
    return f", clients' own networks {mean:.4f} ({least:.4f} to {most:.4f}), their vote {vote:.4f}"
