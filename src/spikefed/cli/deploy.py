"""Commands of a fleet: keys, server, client, status, and shares of data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from spikefed.cli.app import app, data_app
from spikefed.cli.console import errors
from spikefed.cli.options import DataDir, Json, Overrides, Quietly, overrides, progress
from spikefed.cli.runs import summary
from spikefed.errors import DeployError

FILE = Annotated[Path, typer.Argument(help="Experiment file (TOML), the same on every machine.")]


def _need_flower() -> None:
    import importlib.util

    if importlib.util.find_spec("flwr") is None:
        raise DeployError("Flower is not installed on this machine; run: pip install 'spikefed[deploy]'")


@app.command()
def keys(
    folder: Annotated[Path, typer.Argument(help="Folder of the keys; what is there already is kept.")],
    clients: Annotated[int, typer.Option("--clients", min=0, help="Number of client keys.")] = 4,
    host: Annotated[
        list[str] | None, typer.Option("--host", help="Name or address that clients reach the server under.")
    ] = None,
) -> None:
    """Make a fleet's keys: a CA, the server's certificate, one key for each client."""
    _need_flower()
    from spikefed.transports.flower.keys import make_keys

    for path in make_keys(folder, host or [], clients):
        print(path)


@app.command()
def server(
    file: FILE,
    certs: Annotated[Path, typer.Option("--certs", help="Folder made by 'spikefed keys'.")],
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where the SuperLink listens.")
    ] = "127.0.0.1:8000",
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder with public.npz and test.npz, and nothing private (default: FILE's data)."),
    ] = None,
    database: Annotated[
        Path | None, typer.Option("--database", help="The SuperLink's state (default: RUN.deploy/state.db).")
    ] = None,
    set_: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run folder's last checkpoint.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder (default: runs/NAME-seedS).")] = None,
    data_dir: DataDir = None,
    quiet: Quietly = False,
) -> None:
    """Run one experiment over a fleet: start a SuperLink, wait for clients, run every round."""
    _need_flower()
    from spikefed.deploy.server import ServerOptions, serve
    from spikefed.deploy.shares import own_folder

    options = ServerOptions(listen, certs.absolute(), database and database.absolute(), note=_note(quiet))
    given = overrides(set_, data_dir, own_folder(data, "server"))
    path = serve(file, options, overrides=given, out=out, resume=resume, progress=progress(quiet))
    if not quiet:
        summary(path)


@app.command()
def client(
    file: FILE,
    server: Annotated[str, typer.Option("--server", metavar="HOST:PORT", help="Where the server is.")],
    cert: Annotated[Path, typer.Option("--cert", help="The fleet's CA certificate, ca.crt.")],
    key: Annotated[Path, typer.Option("--key", help="This client's private key.")],
    number: Annotated[int, typer.Option("--client", min=0, help="This client's number.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder with private.npz and public.npz (default: this client's share of FILE)."),
    ] = None,
    state: Annotated[
        Path | None, typer.Option("--state", help="Folder for what is kept over restarts (default: client-N.state).")
    ] = None,
    poll: Annotated[float, typer.Option("--poll", min=0.05, help="Seconds between looks for work.")] = 1.0,
    patience: Annotated[float, typer.Option("--patience", min=0, help="Seconds to retry with a refused key.")] = 60.0,
    stay: Annotated[bool, typer.Option("--stay", help="Wait for the next run when one is over.")] = False,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", help="Where this client's own network goes at the end (default: STATE/model.safetensors)."
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Write it after every round, too.")] = False,
    set_: Overrides = None,
    data_dir: DataDir = None,
    quiet: Quietly = False,
) -> None:
    """Take part in a fleet's experiment with this machine's data, which never leave it."""
    _need_flower()
    from spikefed import native
    from spikefed.deploy.client import ClientOptions, run_client
    from spikefed.deploy.shares import own_folder

    native.keep_memory()
    folder = (state or Path(f"client-{number}.state")).absolute()
    options = ClientOptions(
        server, cert.absolute(), key.absolute(), folder, poll, patience, stay,
        model=model and model.absolute(), every_round=keep, note=_note(quiet),
    )  # fmt: skip
    own = own_folder(data, f"client-{number}")
    run_client(file, number, options, overrides=overrides(set_, data_dir), share=own)


@app.command()
def status(
    run: Annotated[Path, typer.Argument(help="Run folder of a server, at work or done.")], json_: Json = False
) -> None:
    """What a server's run has come to: round, accuracy, who answers, who was dropped and why."""
    from spikefed.deploy.status import status_of, status_text

    found = status_of(run)
    print(json.dumps(found, indent=1) if json_ else status_text(found))


@data_app.command()
def share(
    file: FILE,
    out: Annotated[Path, typer.Option("--out", help="Folder that gets client-0, client-1, ... and server.")],
    set_: Overrides = None,
    data_dir: DataDir = None,
) -> None:
    """Deal an experiment's data out into a folder for each client and one for the server, for their '--data'."""
    from spikefed.deploy.shares import write_shares
    from spikefed.experiment import load

    for path in write_shares(load(file, overrides(set_, data_dir)), out):
        print(path)


def _note(quiet: bool):
    def note(text: str) -> None:
        if not quiet:
            errors.print(text, markup=False, highlight=False, soft_wrap=True)

    return note
