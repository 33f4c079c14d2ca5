"""FedAvg: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017.

The baseline of FSD: same network, data, optimiser and ledger; what travels is every state tensor of the network, or its
change over the round, which codecs for changes (STC, QSGD, cosine, top-k) make small.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.federated.contract import (
    ClientContext,
    ClientReport,
    Context,
    Diagnostics,
    Hyperparameters,
    MessageKind,
    Method,
    NetworkFactory,
    State,
)
from spikefed.federated.local import LocalTraining, train_locally, validate
from spikefed.federated.messages import from_wire, to_wire
from spikefed.federated.robust import Merge, merge_tensors
from spikefed.federated.traffic import Exchange
from spikefed.federated.updates import add_update_noise, model_deviation
from spikefed.networks.roles import BN_STATS
from spikefed.wire import WeightsDownlink, WeightsUplink


class FedAvgHyperparameters(LocalTraining):
    """Hyperparameters of FedAvg beside those of local training."""

    weighting: str = Field(
        default="samples",
        pattern="^(samples|uniform)$",
        description="mean over clients weighted by training samples (FedAvg eq. 1), or uniform (released V-SNN code)",
    )
    update_noise: float = Field(
        default=0.0,
        ge=0,
        description="normal noise on every uploaded tensor, in units of its mean absolute update [V-SNN: 0 to 5]",
    )
    update_noise_statistics: bool = Field(
        default=True, description="noise on running statistics of normalisations too [V-SNN code: true]"
    )
    payload: Literal["weights", "change"] = Field(
        default="weights", description="clients send their weights, or the change since they got them (lossy codecs)"
    )
    payload_down: Literal["weights", "change"] = Field(
        default="weights", description="the server sends the global weights, or their change [STC: both ways]"
    )
    merge: Merge = Field(default="mean", description="how weights are merged [FedAvg: mean]; see docs/privacy.md")
    liars: int = Field(default=1, ge=0, description="clients assumed to lie, merge 'trimmed' and 'krum'")


def weighted_mean(tensors: Mapping[int, Mapping[str, Tensor]], weights: Mapping[int, float]) -> dict[str, Tensor]:
    """Weighted mean of state tensors over clients.

    Sums run in float64 in the order of client numbers, so the order of arrival cannot change a bit. Integer tensors
    (BatchNorm's batch counters) get the rounded mean. ``weights`` must sum to 1.
    """
    clients = sorted(tensors)
    merged = {}
    for name, first in tensors[clients[0]].items():
        total = sum(weights[c] * tensors[c][name].to(torch.float64) for c in clients)
        assert isinstance(total, Tensor)
        merged[name] = total.to(first.dtype) if first.is_floating_point() else total.round().to(first.dtype)
    return merged


def change(after: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """after - before; integer tensors (batch counters) travel as they are."""
    return {n: t - before[n] if t.is_floating_point() else t for n, t in after.items()}


def apply_change(before: Mapping[str, Tensor], delta: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of `change`."""
    return {n: before[n] + t if t.is_floating_point() else t for n, t in delta.items()}


def exact_tensors(payload: str, networks: NetworkFactory) -> frozenset[str]:
    """Tensors that lossy codecs must leave alone: running statistics, whose errors no later round makes up."""
    if payload == "weights":
        return frozenset()
    return frozenset(name for name, role in networks.roles.items() if role == BN_STATS)


class FedAvg(Method):
    """Clients train the global weights on their own data; the server averages what they send."""

    name: ClassVar[str] = "fedavg"
    title: ClassVar[str] = "FedAvg"
    summary: ClassVar[str] = "average of all weights and normalisation statistics, by samples"
    hyperparameters: ClassVar[type[Hyperparameters]] = FedAvgHyperparameters
    uplink_kind: ClassVar[MessageKind | None] = "weights"
    downlink_kind: ClassVar[MessageKind | None] = "weights"

    # What the variants change.

    def train(self, net: nn.Module, ctx: ClientContext) -> float:
        """Local training from the global weights, in place; returns the last epoch's mean loss."""
        return train_locally(net, ctx)

    def step(self, state: State, merged: dict[str, Tensor], ctx: Context) -> tuple[dict[str, Tensor], State]:
        """The server's step from its weights to the clients' mean: new weights, and what to keep. Here: the mean."""
        return merged, {}

    # The four steps.

    def exchanges(
        self, hyper: FedAvgHyperparameters, shape: tuple[int, int, int], networks: NetworkFactory
    ) -> tuple[Exchange, Exchange]:
        return (
            Exchange("weights", exact=exact_tensors(hyper.payload, networks)),
            Exchange("weights", exact=exact_tensors(hyper.payload_down, networks)),
        )

    def init_client(self, ctx: ClientContext) -> State:
        return {}

    def init_server(self, ctx: Context) -> tuple[State, WeightsDownlink | None]:
        weights = ctx.networks.initial()
        if ctx.hyper.payload_down == "change":  # everybody holds the common initial weights
            return {"weights": weights}, None
        return {"weights": weights}, WeightsDownlink(round=1, tensors=to_wire(weights))

    def client_round(
        self, state: State, downlink: WeightsDownlink | None, ctx: ClientContext
    ) -> tuple[State, WeightsUplink, ClientReport]:
        hyper: FedAvgHyperparameters = ctx.hyper
        start = self._global_weights(state, downlink, ctx)
        net = ctx.networks.load(start)
        train_loss = self.train(net, ctx)
        accuracy = validate(net, ctx)
        weights = ctx.networks.weights(net)
        if hyper.update_noise:
            weights = add_update_noise(
                weights,
                start,
                hyper.update_noise,
                ctx.networks.roles,
                ctx.generator,
                statistics=hyper.update_noise_statistics,
            )
        uplink = WeightsUplink(
            round=ctx.round,
            client=ctx.client,
            tensors=to_wire(change(weights, start) if hyper.payload == "change" else weights),
            samples=len(ctx.train),
            accuracy=accuracy,
            exact=exact_tensors(hyper.payload, ctx.networks),
        )
        kept: State = {"global": start, "round": ctx.round} if hyper.payload_down == "change" else {}
        return kept, uplink, ClientReport({"train_loss": train_loss})

    @staticmethod
    def _global_weights(state: State, downlink: WeightsDownlink | None, ctx: ClientContext) -> dict[str, Tensor]:
        if downlink is None:
            return ctx.networks.initial()
        received = from_wire(downlink.tensors)
        if ctx.hyper.payload_down == "weights":
            return received
        if state.get("round", 1 if downlink.round == 2 else 0) != downlink.round - 1:
            raise ConfigError(
                f"client {ctx.client} missed rounds before {downlink.round}, so the change of the global weights does "
                "not fit what it holds; use method.payload_down = 'weights' where clients may miss rounds"
            )
        return apply_change(state.get("global") or ctx.networks.initial(), received)

    def server_round(
        self, state: State, uplinks: Mapping[int, WeightsUplink], ctx: Context
    ) -> tuple[State, WeightsDownlink, Diagnostics]:
        hyper: FedAvgHyperparameters = ctx.hyper
        counts = {c: float(u.samples if hyper.weighting == "samples" else 1) for c, u in uplinks.items()}
        total = sum(counts.values())
        weights = {c: n / total for c, n in counts.items()}
        tensors = {c: from_wire(u.tensors) for c, u in uplinks.items()}
        if hyper.payload == "change":
            tensors = {c: apply_change(state["weights"], delta) for c, delta in tensors.items()}
        if hyper.merge == "mean":
            merged = weighted_mean(tensors, weights)
        else:
            arrays = {c: to_wire(own) for c, own in tensors.items()}
            robust, weights = merge_tensors(arrays, weights, hyper.merge, hyper.liars)
            merged = from_wire(robust)
        deviations = model_deviation(tensors, merged, ctx.networks.roles)
        values = {"model_deviation": sum(deviations.values()) / len(deviations)}
        new, kept = self.step(state, merged, ctx)
        sent = change(new, state["weights"]) if hyper.payload_down == "change" else new
        exact = exact_tensors(hyper.payload_down, ctx.networks)
        downlink = WeightsDownlink(round=ctx.round + 1, tensors=to_wire(sent), exact=exact)
        return {"weights": new} | kept, downlink, Diagnostics(values, weights)

    def repeated(self, downlink: WeightsDownlink, round: int, ctx: Context) -> WeightsDownlink:
        """The downlink of a round after one that changed nothing: a change must not be applied twice."""
        if ctx.hyper.payload_down == "weights":
            return dataclasses.replace(downlink, round=round)
        still = {n: np.zeros_like(a) if a.dtype.kind == "f" else a for n, a in downlink.tensors.items()}
        return WeightsDownlink(round=round, tensors=still, exact=downlink.exact)

    def server_network(self, state: State, ctx: Context) -> nn.Module:
        return ctx.networks.load(state["weights"])
