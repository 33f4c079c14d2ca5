"""SCAFFOLD: Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020.

A client adds c - c_i to every gradient: c is the mean gradient of all clients, c_i its own, each as of its last round,
so that a local step goes where the federation's would. Published, c travels down and the change of c_i up, which
doubles the bytes both ways. The change of c_i is a function of what the server holds anyway (option II: the client's
weights, those it began with, the number and size of its steps), so here it does not travel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.federated.averaging import Downlink, Uplink
from spikefed.federated.contract import (
    ClientContext,
    ClientReport,
    Context,
    Diagnostics,
    Hyperparameters,
    NetworkFactory,
    State,
)
from spikefed.federated.local import learning_rate, local_steps, train_locally
from spikefed.federated.messages import from_wire, to_wire
from spikefed.federated.methods.fedavg import FedAvg, FedAvgHyperparameters
from spikefed.federated.methods.fedopt import trained
from spikefed.federated.setup import Setup
from spikefed.federated.traffic import Exchange
from spikefed.training import Mask

CONTROL = "control/"
"""Before the name of a tensor: its entries of c in a downlink."""


class ScaffoldHyperparameters(FedAvgHyperparameters):
    """Hyperparameters of SCAFFOLD: those of FedAvg, with the local SGD that its control variates are made of."""

    optimiser: Literal["adam", "adamw", "sgd"] = Field(default="sgd", description="optimiser [SCAFFOLD: SGD]")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="momentum [SCAFFOLD: none]")


@dataclass(frozen=True)
class ScaffoldContext(ClientContext):
    """A client's context with what it adds to its gradients, c - c_i by parameter."""

    correction: Mapping[str, Tensor]


class Scaffold(FedAvg):
    """FedAvg whose clients correct each gradient by c - c_i (option II of Algorithm 1, server step size 1)."""

    name: ClassVar[str] = "scaffold"
    title: ClassVar[str] = "SCAFFOLD"
    summary: ClassVar[str] = "FedAvg with control variates against client drift"
    hyperparameters: ClassVar[type[Hyperparameters]] = ScaffoldHyperparameters

    def check(self, hyper: ScaffoldHyperparameters, setup: Setup) -> None:
        if hyper.optimiser != "sgd" or hyper.momentum:
            raise ConfigError(
                "scaffold's control variates are mean gradients, which only steps of plain SGD tell: set "
                "training.optimiser = 'sgd' and training.momentum = 0"
            )
        for key, value, only in (("merge", hyper.merge, "mean"), ("payload_down", hyper.payload_down, "weights")):
            if value != only:
                raise ConfigError(f"method.{key} = '{value}' is not for scaffold; leave it at '{only}'")
        if hyper.send != "all":
            raise ConfigError("scaffold corrects all parameters; leave out method.send")
        super().check(hyper, setup)

    def exchanges(self, hyper: Any, shape: tuple[int, int, int], networks: NetworkFactory) -> tuple[Exchange, Exchange]:
        up, down = super().exchanges(hyper, shape, networks)
        return up, dataclasses.replace(down, notes=_notes(_zeros(networks)))

    # The client's side.

    def client_round(
        self, state: State, downlink: Downlink | None, ctx: ClientContext
    ) -> tuple[State, Uplink, ClientReport]:
        control = _zeros(ctx.networks)
        start = ctx.networks.initial()
        if downlink is not None:
            received = from_wire(downlink.tensors)
            control = {name: received[CONTROL + name] for name in control}
            start = {name: tensor for name, tensor in received.items() if not name.startswith(CONTROL)}
            downlink = dataclasses.replace(downlink, tensors=to_wire(start))
        own = state.get("control") or _zeros(ctx.networks)
        correction = {name: control[name] - own[name] for name in control}
        _, uplink, report = super().client_round({}, downlink, ctx.widened(ScaffoldContext, correction=correction))
        moved = _movement(from_wire(uplink.tensors), start, ctx.hyper.payload)
        steps = _step_sum(ctx, len(ctx.train))
        own = {name: own[name] + _change(control[name], moved[name], steps) for name in control}
        return {"control": own}, uplink, report

    def train(self, net: nn.Module, ctx: ClientContext, mask: Mask | None = None) -> float:
        assert isinstance(ctx, ScaffoldContext)
        parameters = dict(net.named_parameters())
        pairs = [(parameters[name], term) for name, term in ctx.correction.items()]

        def pull(outputs: Tensor, labels: Tensor) -> Tensor:
            # Its gradient is the correction itself.
            return torch.stack([(p * term.to(p.device)).sum() for p, term in pairs]).sum()

        return train_locally(net, ctx, extra=pull, mask=mask)

    # The server's side.

    def init_server(self, ctx: Context) -> tuple[State, Downlink | None]:
        state, downlink = super().init_server(ctx)
        control = _zeros(ctx.networks)
        return {**state, "control": control, "heard": []}, _with_control(downlink, control)

    def server_round(
        self, state: State, uplinks: Mapping[int, Uplink], ctx: Context
    ) -> tuple[State, Downlink, Diagnostics]:
        before = state["weights"]
        after, downlink, diagnostics = super().server_round({"weights": before}, uplinks, ctx)
        control = {name: tensor.double() for name, tensor in state["control"].items()}
        heard = sorted({*state["heard"], *uplinks})
        total = ctx.clients or len(heard)
        for client in sorted(uplinks):
            uplink = uplinks[client]
            moved = _movement(from_wire(uplink.tensors), before, ctx.hyper.payload)
            steps = _step_sum(ctx, uplink.samples)
            for name, old in state["control"].items():
                control[name] += _change(old, moved[name], steps).double() / total
        new = {name: tensor.float() for name, tensor in control.items()}
        told = _with_control(downlink, new)
        assert told is not None
        return {**after, "control": new, "heard": heard}, told, diagnostics


def _zeros(networks: NetworkFactory) -> dict[str, Tensor]:
    """A zero for every entry of the trained parameters."""
    return {n: torch.zeros_like(t) for n, t in networks.initial().items() if trained(n, t, networks)}


def _notes(control: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {CONTROL + name: array for name, array in to_wire(control).items()}


def _with_control(downlink: Downlink | None, control: Mapping[str, Tensor]) -> Downlink | None:
    if downlink is None:
        return None
    return dataclasses.replace(downlink, tensors={**downlink.tensors, **_notes(control)})


def _movement(sent: Mapping[str, Tensor], start: Mapping[str, Tensor], payload: str) -> dict[str, Tensor]:
    """x - y_i, from the weights that a client sent, or from their change."""
    if payload == "change":
        return {name: -tensor for name, tensor in sent.items()}
    return {name: start[name] - tensor for name, tensor in sent.items()}


def _step_sum(ctx: Context, samples: int) -> float:
    """K eta: the local steps of a client times their size; 0 without any."""
    return local_steps(ctx.hyper, samples) * learning_rate(ctx.hyper, ctx.round)


def _change(control: Tensor, moved: Tensor, steps: float) -> Tensor:
    """c_i+ - c_i = -c + (x - y_i) / (K eta) of one parameter; nothing where no step was taken."""
    return moved / steps - control if steps else torch.zeros_like(control)
