"""Commands that show runs: report, watch, export-tensorboard."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from spikefed.cli.app import app
from spikefed.cli.console import warn


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders that hold some.")],
    out: Annotated[Path, typer.Option("--out", help="The HTML file to write.")] = Path("report.html"),
    target: Annotated[
        list[float] | None, typer.Option("--target", help="Accuracy of the bytes-to-target table.")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="Title of the report.")] = None,
    points: Annotated[
        Path | None, typer.Option("--points", metavar="FILE.csv", help="Your own numbers, laid into the figures.")
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option("--figures", metavar="FOLDER", help="Figures (PDF, SVG, CSV) and tables (LaTeX), too."),
    ] = None,
    link: Annotated[
        list[str] | None,
        typer.Option(
            "--link", metavar="NAME=UP/DOWN/SHARE", help="A link, bits a second and share of time (may be given again)."
        ),
    ] = None,
    slowdown: Annotated[
        float, typer.Option("--slowdown", help="How many times slower a device computes than the machine of the runs.")
    ] = 1.0,
    radio: Annotated[
        float | None, typer.Option("--radio-nj-per-byte", help="Energy of sending or receiving one byte.")
    ] = None,
) -> None:
    """Make one offline HTML report of one or more runs; with --figures the files for a paper, too."""
    from spikefed.report import read_points, terms_of, write_figures, write_report

    own = [] if points is None else read_points(points)
    terms = terms_of(link or (), slowdown, radio)
    page = write_report(runs, out, targets=target or None, title=title, warn=warn, points=own, terms=terms)
    print(page.resolve())
    if figures is not None:
        written = write_figures(runs, figures, target or None, own, terms)
        print(f"{figures.resolve()}: {len(written)} files")


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
