"""What each end expects to receive, told to the wire before a byte is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spikefed.federated.contract import MessageKind
from spikefed.wire import Plan, TensorSpec


@dataclass(frozen=True)
class Expectations:
    """The shapes that one experiment exchanges.

    Attributes:
        spike_shape: ``(public rows, classes, steps)``.
        tensors: names, shapes and types of the network's state.
        public_set_id: SHA-256 of the public set.
    """

    spike_shape: tuple[int, int, int]
    tensors: tuple[TensorSpec, ...]
    public_set_id: bytes

    def plan(self, kind: MessageKind, direction: Literal["up", "down"], round: int, client: int) -> Plan:
        """The plan of one message."""
        if kind == "weights":
            return Plan.weights(direction, round=round, client=client, tensors=self.tensors)
        return Plan.spikes(
            direction, round=round, client=client, shape=self.spike_shape, public_set_id=self.public_set_id
        )
