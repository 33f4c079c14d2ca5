"""Floor and ceiling of every comparison: each client alone, and one network on everybody's data. Nothing travels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import nn

from spikefed.federated.contract import (
    ClientContext,
    ClientReport,
    Context,
    Diagnostics,
    Hyperparameters,
    MessageKind,
    Method,
    State,
)
from spikefed.federated.local import LocalTraining, train_locally, validate


class Local(Method):
    """Every client trains on its own data only; the run reports the mean over their networks."""

    name: ClassVar[str] = "local"
    title: ClassVar[str] = "Local only"
    summary: ClassVar[str] = "floor: every client alone, mean over their networks; nothing travels"
    hyperparameters: ClassVar[type[Hyperparameters]] = LocalTraining
    uplink_kind: ClassVar[MessageKind | None] = None
    downlink_kind: ClassVar[MessageKind | None] = None
    server_model: ClassVar[bool] = False

    def init_client(self, ctx: ClientContext) -> State:
        return {"weights": ctx.networks.initial()}

    def init_server(self, ctx: Context) -> tuple[State, None]:
        return {}, None

    def client_round(self, state: State, downlink: None, ctx: ClientContext) -> tuple[State, None, ClientReport]:
        net = ctx.networks.load(state["weights"])
        values = {"train_loss": train_locally(net, ctx), "validation_accuracy": validate(net, ctx)}
        return {"weights": ctx.networks.weights(net)}, None, ClientReport(values)

    def server_round(self, state: State, uplinks: Mapping[int, None], ctx: Context) -> tuple[State, None, Diagnostics]:
        return {}, None, Diagnostics()

    def server_network(self, state: State, ctx: Context) -> nn.Module:
        raise NotImplementedError("there is no server; the run is measured on its clients' networks")

    def client_network(self, state: State, ctx: Context) -> nn.Module:
        """A client's own network."""
        return ctx.networks.load(state["weights"])


class Central(Local):
    """One network trained on the private data of all clients together, as if there were no reason not to."""

    name: ClassVar[str] = "central"
    title: ClassVar[str] = "Central"
    summary: ClassVar[str] = "ceiling: one network on all clients' data pooled; nothing travels"
    pooled: ClassVar[bool] = True
