"""A client's process: holds the data and the network, keeps a SuperNode running, answers until the run is over."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from spikefed.data import PublicFacts, difference
from spikefed.errors import DeployError, PacketError

if TYPE_CHECKING:
    from flwr.app import RecordDict

    from spikefed.deploy.memory import Memory
    from spikefed.deploy.ownmodel import OwnModel

REFUSED_KEY = 305
"""Exit code of a SuperNode that could not begin: mostly a key that the server does not know."""


@dataclass
class ClientOptions:
    """What a client is started with.

    Attributes:
        server: ``host:port``.
        ca: the fleet's CA certificate.
        key: this client's private key.
        state: folder for what it keeps over restarts, and for the SuperNode's log.
        poll_s: how often an idle SuperNode asks for work, seconds.
        patience_s: how long a refused key is tried again (a server that is just starting may not know it yet).
        stay: do not end when a run is over, wait for the next.
        model: file that gets this client's own network when a run is over; default ``model.safetensors`` in ``state``.
        every_round: write it after every round too.
    """

    server: str
    ca: Path
    key: Path
    state: Path
    poll_s: float = 1.0
    patience_s: float = 60.0
    stay: bool = False
    model: Path | None = None
    every_round: bool = False
    note: Callable[[str], None] = field(default=lambda text: None)


class Client:
    """One client of one experiment.

    Args:
        memory: the worker.
        client: client number.
        options: where the server is, and who we are.
        public: what this client's public set is, to be compared with what the server says of its own; None: the id
            in every packet alone tells.
        own: keeps the client's own network; None: nobody does.
    """

    def __init__(
        self,
        memory: Memory,
        client: int,
        options: ClientOptions,
        public: PublicFacts | None = None,
        own: OwnModel | None = None,
    ) -> None:
        self._public = public
        self._memory = memory
        self._client = client
        self._options = options
        self._own = own
        self._stop = threading.Event()
        self._problem: DeployError | None = None
        self._refused_at: float | None = None

    def run(self) -> None:
        """Serve until the server says the run is over, or until SIGTERM or Ctrl-C.

        Raises:
            DeployError: a file is missing, the server's certificate is another's, or it refuses our key.
        """
        from spikefed.transports.flower import go_offline
        from spikefed.transports.flower.keys import check_private, check_server, require

        options = self._options
        require(options.ca, options.key)
        check_private(options.key)
        go_offline(str(options.state / "flower"))
        self._announce(check_server(options.server, options.ca))
        # Imported only now: flwr reads its settings when it is loaded.
        from spikefed.transports.flower.executor import Runtime, answer_messages
        from spikefed.transports.flower.processes import Child, free_port, write_secret

        port = free_port()
        path = options.state / "runtime.secret"
        secret = write_secret(path)
        node = Child(
            "supernode", self._arguments(port, path), options.state / "supernode.log", options.poll_s, self._died
        )
        before = {s: signal.signal(s, self._interrupted) for s in (signal.SIGTERM, signal.SIGINT)}
        node.start()
        try:
            answer_messages(Runtime(f"127.0.0.1:{port}", secret), self._handle, self._stop)
        finally:
            node.stop()
            for which, handler in before.items():
                signal.signal(which, handler)
        if self._problem is not None:
            raise self._problem

    def _interrupted(self, *_: object) -> None:
        """End after the step in hand; asked again, at once."""
        if self._stop.is_set():
            raise KeyboardInterrupt
        self._options.note(f"client {self._client}: ending after the step in hand (once more: at once)")
        self._stop.set()

    def _announce(self, there: bool) -> None:
        where = self._options.server
        self._options.note(f"client {self._client}: " + (f"server {where} found" if there else f"waiting for {where}"))

    def _arguments(self, port: int, secret: Path) -> list[str]:
        options = self._options
        return [
            "--superlink", options.server, "--root-certificates", str(options.ca),
            "--auth-supernode-private-key", str(options.key), "--host", "127.0.0.1", "--port", str(port),
            "--isolation", "process", "--superexec-auth-secret-file", str(secret),
        ]  # fmt: skip

    def _died(self, code: int, tail: str) -> bool:
        """The SuperNode ended: start it again, unless that would not help."""
        from spikefed.transports.flower.keys import check_server

        try:
            check_server(self._options.server, self._options.ca)
        except DeployError as error:
            self._problem = error
        # The number alone will not do: ports and run numbers in the output may hold it.
        said = f"Exit Code: {REFUSED_KEY}" in tail or f"/{REFUSED_KEY}.html" in tail
        refused = said or code % 256 == REFUSED_KEY % 256
        now = time.monotonic()
        # From the first refusal on, not from our start: a client may have waited for its server for days.
        self._refused_at = (self._refused_at or now) if refused else None
        if (
            self._problem is None
            and self._refused_at is not None
            and now - self._refused_at >= self._options.patience_s
        ):
            self._problem = DeployError(
                f"the server at {self._options.server} does not take the key {self._options.key}; register its .pub "
                "file there (it must lie in the server's key folder under clients/), then start this client again"
            )
        if self._problem is not None:
            self._stop.set()
            return False
        self._options.note(f"client {self._client}: SuperNode ended with code {code}; starting it again")
        return True

    def _handle(self, content: RecordDict, kind: str) -> RecordDict:
        from spikefed.federated.exchange import Reply
        from spikefed.transports.flower.schema import pack_reply, public_of, unpack_request
        from spikefed.transports.flower.transport import FAREWELL

        request, run = unpack_request(content)
        if request.client != self._client:
            raise PacketError("client", f"the server asks for client {request.client}; this is client {self._client}")
        if kind == FAREWELL:
            if not self._options.stay:
                # Leave only after the SuperNode has had time to hand the reply on.
                threading.Timer(max(2.0, 3 * self._options.poll_s), self._stop.set).start()
            self._options.note(f"client {self._client}: the run is over")
            if self._own is not None:
                self._own.finish()
            return pack_reply(Reply(self._client, request.round), run)
        started = time.monotonic()
        differs = difference(self._public, public_of(content)) if self._public else None
        reply = Reply(self._client, request.round, error=differs) if differs else self._memory.handle(request, run)
        what = reply.error or (
            "asks for an intra packet"
            if reply.needs_intra
            else "asks for this round's public rows"
            if reply.needs_rows
            else f"{len(request.downlink or b'')} bytes down, {len(reply.uplink)} bytes up"
        )
        self._options.note(f"client {self._client}: round {request.round}: {what} ({time.monotonic() - started:.1f} s)")
        self._refused_at = None
        return pack_reply(reply, run)


def run_client(
    file: Path, client: int, options: ClientOptions, *, overrides: Sequence[str] = (), share: Path | None = None
) -> None:
    """Take part in an experiment, with the data of a share or with this client's part of the experiment's own data.

    Args:
        file: the experiment, the same as the server's.
        client: number of this client, from 0.
        options: address, keys, state folder and patience.
        overrides: ``KEY=VALUE`` settings on top of the file.
        share: folder of a share made by ``spikefed share``.

    Raises:
        SpikefedError: config, data, key or certificate cannot be used.
    """
    from spikefed.deploy.memory import Memory
    from spikefed.deploy.ownmodel import OwnModel
    from spikefed.deploy.shares import read_share
    from spikefed.experiment import load
    from spikefed.experiment.build import build
    from spikefed.experiment.run import cores, torch_threads

    config = load(file, overrides)
    if client >= config.data.clients:
        raise DeployError(
            f"client {client} is not in the experiment, which has clients 0 to {config.data.clients - 1}; "
            "change --client or data.clients"
        )
    own = OwnModel(
        options.model or options.state / "model.safetensors",
        options.state,
        options.every_round,
        lambda text: options.note(f"client {client}: {text}"),
    )
    federation = build(config) if share is None else read_share(config, client, share)
    memory = Memory(
        lambda: federation.worker(client, partial(own.of, federation)),
        options.state / "rounds",
        config.hash(),
        lambda text: options.note(text),
    )
    with torch_threads(config.run.threads or cores()):
        Client(memory, client, options, federation.public_facts(), own).run()
