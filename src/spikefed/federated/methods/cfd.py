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

from spikefed.errors import ConfigError
from spikefed.federated.contract import (
    ClientContext,
    Context,
    Hyperparameters,
    Message,
    MessageKind,
    NetworkFactory,
    State,
)
from spikefed.federated.distillation import Goal, Merged, public_outputs
from spikefed.federated.robust import normalised, one_hot, vote
from spikefed.federated.secure import Votes, VoteSum
from spikefed.federated.setup import Setup
from spikefed.federated.soft import SoftLabelHyperparameters, probabilities, soft_goal
from spikefed.federated.traffic import Exchange, standard
from spikefed.federated.voting import Tally, Voting
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


class Cfd(Voting):
    """Quantised soft labels both ways; the frame is `Distillation`."""

    name: ClassVar[str] = "cfd"
    title: ClassVar[str] = "CFD"
    summary: ClassVar[str] = "hard labels on a public set, their mean distilled, the server's labels sent back"
    hyperparameters: ClassVar[type[Hyperparameters]] = CfdHyperparameters
    uplink_kind: ClassVar[MessageKind | None] = "labels"
    downlink_kind: ClassVar[MessageKind | None] = "labels"

    def check(self, hyper: CfdHyperparameters, setup: Setup) -> None:
        if self.wrappers and hyper.bits_up != 1:
            raise ConfigError(
                f"method.bits_up = {hyper.bits_up} sends distributions, and [privacy] goes around votes; set "
                "method.bits_up = 1"
            )
        super().check(hyper, setup)

    def exchanges(
        self, hyper: CfdHyperparameters, shape: tuple[int, int, int], networks: NetworkFactory
    ) -> tuple[Exchange, Exchange]:
        return self.wrapped((_exchange(hyper.bits_up, shape), _exchange(hyper.bits_down, shape)))

    def client_goal(self, downlink: LabelDownlink | CountDownlink, ctx: ClientContext) -> Goal:
        return soft_goal(shares(downlink), ctx.hyper)

    def uplink(
        self, net: nn.Module, accuracy: float, state: State, ctx: ClientContext
    ) -> tuple[Message | Votes, State, dict[str, float]]:
        hyper: CfdHyperparameters = ctx.hyper
        predicted = probabilities(public_outputs(net, ctx), hyper)
        common = {"round": ctx.round, "client": ctx.client, "accuracy": accuracy, "public_set_id": ctx.public_set_id}
        if hyper.bits_up == 1:
            message = LabelUplink(labels=predicted.argmax(axis=1), classes=predicted.shape[1], **common)
            return self.cast(message, ctx), {}, {}
        counts = quantise_distribution(predicted, hyper.bits_up)
        return CountUplink(counts=counts, levels=2**hyper.bits_up - 1, **common), {}, {}

    def ballot(self, uplink: LabelUplink) -> np.ndarray:
        return np.eye(uplink.classes, dtype=np.uint8)[uplink.labels][:, :, None]

    def count(self, uplinks: Mapping[int, LabelUplink | CountUplink], ctx: Context) -> Tally:
        hyper: CfdHyperparameters = ctx.hyper
        uniform = dict.fromkeys(uplinks, 1.0 / len(uplinks))
        return Tally(*vote({c: shares(u) for c, u in uplinks.items()}, uniform, hyper.vote, hyper.liars))

    def merge(
        self, uplinks: Mapping[int, LabelUplink | CountUplink | VoteSum], state: State, ctx: Context
    ) -> tuple[Merged, State]:
        hyper: CfdHyperparameters = ctx.hyper
        tally = self.tally(uplinks, ctx)
        merged = tally.share.reshape(tally.share.shape[:2])  # a ballot has one step
        values = {"agreement": float(merged.max(axis=1).mean()) if len(merged) else 1.0}
        return Merged(soft_goal(normalised(merged), hyper), None, tally.weights, tally.values | values), {}

    def downlink(self, merged: Merged, net: nn.Module, ctx: Context) -> LabelDownlink | CountDownlink:
        hyper: CfdHyperparameters = ctx.hyper
        predicted = probabilities(public_outputs(net, ctx), hyper)
        common = {"round": ctx.round + 1, "public_set_id": ctx.public_set_id}
        if hyper.bits_down == 1:
            return LabelDownlink(labels=predicted.argmax(axis=1), classes=predicted.shape[1], **common)
        counts = quantise_distribution(predicted, hyper.bits_down)
        return CountDownlink(counts=counts, levels=2**hyper.bits_down - 1, **common)
