"""The transport inside one process: deterministic, and every packet is really encoded and decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spikefed.federated.client import ClientWorker
from spikefed.federated.contract import State
from spikefed.federated.exchange import OnReply, Reply, Request


class LocalTransport:
    """Clients of one process, asked one after the other in the order of the requests.

    A client that was never asked costs nothing: it is made when its first request comes.

    Args:
        make: gives the client of a number, or a mapping of them.
    """

    def __init__(self, make: Callable[[int], ClientWorker] | Mapping[int, ClientWorker]) -> None:
        self._make = make.__getitem__ if isinstance(make, Mapping) else make
        self._workers: dict[int, ClientWorker] = {}
        self._round = 0
        self.on_reply: OnReply | None = None

    def round(
        self, requests: Sequence[Request], deadline_s: float | None = None, quorum: int | None = None
    ) -> list[Reply]:
        """See `spikefed.federated.Transport`; nobody is ever late."""
        replies: list[Reply] = []
        for request in requests:
            if request.round != self._round:
                self._round = request.round
                for worker in self._workers.values():
                    worker.forget_upload()
            replies.append(self._worker(request.client).handle(request))
            if self.on_reply is not None and request.action == "round":
                self.on_reply(request.round, len(replies), len(requests))
        return replies

    def client_state(self, client: int) -> State | None:
        """The method's state of one client, for methods that are measured on their clients' networks."""
        return self._workers[client].state if client in self._workers else None

    def state_dict(self, clients: Sequence[int] | None = None) -> dict[str, Any]:
        """State of these clients (default: of all) that were ever asked, for the checkpoint."""
        asked = sorted(self._workers if clients is None else self._workers.keys() & set(clients))
        return {str(client): self._workers[client].state_dict() for client in asked}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._workers.clear()
        for client, state in saved.items():
            self._worker(int(client)).load_state_dict(state)

    def close(self) -> None:
        """Nothing to end here."""

    def _worker(self, client: int) -> ClientWorker:
        if client not in self._workers:
            self._workers[client] = self._make(client)
        return self._workers[client]
