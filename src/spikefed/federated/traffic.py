"""What travels in each direction of a method: kinds of message, and their shapes before anything is encoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from spikefed.federated.selection import Selection
from spikefed.wire.share import Share

MessageKind = Literal[
    "spikes",
    "hint-spikes",
    "partial-spikes",
    "labels",
    "counts",
    "probabilities",
    "class-means",
    "weights",
    "masked-votes",
    "selected-weights",
]
"""What a message carries; a method that sends nothing in a direction says None."""


@dataclass(frozen=True)
class Exchange:
    """One direction of a method's traffic.

    Attributes:
        kind: what travels; None: nothing.
        shape: spikes ``(rows, classes, steps)``; labels ``(rows, classes, 1)``; counts ``(rows, classes, levels)``;
            probabilities ``(rows, columns, 0)``; class means ``(classes, columns, 0)``; unused for weights.
        hint: channels of the hint layer, for hint spikes.
        exact: names of weight tensors that lossy codecs must leave alone.
        select: (round, client) to the selection of weights that the message carries (`spikefed.federated.selection`);
            None: all tensors, whole.
        masked: for selected weights, names of the tensors whose entries the message's own mask names.
        own_mask: for selected weights that go up, a client may send under another mask than the server's last.
        notes: small tensors of the method's own that travel behind the network's (their values do not matter here).
        share: (round, client) to the public rows that the message speaks of, for spikes and labels; None: all of them.
    """

    kind: MessageKind | None
    shape: tuple[int, int, int] = (0, 0, 0)
    hint: int = 0
    exact: frozenset[str] = frozenset()
    share: Callable[[int, int], Share | None] | None = None
    select: Callable[[int, int], Selection] | None = None
    masked: frozenset[str] = frozenset()
    own_mask: bool = False
    notes: Mapping[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])


def standard(kind: MessageKind | None, shape: tuple[int, int, int]) -> Exchange:
    """The usual shape of a kind on public rows x classes x steps ``shape``."""
    rows, classes, steps = shape
    by_kind = {
        "labels": (rows, classes, 1),
        "counts": (rows, classes, steps),
        "probabilities": (rows, classes, 0),
        "class-means": (classes, classes, 0),
        "weights": (0, 0, 0),
        "selected-weights": (0, 0, 0),
    }
    return Exchange(kind, by_kind.get(kind or "", shape))
