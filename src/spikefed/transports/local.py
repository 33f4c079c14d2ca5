"""The transport inside one process: deterministic, and every packet is really encoded and decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spikefed.federated.client import ClientWorker
from spikefed.federated.contract import State
from spikefed.federated.exchange import OnReply, Reply, Request


class LocalTransport:
    """Clients of one process, asked one after the other in the order of the requests."""

    def __init__(self, workers: Mapping[int, ClientWorker]) -> None:
        self._workers = dict(workers)
        self.on_reply: OnReply | None = None

    def round(
        self, requests: Sequence[Request], deadline_s: float | None = None, quorum: int | None = None
    ) -> list[Reply]:
        """See `spikefed.federated.Transport`; nobody is ever late."""
        replies: list[Reply] = []
        for request in requests:
            replies.append(self._workers[request.client].handle(request))
            if self.on_reply is not None and request.action == "round":
                self.on_reply(request.round, len(replies), len(requests))
        return replies

    def client_state(self, client: int) -> State | None:
        """The method's state of one client, for methods that are measured on their clients' networks."""
        return self._workers[client].state

    def state_dict(self) -> dict[str, Any]:
        """State of every client, for the checkpoint."""
        return {str(client): worker.state_dict() for client, worker in self._workers.items()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        for client, worker in self._workers.items():
            worker.load_state_dict(saved[str(client)])
