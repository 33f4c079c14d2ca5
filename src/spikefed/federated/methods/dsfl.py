"""DS-FL: Itahara, Nishio, Koda, Morikura, Yamamoto, "Distillation-Based Semi-Supervised Federated Learning", IEEE
TMC 2023 (arXiv 2008.06180).

Clients upload class probabilities on the open set; the server averages and sharpens them (entropy reduction), and both
sides distil on the result. ``sharpen = "power"`` is the replacement that SCARLET (arXiv 2504.19602) proposes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from spikefed.federated.contract import ClientContext, Context, Hyperparameters, MessageKind, NetworkFactory, State
from spikefed.federated.distillation import Distillation, Goal, Merged, public_outputs
from spikefed.federated.randomness import derive_seed
from spikefed.federated.robust import normalised, vote
from spikefed.federated.soft import SoftLabelHyperparameters, probabilities, soft_goal
from spikefed.federated.traffic import Exchange
from spikefed.wire import ProbabilityDownlink, ProbabilityUplink


class DsflHyperparameters(SoftLabelHyperparameters):
    """Hyperparameters of DS-FL beside those of distillation on soft labels."""

    sharpen: Literal["era", "power", "none"] = Field(
        default="era", description="softmax(mean / T) [DS-FL], mean^beta normalised [SCARLET], or the plain mean"
    )
    temperature: float = Field(default=0.1, gt=0, description="T of the entropy reduction [DS-FL: 0.1]")
    beta: float = Field(default=2.0, gt=0, description="exponent of the power mean [SCARLET: 2]")
    public_per_round: int | None = Field(
        default=None, ge=1, description="public rows drawn each round; default: all [SCARLET: 1000 of 10000]"
    )


def reduce_entropy(mean: np.ndarray, hyper: DsflHyperparameters) -> np.ndarray:
    """The sharpened mean, rows sum to 1; float64 ``[N, C]``."""
    if hyper.sharpen == "none":
        return mean
    if hyper.sharpen == "power":
        return normalised((mean / mean.max(axis=1, keepdims=True)) ** hyper.beta)  # the largest never vanishes
    powers = np.exp((mean - mean.max(axis=1, keepdims=True)) / hyper.temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def drawn_rows(round: int, ctx: Context) -> Tensor | None:
    """The public rows of a round, ascending; the draw follows from the public set and the round, so nobody sends it.

    int64 ``[n]``.
    """
    count = ctx.hyper.public_per_round
    if count is None or count >= len(ctx.public):
        return None
    seed = derive_seed(int.from_bytes(ctx.public_set_id[:7], "little"), round)
    order = torch.randperm(len(ctx.public), generator=torch.Generator().manual_seed(seed))
    return order[:count].sort().values


class Dsfl(Distillation):
    """Soft labels both ways; the frame is `Distillation`."""

    name: ClassVar[str] = "ds-fl"
    title: ClassVar[str] = "DS-FL"
    summary: ClassVar[str] = "class probabilities on a public set, their sharpened mean distilled by both sides"
    hyperparameters: ClassVar[type[Hyperparameters]] = DsflHyperparameters
    uplink_kind: ClassVar[MessageKind | None] = "probabilities"
    downlink_kind: ClassVar[MessageKind | None] = "probabilities"

    def exchanges(
        self, hyper: DsflHyperparameters, shape: tuple[int, int, int], networks: NetworkFactory
    ) -> tuple[Exchange, Exchange]:
        rows = min(hyper.public_per_round or shape[0], shape[0])
        both = Exchange("probabilities", (rows, shape[1], 0))
        return both, both

    def client_goal(self, downlink: ProbabilityDownlink, ctx: ClientContext) -> Goal:
        # The message of this round answers the uploads of the one before.
        return soft_goal(normalised(downlink.probabilities), ctx.hyper, drawn_rows(ctx.round - 1, ctx))

    def uplink(
        self, net: nn.Module, accuracy: float, state: State, ctx: ClientContext
    ) -> tuple[ProbabilityUplink, State, dict[str, float]]:
        predicted = probabilities(public_outputs(net, ctx, drawn_rows(ctx.round, ctx)), ctx.hyper)
        return ProbabilityUplink(ctx.round, ctx.client, predicted, accuracy, ctx.public_set_id), {}, {}

    def merge(self, uplinks: Mapping[int, ProbabilityUplink], state: State, ctx: Context) -> tuple[Merged, State]:
        hyper: DsflHyperparameters = ctx.hyper
        uniform = dict.fromkeys(uplinks, 1.0 / len(uplinks))
        uploads = {c: normalised(np.clip(u.probabilities.astype(np.float64), 0, None)) for c, u in uplinks.items()}
        merged, weights = vote(uploads, uniform, hyper.vote, hyper.liars)
        target = reduce_entropy(normalised(merged), hyper)
        # The entropy of the merge, nats: what the sharpening takes away.
        entropy = [float(-(p * np.log(np.clip(p, 1e-12, None))).sum(axis=1).mean()) for p in (merged, target)]
        values = {"mean_entropy": entropy[0], "sharpened_entropy": entropy[1]}
        return Merged(soft_goal(target, hyper, drawn_rows(ctx.round, ctx)), target, weights, values), {}

    def repeated(self, downlink: ProbabilityDownlink, round: int, ctx: Context) -> ProbabilityDownlink | None:
        """The downlink of a round after one that changed nothing: none where it speaks of that other round's rows."""
        drawn = drawn_rows(round, ctx) is not None
        return None if drawn else dataclasses.replace(downlink, round=round)

    def downlink(self, merged: Merged, net: nn.Module, ctx: Context) -> ProbabilityDownlink:
        assert isinstance(merged.content, np.ndarray)
        return ProbabilityDownlink(ctx.round + 1, merged.content, ctx.public_set_id)
