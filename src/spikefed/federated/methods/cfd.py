"""CFD: Sattler, Marban, Rischke, Samek, "CFD: Communication-Efficient Federated Distillation", IEEE TNSE 2022.

Clients upload quantised predictions on the public set (b = 1: the hard label); the server distils its own network on
their mean and sends *its* quantised predictions back (dual distillation). Delta coding against the last round is the
codec's (`wire.labels`, `wire.counts`: `context`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field
from torch import nn

from spikefed.federated.contract import ClientContext, Context, Hyperparameters, MessageKind, NetworkFactory, State
from spikefed.federated.distillation import Distillation, Goal, Merged, public_outputs
from spikefed.federated.robust import normalised, one_hot, vote
from spikefed.federated.soft import SoftLabelHyperparameters, probabilities, soft_goal
from spikefed.federated.traffic import Exchange, standard
from spikefed.wire import CountDownlink, CountUplink, LabelDownlink, LabelUplink, quantise_distribution


class CfdHyperparameters(SoftLabelHyperparameters):
    """Hyperparameters of CFD beside those of distillation on soft labels."""

    bits_up: int = Field(default=1, ge=1, le=8, description="bits of an uploaded probability; 1: hard label [CFD: 1]")
    bits_down: int = Field(default=1, ge=1, le=8, description="bits of a probability sent down; 1: hard label [CFD: 1]")


def _exchange(bits: int, shape: tuple[int, int, int]) -> Exchange:
    rows, classes, _ = shape
    return standard("labels", shape) if bits == 1 else Exchange("counts", (rows, classes, 2**bits - 1))


def shares(message: LabelUplink | LabelDownlink | CountUplink | CountDownlink) -> np.ndarray:
    """A message's distributions, float64 ``[N, C]``, rows sum to 1."""
    if isinstance(message, LabelUplink | LabelDownlink):
        return one_hot(message.labels, message.classes)
    return normalised(message.counts.astype(np.float64))


class Cfd(Distillation):
    """Quantised soft labels both ways; the frame is `Distillation`."""

    name: ClassVar[str] = "cfd"
    title: ClassVar[str] = "CFD"
    summary: ClassVar[str] = "hard labels on a public set, their mean distilled, the server's labels sent back"
    hyperparameters: ClassVar[type[Hyperparameters]] = CfdHyperparameters
    uplink_kind: ClassVar[MessageKind | None] = "labels"
    downlink_kind: ClassVar[MessageKind | None] = "labels"

    def exchanges(
        self, hyper: CfdHyperparameters, shape: tuple[int, int, int], networks: NetworkFactory
    ) -> tuple[Exchange, Exchange]:
        return _exchange(hyper.bits_up, shape), _exchange(hyper.bits_down, shape)

    def client_goal(self, downlink: LabelDownlink | CountDownlink, ctx: ClientContext) -> Goal:
        return soft_goal(shares(downlink), ctx.hyper)

    def uplink(
        self, net: nn.Module, accuracy: float, state: State, ctx: ClientContext
    ) -> tuple[LabelUplink | CountUplink, State, dict[str, float]]:
        hyper: CfdHyperparameters = ctx.hyper
        predicted = probabilities(public_outputs(net, ctx), hyper)
        common = {"round": ctx.round, "client": ctx.client, "accuracy": accuracy, "public_set_id": ctx.public_set_id}
        if hyper.bits_up == 1:
            return LabelUplink(labels=predicted.argmax(axis=1), classes=predicted.shape[1], **common), {}, {}
        counts = quantise_distribution(predicted, hyper.bits_up)
        return CountUplink(counts=counts, levels=2**hyper.bits_up - 1, **common), {}, {}

    def merge(
        self, uplinks: Mapping[int, LabelUplink | CountUplink], state: State, ctx: Context
    ) -> tuple[Merged, State]:
        hyper: CfdHyperparameters = ctx.hyper
        uniform = dict.fromkeys(uplinks, 1.0 / len(uplinks))
        merged, weights = vote({c: shares(u) for c, u in uplinks.items()}, uniform, hyper.vote, hyper.liars)
        agreement = {"agreement": float(merged.max(axis=1).mean()) if len(merged) else 1.0}
        return Merged(soft_goal(normalised(merged), hyper), None, weights, agreement), {}

    def downlink(self, merged: Merged, net: nn.Module, ctx: Context) -> LabelDownlink | CountDownlink:
        hyper: CfdHyperparameters = ctx.hyper
        predicted = probabilities(public_outputs(net, ctx), hyper)
        common = {"round": ctx.round + 1, "public_set_id": ctx.public_set_id}
        if hyper.bits_down == 1:
            return LabelDownlink(labels=predicted.argmax(axis=1), classes=predicted.shape[1], **common)
        counts = quantise_distribution(predicted, hyper.bits_down)
        return CountDownlink(counts=counts, levels=2**hyper.bits_down - 1, **common)
