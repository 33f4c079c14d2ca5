"""Test equipment: clients that lie. Honest code runs around them; only their labels or what they upload is changed.

For experiments on robust votes (`[attack]` in the experiment file) and for tests. A deployment has no such switch: a
real liar does not ask. The liar here knows nothing of the others and does not adapt to the vote.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from spikefed.errors import ConfigError
from spikefed.federated.answers import checked
from spikefed.federated.contract import ClientContext, ClientReport, Labelled, Message, Method, State
from spikefed.federated.secure import Votes
from spikefed.federated.wrapped import Wrapped
from spikefed.wire import PartialSpikes
from spikefed.wire.header import WEIGHT_KINDS

Attack = Literal["flip-labels", "invert-spikes", "random", "scale"]
FIELDS = {
    "spikes": "spikes",
    "partial-spikes": "partial",
    "labels": "labels",
    "counts": "counts",
    "probabilities": "probabilities",
    "weights": "tensors",
    "selected-weights": "tensors",
}
"""What each kind of message carries its content in."""
APPLIES: dict[str, tuple[str, ...]] = {
    "invert-spikes": ("spikes", "partial-spikes", "counts"),
    "random": tuple(FIELDS),
    "scale": WEIGHT_KINDS,
}
"""Kinds of upload that each attack can change; ``flip-labels`` does its work before there is an upload."""


class Attacker(Wrapped):
    """A method whose client steps lie; everything else is the method's own.

    Args:
        method: the honest method.
        kind: ``flip-labels`` trains and validates on labels ``C - 1 - y``; ``invert-spikes`` uploads ``1 - s`` (or
            ``levels - count``); ``random`` uploads noise of the right form; ``scale`` multiplies what
            training changed.
        classes: C.
        factor: factor of ``scale`` on the change of the global weights; negative ones climb the loss.
        claim: accuracy that the upload claims, in [0, 1]; None leaves what the client measured.

    Raises:
        ConfigError: the attack cannot change what this method uploads.
    """

    def __init__(
        self, method: Method, kind: Attack, classes: int, factor: float = -1.0, claim: float | None = None
    ) -> None:
        if kind in APPLIES and method.uplink_kind not in APPLIES[kind]:
            raise ConfigError(
                f"'attack.kind' = '{kind}' cannot change uploads of kind {method.uplink_kind}; use flip-labels"
            )
        super().__init__(method)
        self._kind = kind
        self._classes = classes
        self._factor = factor
        self._claim = claim

    def client_round(
        self, state: State, downlink: Message | None, ctx: ClientContext
    ) -> tuple[State, Message | None, ClientReport]:
        if self._kind == "flip-labels":
            ctx = dataclasses.replace(ctx, train=self._flipped(ctx.train), validation=self._flipped(ctx.validation))
        answer = self._method.client_round(state, downlink, ctx)
        state, uplink, report = checked(self._method, "client_round", answer)
        if uplink is None:
            return state, None, report
        if self._kind != "flip-labels":
            # After the honest part, so that its draws are those of an honest client.
            rng = np.random.default_rng(int(ctx.generator.initial_seed()))
            uplink = self._tampered(uplink, getattr(downlink, "tensors", {}), rng)
        if self._claim is not None and not isinstance(uplink, Votes):
            uplink = dataclasses.replace(uplink, accuracy=self._claim)
        return state, uplink, report

    def _flipped(self, data: Labelled) -> Labelled:
        return Labelled(data.images, self._classes - 1 - data.labels)

    def _tampered(self, uplink: Message, known: Mapping[str, np.ndarray], rng: np.random.Generator) -> Message:
        if isinstance(uplink, Votes):
            spikes = self._spikes(np.minimum(uplink.votes, 1).astype(np.uint8), rng)
            return dataclasses.replace(uplink, votes=spikes * np.uint16(uplink.weight))
        field = FIELDS[uplink.kind]
        content = getattr(uplink, field)
        if uplink.kind in WEIGHT_KINDS:
            changed: Any = {name: self._weights(tensor, known.get(name), rng) for name, tensor in content.items()}
        elif uplink.kind == "spikes":
            changed = self._spikes(content, rng)
        elif uplink.kind == "partial-spikes":
            changed = PartialSpikes(content.rows, self._spikes(content.spikes, rng) * content.rows[:, None, None])
        elif uplink.kind == "counts":
            top = uplink.levels
            changed = top - content if self._kind == "invert-spikes" else rng.integers(0, top + 1, content.shape)
        elif uplink.kind == "labels":
            changed = rng.integers(0, self._classes, content.shape)
        else:
            noise = rng.exponential(size=content.shape)
            changed = noise / noise.sum(axis=1, keepdims=True)
        return dataclasses.replace(uplink, **{field: changed})

    def _spikes(self, spikes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return 1 - spikes if self._kind == "invert-spikes" else rng.integers(0, 2, spikes.shape, dtype=np.uint8)

    def _weights(self, tensor: np.ndarray, known: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
        """A floating tensor with its change scaled, or as normal noise of its own size; counters stay."""
        if not np.issubdtype(tensor.dtype, np.floating):
            return tensor
        if self._kind == "random":
            return (rng.standard_normal(tensor.shape) * float(np.abs(tensor).mean())).astype(tensor.dtype)
        start = np.zeros_like(tensor) if known is None else known
        return (start + self._factor * (tensor - start)).astype(tensor.dtype)
