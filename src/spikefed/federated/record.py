"""What happened in one round: who answered, what was accepted, what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from spikefed.federated.contract import Diagnostics, Message
from spikefed.federated.exchange import Reply
from spikefed.federated.watch import Watch
from spikefed.training import Evaluation


@dataclass
class RoundRecord:
    """What happened in one round.

    Attributes:
        round: 1-based number.
        participants: clients of the schedule; those set aside are among the dropped.
        stragglers: clients that the schedule chose and did not contact (``participation.straggle``).
        uplinks: accepted messages by client.
        replies: all replies by client.
        dropped: ``{"client", "kind", "reason"}`` of everything that was not accepted; ``kind`` is the field that was
            refused, or missing, late, repeated, stranger, error, diverged, set-aside.
        attempts: how often the round was tried before it had its quorum, or was given up.
        diagnostics: what the server step reported; None when nothing was accepted, or the server diverged.
        diverged: in one sentence, that the server step gave a network of NaN and was taken back; None when it did not.
        downlink: the message that the next round sends.
        evaluation: the server's network on the test set.
        seconds: wall time by phase.
    """

    round: int
    participants: list[int]
    stragglers: list[int] = field(default_factory=list[int])
    uplinks: dict[int, Message] = field(default_factory=dict[int, Message])
    replies: dict[int, Reply] = field(default_factory=dict[int, Reply])
    dropped: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    attempts: int = 1
    diagnostics: Diagnostics | None = None
    diverged: str | None = None
    downlink: Message | None = None
    evaluation: Evaluation | None = None
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    def drop(self, client: int, kind: str, reason: str) -> None:
        """Note what was not accepted, and why."""
        self.dropped.append({"client": client, "kind": kind, "reason": reason})


def seconds_by_place(watch: Watch, replies: Iterable[Reply]) -> dict[str, float]:
    """Seconds of a round by place; what clients say of their own is taken out of the time that they were waited for."""
    replies = list(replies)
    client_wire = sum(reply.report.get("wire_seconds", 0.0) for reply in replies)
    take_home = sum(reply.report.get("take_home_seconds", 0.0) for reply in replies)
    return {
        "clients": watch["collect"] - watch["accept"] - client_wire - take_home,
        "wire": watch["open"] + watch["accept"] + client_wire,
        "server": watch["merge"],
        "evaluate": watch["measure"] + take_home,
    }
