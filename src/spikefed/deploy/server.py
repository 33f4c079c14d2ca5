"""The server's process: runs the rounds, keeps a SuperLink running, writes the run folder."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikefed.errors import ConfigError, DeployError
from spikefed.files import write_atomic

if TYPE_CHECKING:
    from spikefed.experiment import RunFolder
    from spikefed.experiment.federation import Federation
    from spikefed.experiment.progress import Progress
    from spikefed.transports.flower.processes import Child
    from spikefed.transports.flower.session import Session

IDENTITY = "run.id"
"""File of a run folder: the identity that clients know a run by, however often the server starts again."""


@dataclass
class ServerOptions:
    """What a server is started with.

    Attributes:
        listen: ``host:port`` of the SuperLink; port 0 takes a free one.
        certs: folder made by ``spikefed keys``.
        database: the SuperLink's state; default ``flower/state.db`` in the run folder.
        farewell_s: how long to wait at the end for clients to hear that the run is over.
    """

    listen: str
    certs: Path
    database: Path | None = None
    farewell_s: float = 20.0
    note: Callable[[str], None] = field(default=lambda text: None)


class Fleet:
    """The SuperLink, our run on it, and the transport; made once the run folder is held.

    Args:
        options: see `ServerOptions`.
    """

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        self._child: Child | None = None
        self._session: Session | None = None
        self._log: Path | None = None
        self._secret = b""
        self.transport: Any = None

    def open(self, federation: Federation, folder: RunFolder) -> Any:
        """Start everything; returns the transport (the ``transport`` argument of `experiment.run`)."""
        from spikefed.transports.flower import go_offline

        _check_method(federation)
        # Beside the run folder's own files, in a folder whose name RunFolder.create tolerates only on resume.
        home = folder.path.with_name(folder.path.name + ".deploy")
        home.mkdir(parents=True, exist_ok=True)
        self._log = home / "server.log"
        clients = federation.config.data.clients
        keys = self._client_keys(clients)
        go_offline(str(home / "flower"))
        host, port = self._free_address()
        local = self._start_link(host, port, home)
        chosen = {client: keys[client] for client in range(clients)}
        self.transport = self._join_link(local, home, folder, chosen, federation.public_facts().told())
        self.note(f"listening on {host}:{port}, waiting for {clients} clients")
        return self.transport

    def _client_keys(self, clients: int) -> dict[int, Any]:
        """The public key of every client, from the folder of certificates."""
        from spikefed.transports.flower.keys import public_keys, require

        certs = self._options.certs
        require(certs / "ca.crt", certs / "server.crt", certs / "server.key")
        keys = public_keys(certs)
        missing = [client for client in range(clients) if client not in keys]
        if missing:
            raise DeployError(
                f"{certs} has no key of client {missing[0]}; run 'spikefed keys {certs} --clients {clients}'"
            )
        return keys

    def _free_address(self) -> tuple[str, int]:
        """Where to listen; an address that strangers reach is worth a word."""
        from spikefed.transports.flower.processes import port_is_free

        host, port = self._address()
        if not port_is_free(host, port, 10.0):
            raise DeployError(f"{host}:{port} is taken or is no address of this machine; choose another --listen")
        if host not in ("127.0.0.1", "::1", "localhost"):
            self.note(
                f"whoever reaches {host}:{port} can register keys and stop runs: let a firewall or a proxy pass on "
                "/v1/fleet/ alone (docs/deploy.md)"
            )
        return host, port

    def _start_link(self, host: str, port: int, home: Path) -> str:
        """Start the SuperLink; returns the address under which this machine reaches it."""
        from spikefed.transports.flower.processes import Child, write_secret

        self._secret = write_secret(home / "runtime.secret")
        self._child = Child("superlink", self._arguments(host, port, home), home / "superlink.log", on_death=self._died)
        self._child.start()
        return f"{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"

    def _join_link(self, local: str, home: Path, folder: RunFolder, keys: dict[int, Any], public: str) -> Any:
        """Wait for the SuperLink, register the clients, open a run of our own; returns its transport.

        Args:
            local: address under which this machine reaches the SuperLink.
            home: folder beside the run folder.
            folder: the run folder.
            keys: public key of each client.
            public: what clients are told of the public set.
        """
        from spikefed.transports.flower.control import Control
        from spikefed.transports.flower.executor import Runtime
        from spikefed.transports.flower.session import Session
        from spikefed.transports.flower.transport import FlowerTransport

        child = self._child
        assert child is not None
        ca = (self._options.certs / "ca.crt").read_bytes()
        control = Control(local, ca)
        try:
            control.wait(300.0, lambda: child.starts > 3)
        except DeployError as error:
            raise DeployError(f"{error}; its last words: {child.tail(3)}") from error
        control.stop_runs()
        nodes = control.register(keys)
        self._session = Session(Runtime(local, self._secret, ca), control, self.note)
        self._session.open()
        return FlowerTransport(self._session, nodes, _identity(home, folder), self.note, public)

    def close(self, completed: bool) -> None:
        """Say goodbye when the run is complete, give the Flower run back, stop the SuperLink."""
        from spikefed.transports.flower.session import Lost

        try:
            if completed and self.transport is not None:
                self.transport.farewell(self._options.farewell_s)
        except (Lost, DeployError):
            pass
        finally:
            if self._session is not None:
                self._session.close(completed)
            if self._child is not None:
                self._child.stop()

    def note(self, text: str) -> None:
        """Tell the operator, and write it down."""
        self._options.note(text)
        if self._log is not None:
            try:
                with open(self._log, "a", encoding="utf-8") as file:
                    file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}\n")
            except OSError:
                pass  # a full disk must not end the run for want of a log line

    def _died(self, code: int, tail: str) -> bool:
        self.note(f"the SuperLink ended with code {code}; starting it again")
        return True

    def _address(self) -> tuple[str, int]:
        from spikefed.transports.flower.processes import free_port

        host, _, port = self._options.listen.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise DeployError(
                f"--listen '{self._options.listen}' is not HOST:PORT; write for example --listen 127.0.0.1:8000"
            )
        return host.strip("[]"), int(port) or free_port()

    def _arguments(self, host: str, port: int, home: Path) -> list[str]:
        certs = self._options.certs
        return [
            "--host", host, "--port", str(port), "--ssl-ca-certfile", str(certs / "ca.crt"),
            "--ssl-certfile", str(certs / "server.crt"), "--ssl-keyfile", str(certs / "server.key"),
            "--enable-supernode-auth", "--database", str(self._options.database or home / "state.db"),
            "--isolation", "process", "--superexec-auth-secret-file", str(home / "runtime.secret"),
        ]  # fmt: skip


def _check_method(federation: Federation) -> None:
    """Refuse a method whose server never holds a whole network; personal parts of tasks have a start that it knows."""
    from spikefed.federated import method

    name = federation.config.method["name"]
    personal = getattr(federation.config.hyper(), "personal", None)
    if personal or method(name).has_server_model(federation.config.hyper(), federation.networks):
        return
    part = "has no server model"
    if method(name).server_model:
        part = "leaves part of the network with each client (method.send)"
    raise ConfigError(
        f"method {name} {part}, so a deployed server has no whole network to measure or save; run it with "
        "'spikefed run', where all clients are in one process"
    )


def serve(
    file: Path,
    options: ServerOptions,
    *,
    overrides: Sequence[str] = (),
    out: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Run an experiment over a fleet, to its end; returns the run folder.

    Args:
        file: the experiment.
        options: address, certificates, database and patience.
        overrides: ``KEY=VALUE`` settings on top of the file.
        out: folder of the run; None: the usual place.
        resume: go on with the run that is there.
        progress: who is told of rounds.

    Raises:
        SpikefedError: as `experiment.run`, and when certificates or keys are missing or the port is taken.
    """
    from spikefed import experiment

    fleet = Fleet(options)
    completed = False

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        path = experiment.run(
            file, overrides=overrides, out=out, resume=resume, progress=progress, transport=fleet.open
        )
        completed = True
        return path
    finally:
        signal.signal(signal.SIGTERM, before)
        fleet.close(completed)


def _identity(home: Path, folder: RunFolder) -> str:
    """The run's identity: kept when the folder is resumed, new for a new run."""
    path = home / IDENTITY
    if folder.exists() and path.is_file():
        return path.read_text(encoding="utf-8").strip()
    identity = secrets.token_hex(8)
    write_atomic(path, identity)
    return identity
