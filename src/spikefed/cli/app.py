"""The one Typer application; every module of commands adds its own."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="spikefed",
    help="Federated learning of spiking neural networks that sends spikes instead of weights.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Data sets on this machine.", no_args_is_help=True)
codec_app = typer.Typer(help="Wire codecs.", no_args_is_help=True)


def add_groups() -> None:
    """Add the groups behind the single commands, where the help has always shown them."""
    app.add_typer(data_app, name="data")
    app.add_typer(codec_app, name="codec")
