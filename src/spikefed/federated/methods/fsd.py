"""Federal SNN Distillation: Liu, Zhan, Xie, Wang, Liu, J. Phys. Conf. Ser. 2216 (2022) 012078, Algorithm 1.

A client uploads the output spikes of its network on the shared public set and its validation accuracy. The server
averages the spikes weighted by accuracy (eq. 3), distils its own network on the average, rounds the average and sends
it back. Every choice that the paper leaves open is a field below and a row of `docs/deviations.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from spikefed.federated.contract import (
    ClientContext,
    Context,
    Hyperparameters,
    Message,
    MessageKind,
    State,
)
from spikefed.federated.distillation import DistillationHyperparameters, Goal, Merged
from spikefed.federated.robust import clipped_accuracies, vote, weighted_mean
from spikefed.federated.secure import Votes, VoteSum
from spikefed.federated.voting import Tally, Voting
from spikefed.training import CrossTerm, DistillationLoss, output_spikes
from spikefed.wire import SpikeDownlink, SpikeUplink


class FsdHyperparameters(DistillationHyperparameters):
    """Hyperparameters of FSD beside those of distillation."""

    lambda_: float = Field(
        default=0.1, ge=0, alias="lambda", description="weight of L_F in eq. 4 [unknown; authors' code: 1]"
    )
    cross_normalise: Literal["sum", "softmax"] = Field(default="sum", description="normalisation of p [code: softmax]")
    cross_direction: Literal["paper", "reversed"] = Field(
        default="paper", description="direction of L_F [code: reversed]"
    )
    cross_reduction: Literal["mean", "sum"] = Field(default="mean", description="L_F over samples [code: sum]")
    cross_axis: Literal["time", "batch"] = Field(
        default="time", description="axis that p averages over [released code: batch]"
    )
    tau_w: float = Field(default=1.0, ge=1e-3, description="temperature of softmax over accuracies in eq. 3 [paper: 1]")
    tie: Literal["silent", "fire"] = Field(
        default="silent", description="Round at exactly 0.5 [code: half to even, so silent]"
    )
    server_targets: Literal["soft", "rounded"] = Field(
        default="soft", description="what the server distils on [paper: soft]"
    )
    model_config = {**DistillationHyperparameters.model_config, "populate_by_name": True}


TIE = 1e-9
"""How near to 0.5 a merged spike counts as a tie."""


def merge_weights(accuracies: Mapping[int, float], tau_w: float = 1.0) -> dict[int, float]:
    """w = softmax(acc / tau_w) over clients (text above eq. 3); float64, sums to 1."""
    clients = sorted(accuracies)
    logits = np.array([accuracies[c] for c in clients], dtype=np.float64) / tau_w
    powers = np.exp(logits - logits.max())
    return dict(zip(clients, (powers / powers.sum()).tolist(), strict=True))


def accuracy_weights(accuracies: Mapping[int, float], hyper: FsdHyperparameters) -> dict[int, float]:
    """Merge weights from the accuracies that clients claim, cut to their median where the vote says so."""
    return merge_weights(clipped_accuracies(accuracies) if hyper.vote == "clipped" else accuracies, hyper.tau_w)


def vote_level(accuracy: float, levels: int, tau_w: float = 1.0) -> int:
    """The weight exp(acc / tau_w) of eq. 3 before its normalisation, as a level 1..w; w where the accuracy is 1.

    Normalised by the sum over clients, which the server of a secure sum learns, it is the softmax up to rounding.
    """
    level = levels * np.exp((accuracy - 1.0) / tau_w)
    return max(1, int(np.floor(level + 0.5)))


def merge_spikes(spikes: Mapping[int, np.ndarray], weights: Mapping[int, float]) -> np.ndarray:
    """S_g = sum_i w_i S_i (eq. 3): float64 ``[N, C, T]`` in [0, 1], summed in the order of client numbers."""
    return weighted_mean(spikes, weights)


def round_spikes(merged: np.ndarray, tie: str = "silent") -> np.ndarray:
    """S_g := Round(S_g) (Algorithm 1, line 11): uint8 0/1; a tie at 0.5 is silent, or fires with ``tie="fire"``.

    Shape ``[N, C, T]`` stays.
    """
    # Half of n equal weights need not sum to 0.5 in floating point.
    return (merged > 0.5 + (-TIE if tie == "fire" else TIE)).astype(np.uint8)


def agreement(merged: np.ndarray) -> float:
    """Mean of max(S_g, 1 - S_g): 1 when all clients agree on every spike, 0.5 at the least.

    ``merged`` is ``[N, C, T]``.
    """
    return float(np.mean(np.maximum(merged, 1.0 - merged))) if merged.size else 1.0


def spike_goal(target: np.ndarray, hyper: FsdHyperparameters, rows: Tensor | None = None) -> Goal:
    """Distillation on spikes or their average ``[R, C, T]`` with the loss of eq. 4."""
    cross = CrossTerm(hyper.cross_normalise, hyper.cross_direction, hyper.cross_reduction, hyper.cross_axis)
    return Goal(
        torch.as_tensor(target.astype(np.float32)),
        DistillationLoss(hyper.lambda_, cross),
        rows,
    )


def public_spikes(net: nn.Module, ctx: Context, rows: Tensor | None = None) -> np.ndarray:
    """S_i = SNN(X_p) (line 5), or of some rows: uint8 ``[R, C, T]``."""
    train_bn = ctx.hyper.train_bn_at_eval
    images = ctx.public if rows is None else ctx.public[rows]
    return output_spikes(net, images, preprocess=ctx.preprocess, generator=ctx.generator, train_bn=train_bn)


class Fsd(Voting):
    """Algorithm 1 of the paper; its frame with the steps 1-4, 8 and 10 is `Distillation`."""

    name: ClassVar[str] = "fsd"
    title: ClassVar[str] = "FSD"
    summary: ClassVar[str] = "output spikes on a public set, accuracy-weighted average, distillation"
    hyperparameters: ClassVar[type[Hyperparameters]] = FsdHyperparameters
    uplink_kind: ClassVar[MessageKind | None] = "spikes"
    downlink_kind: ClassVar[MessageKind | None] = "spikes"

    def client_goal(self, downlink: SpikeDownlink, ctx: ClientContext) -> Goal:
        return spike_goal(downlink.spikes, ctx.hyper)

    def ballot(self, uplink: SpikeUplink) -> np.ndarray:
        return uplink.spikes

    def level(self, accuracy: float, levels: int, hyper: FsdHyperparameters) -> int:
        return vote_level(accuracy, levels, hyper.tau_w)

    def uplink(
        self, net: nn.Module, accuracy: float, state: State, ctx: ClientContext
    ) -> tuple[Message | Votes, State, dict[str, float]]:
        spikes = public_spikes(net, ctx)
        values = {"firing_rate": float(spikes.mean()) if spikes.size else 0.0}
        message = SpikeUplink(ctx.round, ctx.client, spikes, accuracy, ctx.public_set_id)
        return self.cast(message, ctx), {}, values

    def count(self, uplinks: Mapping[int, SpikeUplink], ctx: Context) -> Tally:
        hyper: FsdHyperparameters = ctx.hyper
        weights = accuracy_weights({c: u.accuracy for c, u in uplinks.items()}, hyper)
        spikes = {c: u.spikes for c, u in uplinks.items()}
        return Tally(*vote(spikes, weights, hyper.vote, hyper.liars))

    def merge(self, uplinks: Mapping[int, SpikeUplink | VoteSum], state: State, ctx: Context) -> tuple[Merged, State]:
        hyper: FsdHyperparameters = ctx.hyper
        tally = self.tally(uplinks, ctx)  # eq. 3
        merged = tally.share
        rounded = round_spikes(merged, hyper.tie)  # line 11
        goal = spike_goal(merged if hyper.server_targets == "soft" else rounded, hyper)
        values = {"agreement": agreement(merged), "global_firing_rate": float(rounded.mean())}
        return Merged(goal, rounded, tally.weights, tally.values | values), {}

    def downlink(self, merged: Merged, net: nn.Module, ctx: Context) -> SpikeDownlink:
        assert isinstance(merged.content, np.ndarray)
        return SpikeDownlink(ctx.round + 1, merged.content, ctx.public_set_id)
