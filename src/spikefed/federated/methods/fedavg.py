"""FedAvg: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017.

The baseline of FSD: same network, data, optimiser and ledger; what travels is every state tensor of the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from spikefed.federated.contract import (
    ClientContext,
    ClientReport,
    Context,
    Diagnostics,
    Hyperparameters,
    MessageKind,
    State,
)
from spikefed.federated.local import LocalTraining, train_locally, validate
from spikefed.federated.messages import from_wire, to_wire
from spikefed.federated.robust import Merge, merge_tensors
from spikefed.federated.updates import add_update_noise, model_deviation
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


class FedAvg:
    """Clients train the global weights on their own data; the server averages what they send."""

    name: ClassVar[str] = "fedavg"
    summary: ClassVar[str] = "average of all weights and normalisation statistics, by samples"
    hyperparameters: ClassVar[type[Hyperparameters]] = FedAvgHyperparameters
    uplink_kind: ClassVar[MessageKind | None] = "weights"
    downlink_kind: ClassVar[MessageKind | None] = "weights"

    def init_client(self, ctx: ClientContext) -> State:
        return {}

    def init_server(self, ctx: Context) -> tuple[State, WeightsDownlink]:
        weights = ctx.networks.initial()
        return {"weights": weights}, WeightsDownlink(round=1, tensors=to_wire(weights))

    def client_round(
        self, state: State, downlink: WeightsDownlink | None, ctx: ClientContext
    ) -> tuple[State, WeightsUplink, ClientReport]:
        start = from_wire(downlink.tensors) if downlink else ctx.networks.initial()
        net = ctx.networks.load(start)
        train_loss = train_locally(net, ctx)
        accuracy = validate(net, ctx)
        hyper: FedAvgHyperparameters = ctx.hyper
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
            tensors=to_wire(weights),
            samples=len(ctx.train),
            accuracy=accuracy,
        )
        return {}, uplink, ClientReport({"train_loss": train_loss})

    def server_round(
        self, state: State, uplinks: Mapping[int, WeightsUplink], ctx: Context
    ) -> tuple[State, WeightsDownlink, Diagnostics]:
        counts = {c: float(u.samples if ctx.hyper.weighting == "samples" else 1) for c, u in uplinks.items()}
        total = sum(counts.values())
        weights = {c: n / total for c, n in counts.items()}
        tensors = {c: from_wire(u.tensors) for c, u in uplinks.items()}
        if ctx.hyper.merge == "mean":
            merged = weighted_mean(tensors, weights)
        else:
            robust, weights = merge_tensors(
                {c: u.tensors for c, u in uplinks.items()}, weights, ctx.hyper.merge, ctx.hyper.liars
            )
            merged = from_wire(robust)
        deviations = model_deviation(tensors, merged, ctx.networks.roles)
        downlink = WeightsDownlink(round=ctx.round + 1, tensors=to_wire(merged))
        values = {"model_deviation": sum(deviations.values()) / len(deviations)}
        return {"weights": merged}, downlink, Diagnostics(values, weights)

    def server_network(self, state: State, ctx: Context) -> nn.Module:
        return ctx.networks.load(state["weights"])
