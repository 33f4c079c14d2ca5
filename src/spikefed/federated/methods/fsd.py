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

from spikefed.federated.contract import ClientContext, Context, Hyperparameters, MessageKind, State
from spikefed.federated.distillation import Distillation, DistillationHyperparameters, Goal, Merged
from spikefed.federated.robust import clipped_accuracies, vote, weighted_mean
from spikefed.training import CrossTerm, distillation_loss, output_spikes
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


def merge_weights(accuracies: Mapping[int, float], tau_w: float = 1.0) -> dict[int, float]:
    """w = softmax(acc / tau_w) over clients (text above eq. 3); float64, sums to 1."""
    clients = sorted(accuracies)
    logits = np.array([accuracies[c] for c in clients], dtype=np.float64) / tau_w
    powers = np.exp(logits - logits.max())
    return dict(zip(clients, (powers / powers.sum()).tolist(), strict=True))


def accuracy_weights(uplinks: Mapping[int, SpikeUplink], hyper: FsdHyperparameters) -> dict[int, float]:
    """Merge weights from the accuracies that clients claim, cut to their median where the vote says so."""
    accuracies = {client: uplink.accuracy for client, uplink in uplinks.items()}
    return merge_weights(clipped_accuracies(accuracies) if hyper.vote == "clipped" else accuracies, hyper.tau_w)


def merge_spikes(spikes: Mapping[int, np.ndarray], weights: Mapping[int, float]) -> np.ndarray:
    """S_g = sum_i w_i S_i (eq. 3): float64 ``[N, C, T]`` in [0, 1], summed in the order of client numbers."""
    return weighted_mean(spikes, weights)


def round_spikes(merged: np.ndarray, tie: str = "silent") -> np.ndarray:
    """S_g := Round(S_g) (Algorithm 1, line 11): uint8 0/1; exactly 0.5 is silent, or fires with ``tie="fire"``."""
    return (merged >= 0.5 if tie == "fire" else merged > 0.5).astype(np.uint8)


def agreement(merged: np.ndarray) -> float:
    """Mean of max(S_g, 1 - S_g): 1 when all clients agree on every spike, 0.5 at the least."""
    return float(np.mean(np.maximum(merged, 1.0 - merged))) if merged.size else 1.0


def spike_goal(target: np.ndarray, hyper: FsdHyperparameters, rows: Tensor | None = None) -> Goal:
    """Distillation on spikes or their average ``[R, C, T]`` with the loss of eq. 4."""
    cross = CrossTerm(hyper.cross_normalise, hyper.cross_direction, hyper.cross_reduction, hyper.cross_axis)
    return Goal(
        torch.from_numpy(target.astype(np.float32)),
        lambda spikes, goal: distillation_loss(spikes, goal, hyper.lambda_, cross),
        rows,
    )


def public_spikes(net: nn.Module, ctx: Context, rows: Tensor | None = None) -> np.ndarray:
    """S_i = SNN(X_p) (line 5), or of some rows: uint8 ``[R, C, T]``."""
    train_bn = ctx.hyper.train_bn_at_eval
    images = ctx.public if rows is None else ctx.public[rows]
    return output_spikes(net, images, preprocess=ctx.preprocess, generator=ctx.generator, train_bn=train_bn)


class Fsd(Distillation):
    """Algorithm 1 of the paper; its frame with the steps 1-4, 8 and 10 is `Distillation`."""

    name: ClassVar[str] = "fsd"
    summary: ClassVar[str] = "output spikes on a public set, accuracy-weighted average, distillation"
    hyperparameters: ClassVar[type[Hyperparameters]] = FsdHyperparameters
    uplink_kind: ClassVar[MessageKind | None] = "spikes"
    downlink_kind: ClassVar[MessageKind | None] = "spikes"

    def client_goal(self, downlink: SpikeDownlink, ctx: ClientContext) -> Goal:
        return spike_goal(downlink.spikes, ctx.hyper)

    def uplink(
        self, net: nn.Module, accuracy: float, state: State, ctx: ClientContext
    ) -> tuple[SpikeUplink, State, dict[str, float]]:
        spikes = public_spikes(net, ctx)
        message = SpikeUplink(ctx.round, ctx.client, spikes, accuracy, ctx.public_set_id)
        return message, {}, {"firing_rate": float(spikes.mean()) if spikes.size else 0.0}

    def merge(self, uplinks: Mapping[int, SpikeUplink], state: State, ctx: Context) -> tuple[Merged, State]:
        hyper: FsdHyperparameters = ctx.hyper
        weights = accuracy_weights(uplinks, hyper)
        merged, weights = vote({c: u.spikes for c, u in uplinks.items()}, weights, hyper.vote, hyper.liars)
        rounded = round_spikes(merged, hyper.tie)
        goal = spike_goal(merged if hyper.server_targets == "soft" else rounded, hyper)
        values = {"agreement": agreement(merged), "global_firing_rate": float(rounded.mean())}
        return Merged(goal, rounded, weights, values), {}

    def downlink(self, merged: Merged, net: nn.Module, ctx: Context) -> SpikeDownlink:
        assert isinstance(merged.content, np.ndarray)
        return SpikeDownlink(ctx.round + 1, merged.content, ctx.public_set_id)
