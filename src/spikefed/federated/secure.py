"""Where secure aggregation enters a round: what is summed, and the two ends that `spikefed.privacy` implements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from spikefed.federated.exchange import Reply, Request, Transport
from spikefed.wire import Message, Record

SECURE_ACTIONS = ("keys", "shares", "unmask")
"""Requests of secure aggregation beside ``round``."""


@dataclass(frozen=True, eq=False)
class Votes:
    """What a client would have summed; never encoded, since only the masked form leaves the client.

    Attributes:
        votes: unsigned integers ``[N, C, T]`` in 0..levels: the client's weight where it spiked.
        weight: the client's weight, 1..levels.
    """

    round: int
    client: int
    votes: np.ndarray
    weight: int
    public_set_id: bytes


@dataclass(frozen=True, eq=False)
class VoteSum:
    """All that the server learns: the sum of the votes of the clients that finished.

    Attributes:
        votes: int64 ``[N, C, T]``.
        weight: sum of the clients' weights, at least one each.
        clients: whose votes are in it.
        outside: positions whose sum was no possible one (a client voted out of range); they were clipped.
    """

    votes: np.ndarray
    weight: int
    clients: tuple[int, ...]
    outside: int = 0


@dataclass
class Opened:
    """Outcome of the last exchange: the sum, or why there is none."""

    total: VoteSum | None = None
    dropped: dict[int, str] = field(default_factory=dict[int, str])


class SecureClient(Protocol):
    """A client's end, over all rounds."""

    def handle(self, request: Request) -> Reply:
        """Answer a request whose action is in `SECURE_ACTIONS`."""
        ...

    def split(self, request: Request) -> Request:
        """Take off what the server's end had put before the downlink."""
        ...

    def mask(self, votes: Votes) -> Message:
        """The message that leaves the client."""
        ...


class SecureServer(Protocol):
    """The server's end, over all rounds."""

    def prepare(self, round: int, clients: Sequence[int], transport: Transport) -> dict[int, str]:
        """Exchange keys and shares with these clients; those that fell out, and why."""
        ...

    def attach(self, client: int, downlink: bytes | None) -> bytes:
        """The downlink of a client with what it needs to mask its votes before it."""
        ...

    def open(self, uplinks: Mapping[int, Message], transport: Transport) -> Opened:
        """Ask the clients whose uplinks came for shares and open the sum."""
        ...

    def records(self) -> list[Record]:
        """Ledger records of the messages since the last call."""
        ...
