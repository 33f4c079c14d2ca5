"""What each end expects to receive, told to the wire before a byte is decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from torch import Tensor

from spikefed.federated.contract import MessageKind, Method, NetworkFactory
from spikefed.federated.messages import to_wire
from spikefed.wire import Plan, TensorSpec, tensor_specs
from spikefed.wire.masked import masked_plan
from spikefed.wire.share import Share


@dataclass(frozen=True)
class Exchange:
    """One direction of a method's traffic.

    Attributes:
        kind: what travels; None: nothing.
        shape: spikes ``(rows, classes, steps)``; labels ``(rows, classes, 1)``; counts ``(rows, classes, levels)``;
            probabilities ``(rows, columns, 0)``; class means ``(classes, columns, 0)``; unused for weights.
        hint: channels of the hint layer, for hint spikes.
        exact: names of weight tensors that lossy codecs must leave alone.
        share: (round, client) to the public rows that the message speaks of, for spikes and labels; None: all of them.
    """

    kind: MessageKind | None
    shape: tuple[int, int, int] = (0, 0, 0)
    hint: int = 0
    exact: frozenset[str] = frozenset()
    share: Callable[[int, int], Share | None] | None = None


def standard(kind: MessageKind | None, shape: tuple[int, int, int]) -> Exchange:
    """The usual shape of a kind on public rows x classes x steps ``shape``."""
    rows, classes, steps = shape
    by_kind = {
        "labels": (rows, classes, 1),
        "counts": (rows, classes, steps),
        "probabilities": (rows, classes, 0),
        "class-means": (classes, classes, 0),
        "weights": (0, 0, 0),
    }
    return Exchange(kind, by_kind.get(kind or "", shape))


def exchanges(
    method: Method, hyper: Any, shape: tuple[int, int, int], networks: NetworkFactory
) -> tuple[Exchange, Exchange]:
    """What a method sends up and down: its own ``exchanges``, else the usual shapes of its two kinds.

    Args:
        shape: public rows, classes, time steps.
    """
    own = getattr(method, "exchanges", None)
    if own is not None:
        return own(hyper, shape, networks)
    return standard(method.uplink_kind, shape), standard(method.downlink_kind, shape)


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
        """The expectations of a method on this public set and network."""
        up, down = exchanges(method, hyper, shape, networks)
        return cls(up, down, networks.initial(), public_set_id)

    @cached_property
    def tables(self) -> dict[str, tuple[TensorSpec, ...]]:
        """The tensor table of each direction."""
        arrays = to_wire(self.tensors)
        return {"up": tensor_specs(arrays, self.up.exact), "down": tensor_specs(arrays, self.down.exact)}

    def plan(self, direction: Literal["up", "down"], round: int, client: int) -> Plan:
        """The plan of one message."""
        exchange = self.up if direction == "up" else self.down
        kind, common = exchange.kind, {"round": round, "client": client}
        assert kind is not None, "a direction without messages has no plan"
        if kind == "weights":
            return Plan.weights(direction, tensors=self.tables[direction], **common)  # type: ignore[arg-type]
        if kind == "hint-spikes":
            return Plan.hint_spikes(
                direction,
                shape=exchange.shape,
                hint_channels=exchange.hint,
                public_set_id=self.public_set_id,
                **common,  # type: ignore[arg-type]
            )
        share = exchange.share(round, client) if exchange.share is not None else None
        if kind in ("spikes", "partial-spikes"):
            return Plan.spikes(
                direction,
                shape=exchange.shape,
                public_set_id=self.public_set_id,
                kind=kind,
                share=share,
                **common,  # type: ignore[arg-type]
            )
        if kind == "masked-votes":
            return masked_plan(shape=exchange.shape, public_set_id=self.public_set_id, **common)  # type: ignore[arg-type]
        owner = bytes(32) if kind == "class-means" else self.public_set_id
        return Plan.rows(kind, direction, shape=exchange.shape, public_set_id=owner, share=share, **common)  # type: ignore[arg-type]
