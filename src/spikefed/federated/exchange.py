"""What passes between the round loop and a transport: requests, replies, and the one call that carries them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from spikefed.federated.takehome import TakeHome

Action = Literal["round", "resend", "keys", "shares", "unmask"]


@dataclass(frozen=True)
class Request:
    """What the server asks of a client.

    Attributes:
        client: client number.
        round: 1-based round.
        downlink: the encoded downlink, or None when the round has none.
        action: ``round`` trains and uploads; ``resend`` encodes the last upload again without references;
            ``keys``, ``shares`` and ``unmask`` carry a message of secure aggregation as ``downlink``.
    """

    client: int
    round: int
    downlink: bytes | None
    action: Action = "round"


@dataclass(frozen=True)
class Reply:
    """What a client answers.

    Attributes:
        uplink: the encoded upload; empty when there is none.
        report: floats for the metrics file.
        needs_intra: the client lacks the downlink's reference and asks for one without.
        error: why there is no upload, in one sentence.
        refused: the field at which the transport refused what the client sent; None when it could be read.
        taken: what the client's own network is worth after the round, where it is measured; it never travels.
        needs_rows: the client lacks the public rows of the round and asks for them.
    """

    client: int
    round: int
    uplink: bytes = b""
    report: dict[str, float] = field(default_factory=dict[str, float])
    needs_intra: bool = False
    error: str | None = None
    refused: str | None = None
    taken: TakeHome | None = None
    needs_rows: bool = False


OnReply = Callable[[int, int, int], None]
"""``(round, done, total)``: a client has answered. A transport may carry one as ``on_reply``, for progress displays."""


class Transport(Protocol):
    """The one call that carries a round."""

    def round(
        self, requests: Sequence[Request], deadline_s: float | None = None, quorum: int | None = None
    ) -> list[Reply]:
        """Deliver requests and collect replies until all have come, or the deadline has passed with a quorum.

        Args:
            requests: at most one a client.
            deadline_s: seconds to wait; None waits for all.
            quorum: replies that make it unnecessary to wait for clients that were silent before; None means all.

        Returns:
            replies in any order; a client that did not answer is missing, one that answered an earlier request only now
            is there with that round.
        """
        ...
