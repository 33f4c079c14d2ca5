"""What each end expects to receive, told to the wire before a byte is decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from torch import Tensor

from spikefed.federated.contract import Method, NetworkFactory
from spikefed.federated.messages import to_wire
from spikefed.federated.traffic import Exchange
from spikefed.wire import Plan, TensorSpec, tensor_specs
from spikefed.wire.masked import masked_plan


@dataclass(frozen=True)
class Expectations:
    """What one experiment exchanges.

    Attributes:
        up, down: the two directions.
        tensors: the network's initial state, for names, shapes and types.
        public_set_id: SHA-256 of the public set.
    """

    up: Exchange
    down: Exchange
    tensors: Mapping[str, Tensor]
    public_set_id: bytes

    @classmethod
    def of(
        cls,
        method: Method,
        hyper: Any,
        *,
        shape: tuple[int, int, int],
        networks: NetworkFactory,
        public_set_id: bytes,
    ) -> Expectations:
        """The expectations of a method on this public set and network.

        Args:
            method: what trains.
            hyper: its hyperparameters.
            shape: ``(N, C, T)`` of trains on the public set.
            networks: maker of the common network.
            public_set_id: 32 bytes that name the public set.
        """
        up, down = method.exchanges(hyper, shape, networks)
        return cls(up, down, networks.initial(), public_set_id)

    def about(self, public_set_id: bytes) -> Expectations:
        """The same for messages about another public set of as many rows."""
        return self if public_set_id == self.public_set_id else replace(self, public_set_id=public_set_id)

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The tensors as the wire carries them. Shapes are the network's."""
        return to_wire(self.tensors)

    @cached_property
    def tables(self) -> dict[str, tuple[TensorSpec, ...]]:
        """The tensor table of each direction, where it is the same in every message."""
        ways = {"up": self.up, "down": self.down}
        return {way: tensor_specs({**self.arrays, **it.notes}, it.exact, masked=it.masked) for way, it in ways.items()}

    def table(self, direction: Literal["up", "down"], round: int, client: int) -> tuple[TensorSpec, ...]:
        """The tensor table of one message of weights."""
        exchange = self.up if direction == "up" else self.down
        if exchange.select is None:
            return self.tables[direction]
        selection = exchange.select(round, client)
        chosen = {name: array for name, array in self.arrays.items() if name in selection}
        kept = None if selection.whole else {name: selection.arrays()[name] for name in chosen}
        if kept is not None:
            kept |= dict.fromkeys(exchange.notes)
        return tensor_specs({**chosen, **exchange.notes}, exchange.exact, kept, exchange.masked)

    def plan(self, direction: Literal["up", "down"], round: int, client: int) -> Plan:
        """The plan of one message."""
        exchange = self.up if direction == "up" else self.down
        kind = exchange.kind
        common: dict[str, Any] = {"round": round, "client": client}
        assert kind is not None, "a direction without messages has no plan"
        if kind == "weights":
            return Plan.weights(direction, tensors=self.table(direction, round, client), **common)
        if kind == "selected-weights":
            table = self.table(direction, round, client)
            follows = direction == "up" and not exchange.own_mask
            return Plan.selected_weights(direction, tensors=table, follows=follows, **common)
        if kind == "hint-spikes":
            return Plan.hint_spikes(
                direction,
                shape=exchange.shape,
                hint_channels=exchange.hint,
                public_set_id=self.public_set_id,
                **common,
            )
        share = exchange.share(round, client) if exchange.share is not None else None
        if kind in ("spikes", "partial-spikes"):
            return Plan.spikes(
                direction,
                shape=exchange.shape,
                public_set_id=self.public_set_id,
                kind=kind,
                share=share,
                **common,
            )
        if kind == "masked-votes":
            return masked_plan(shape=exchange.shape, public_set_id=self.public_set_id, **common)
        owner = bytes(32) if kind == "class-means" else self.public_set_id
        return Plan.rows(kind, direction, shape=exchange.shape, public_set_id=owner, share=share, **common)
