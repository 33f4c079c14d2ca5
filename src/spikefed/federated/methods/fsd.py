"""Federal SNN Distillation: Liu, Zhan, Xie, Wang, Liu, J. Phys. Conf. Ser. 2216 (2022) 012078, Algorithm 1.

A client uploads the output spikes of its network on the shared public set and its validation accuracy. The server
averages the spikes weighted by accuracy (eq. 3), distils its own network on the average, rounds the average and sends
it back. Every choice that the paper leaves open is a field below and a row of `docs/deviations.md`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import ClassVar, Literal, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.federated.contract import (
    ClientContext,
    Context,
    Hyperparameters,
    MessageKind,
    NetworkFactory,
    State,
)
from spikefed.federated.distillation import Distillation, DistillationHyperparameters, Goal, Merged
from spikefed.federated.response import Source, account, noise_source, respond, unbiased
from spikefed.federated.robust import clipped_accuracies, vote, weighted_mean
from spikefed.federated.secure import Votes, VoteSum
from spikefed.federated.setup import Setup
from spikefed.federated.traffic import Exchange, standard
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
    secure: bool = Field(default=False, description="the server learns the sum of the votes only; see docs/privacy.md")
    vote_levels: int = Field(
        default=1, ge=1, le=255, description="'secure': levels w of a client's weight; 1 gives all the same"
    )
    response_epsilon: float | None = Field(
        default=None, gt=0, le=20, description="randomised response on every uploaded spike; eps of one spike a round"
    )
    response_delta: float = Field(default=1e-5, gt=0, lt=1, description="delta of its composition over spikes, rounds")
    response_source: Source = Field(
        default="system", description="its randomness; 'seeded' repeats a run and protects nothing"
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


def vote_level(accuracy: float, hyper: FsdHyperparameters) -> int:
    """The weight exp(acc / tau_w) of eq. 3 before its normalisation, as a level 1..w; w where the accuracy is 1.

    Normalised by the sum over clients, which the server learns, it is the softmax up to rounding.
    """
    level = hyper.vote_levels * np.exp((accuracy - 1.0) / hyper.tau_w)
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
        torch.from_numpy(target.astype(np.float32)),
        lambda spikes, goal: distillation_loss(spikes, goal, hyper.lambda_, cross),
        rows,
    )


def public_spikes(net: nn.Module, ctx: Context, rows: Tensor | None = None) -> np.ndarray:
    """S_i = SNN(X_p) (line 5), or of some rows: uint8 ``[R, C, T]``."""
    train_bn = ctx.hyper.train_bn_at_eval
    images = ctx.public if rows is None else ctx.public[rows]
    return output_spikes(net, images, preprocess=ctx.preprocess, generator=ctx.generator, train_bn=train_bn)


def check_secure(hyper: FsdHyperparameters, setup: Setup) -> None:
    """Refuse secure sums where they cannot work: a vote that needs single votes, one client, a missing package."""
    if hyper.vote != "weighted":
        raise ConfigError(
            f"'method.vote' = '{hyper.vote}' needs every client's spikes, which 'method.secure' hides from the server; "
            "choose one of the two"
        )
    if setup.clients < 2:
        raise ConfigError(
            "'method.secure' sums the votes of at least two clients; raise data.clients, without data.pooled"
        )
    if importlib.util.find_spec("cryptography") is None:
        raise ConfigError("'method.secure' needs the package cryptography; install spikefed[privacy]")


class Fsd(Distillation):
    """Algorithm 1 of the paper; its frame with the steps 1-4, 8 and 10 is `Distillation`."""

    name: ClassVar[str] = "fsd"
    title: ClassVar[str] = "FSD"
    summary: ClassVar[str] = "output spikes on a public set, accuracy-weighted average, distillation"
    hyperparameters: ClassVar[type[Hyperparameters]] = FsdHyperparameters
    uplink_kind: ClassVar[MessageKind | None] = "spikes"
    downlink_kind: ClassVar[MessageKind | None] = "spikes"

    def check(self, hyper: FsdHyperparameters, setup: Setup) -> None:
        for key, on in (("secure", hyper.secure), ("response_epsilon", hyper.response_epsilon is not None)):
            if on and self.name != Fsd.name:  # variants inherit the fields, and answer otherwise
                raise ConfigError(
                    f"'method.{key}' is a switch of method fsd and does nothing in {self.name}; leave it out"
                )
        if hyper.secure:
            check_secure(hyper, setup)
        super().check(hyper, setup)

    def exchanges(
        self, hyper: FsdHyperparameters, shape: tuple[int, int, int], networks: NetworkFactory
    ) -> tuple[Exchange, Exchange]:
        up = "masked-votes" if hyper.secure else self.uplink_kind
        return standard(up, shape), standard(self.downlink_kind, shape)

    def client_goal(self, downlink: SpikeDownlink, ctx: ClientContext) -> Goal:
        return spike_goal(downlink.spikes, ctx.hyper)

    def uplink(
        self, net: nn.Module, accuracy: float, state: State, ctx: ClientContext
    ) -> tuple[SpikeUplink | Votes, State, dict[str, float]]:
        hyper: FsdHyperparameters = ctx.hyper
        spikes = public_spikes(net, ctx)
        values = {"firing_rate": float(spikes.mean()) if spikes.size else 0.0}
        if hyper.response_epsilon is not None:
            noise = noise_source(hyper.response_source, ctx.generator)
            spikes = respond(spikes, hyper.response_epsilon, noise)
        if hyper.secure:
            weight = vote_level(accuracy, hyper)
            return Votes(ctx.round, ctx.client, spikes * np.uint16(weight), weight, ctx.public_set_id), {}, values
        return SpikeUplink(ctx.round, ctx.client, spikes, accuracy, ctx.public_set_id), {}, values

    def merge(self, uplinks: Mapping[int, SpikeUplink | VoteSum], state: State, ctx: Context) -> tuple[Merged, State]:
        hyper: FsdHyperparameters = ctx.hyper
        values: dict[str, float] = {}
        total = next(iter(uplinks.values()))
        if isinstance(total, VoteSum):
            merged = total.votes / total.weight
            weights = {}
            values["votes_summed"] = len(total.clients)
            values["votes_out_of_range"] = total.outside
        else:
            votes = cast(Mapping[int, SpikeUplink], uplinks)
            weights = accuracy_weights({c: u.accuracy for c, u in votes.items()}, hyper)
            spikes = {c: u.spikes for c, u in votes.items()}
            merged, weights = vote(spikes, weights, hyper.vote, hyper.liars)
        if hyper.response_epsilon is not None:
            merged = unbiased(merged, hyper.response_epsilon)
            row = int(np.prod(merged.shape[1:]))
            values |= account(hyper.response_epsilon, hyper.response_delta, row, ctx.round)
        rounded = round_spikes(merged, hyper.tie)
        goal = spike_goal(merged if hyper.server_targets == "soft" else rounded, hyper)
        values |= {"agreement": agreement(merged), "global_firing_rate": float(rounded.mean())}
        return Merged(goal, rounded, weights, values), {}

    def downlink(self, merged: Merged, net: nn.Module, ctx: Context) -> SpikeDownlink:
        assert isinstance(merged.content, np.ndarray)
        return SpikeDownlink(ctx.round + 1, merged.content, ctx.public_set_id)
