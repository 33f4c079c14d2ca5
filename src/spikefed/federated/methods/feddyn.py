"""FedDyn: Acar et al., "Federated Learning Based on Dynamic Regularization", ICLR 2021.

Each client's loss gets a linear and a quadratic term, renewed every round, so that the minima of all clients' losses
agree where the sum of their losses has its minimum. What travels is what FedAvg sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.federated.averaging import Downlink, Uplink
from spikefed.federated.contract import ClientContext, ClientReport, Context, Diagnostics, Hyperparameters, State
from spikefed.federated.local import train_locally
from spikefed.federated.messages import from_wire
from spikefed.federated.methods.fedavg import FedAvg, FedAvgHyperparameters
from spikefed.federated.methods.fedopt import trained
from spikefed.federated.setup import Setup
from spikefed.training import Mask

TAKING_PART = "taking_part"
"""In the state that `FedDyn.step` is given: how many clients sent something this round."""


class FedDynHyperparameters(FedAvgHyperparameters):
    """Hyperparameters of FedDyn beside those of FedAvg."""

    alpha: float = Field(
        default=0.01, gt=0, le=1e3, description="weight of the dynamic terms [FedDyn: tuned in 0.001, 0.01, 0.1]"
    )


@dataclass(frozen=True)
class FedDynContext(ClientContext):
    """A client's context with the gradient that it keeps, by parameter."""

    gradient: Mapping[str, Tensor]


class FedDyn(FedAvg):
    """Clients minimise L_k(w) - <g_k, w> + alpha/2 ||w - x||^2 with g_k -= alpha (w - x); x = mean w - h / alpha."""

    name: ClassVar[str] = "feddyn"
    title: ClassVar[str] = "FedDyn"
    summary: ClassVar[str] = "FedAvg with a dynamic regulariser that aligns the clients' minima"
    hyperparameters: ClassVar[type[Hyperparameters]] = FedDynHyperparameters

    def check(self, hyper: FedDynHyperparameters, setup: Setup) -> None:
        if hyper.send != "all":
            raise ConfigError("feddyn regularises all parameters; leave out method.send")
        if hyper.payload_down != "weights":
            raise ConfigError("feddyn keeps no global weights at a client; leave method.payload_down at 'weights'")
        super().check(hyper, setup)

    def client_round(
        self, state: State, downlink: Downlink | None, ctx: ClientContext
    ) -> tuple[State, Uplink, ClientReport]:
        start = ctx.networks.initial() if downlink is None else from_wire(downlink.tensors)
        gradient = state.get("gradient") or {
            n: torch.zeros_like(t) for n, t in start.items() if trained(n, t, ctx.networks)
        }
        _, uplink, report = super().client_round({}, downlink, ctx.widened(FedDynContext, gradient=gradient))
        sent = from_wire(uplink.tensors)
        moved = sent if ctx.hyper.payload == "change" else {n: sent[n] - start[n] for n in gradient}
        kept = {name: old - ctx.hyper.alpha * moved[name] for name, old in gradient.items()}
        return {"gradient": kept}, uplink, report

    def train(self, net: nn.Module, ctx: ClientContext, mask: Mask | None = None) -> float:
        assert isinstance(ctx, FedDynContext)
        alpha = ctx.hyper.alpha
        parameters = dict(net.named_parameters())
        pairs = [(parameters[n], g.to(parameters[n].device)) for n, g in ctx.gradient.items()]
        start = [p.detach().clone() for p, _ in pairs]

        def dynamic(outputs: Tensor, labels: Tensor) -> Tensor:
            terms = [
                0.5 * alpha * (p - x).square().sum() - (g * p).sum() for (p, g), x in zip(pairs, start, strict=True)
            ]
            return torch.stack(terms).sum()

        return train_locally(net, ctx, extra=dynamic, mask=mask)

    def step(self, state: State, merged: dict[str, Tensor], ctx: Context) -> tuple[dict[str, Tensor], State]:
        """h -= alpha / N sum_k (w_k - x) over those of N clients that took part; x = mean - h / alpha."""
        before = state["weights"]
        old = state.get("h", {})
        taking_part = state[TAKING_PART]
        share = taking_part / (ctx.clients or taking_part)
        new = dict(merged)
        h = {}
        for name, tensor in merged.items():
            if trained(name, tensor, ctx.networks):
                moved = tensor.double() - before[name].double()
                h[name] = old.get(name, torch.zeros_like(moved)) - ctx.hyper.alpha * share * moved
                new[name] = (tensor.double() - h[name] / ctx.hyper.alpha).to(tensor.dtype)
        return new, {"h": h}

    def server_round(
        self, state: State, uplinks: Mapping[int, Uplink], ctx: Context
    ) -> tuple[State, Downlink, Diagnostics]:
        return super().server_round({**state, TAKING_PART: len(uplinks)}, uplinks, ctx)
