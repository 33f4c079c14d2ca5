"""Server optimisers: Hsu et al. 2019 (FedAvgM); Reddi et al., "Adaptive Federated Optimization", ICLR 2021.

The clients' mean change is a pseudo-gradient for the server's optimiser. Only trained tensors take its step; running
statistics and counters are averaged, as an Adam step on a variance could make it negative.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from spikefed.federated.contract import Context, Hyperparameters, NetworkFactory, State
from spikefed.federated.methods.fedavg import FedAvg, FedAvgHyperparameters
from spikefed.networks.roles import BN_STATS, FROZEN


class FedAvgMHyperparameters(FedAvgHyperparameters):
    """Hyperparameters of FedAvgM beside those of FedAvg."""

    server_lr: float = Field(default=1.0, gt=0, description="server step size eta [FedAvgM: 1]")
    server_momentum: float = Field(default=0.9, ge=0, lt=1, description="momentum of the mean change [Hsu et al.: 0.9]")


class AdaptiveHyperparameters(FedAvgHyperparameters):
    """Hyperparameters of the adaptive server optimisers; defaults as in Flower's strategies."""

    server_lr: float = Field(default=0.1, gt=0, description="server step size eta [Flower: 0.1; FedYogi 0.01]")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="decay of the first moment [Reddi et al.: 0.9]")
    beta2: float = Field(default=0.99, ge=0, lt=1, description="decay of the second moment [Reddi et al.: 0.99]")
    tau: float = Field(default=1e-3, gt=0, description="degree of adaptivity, added to sqrt(v) [Reddi et al.: 1e-3]")


class FedYogiHyperparameters(AdaptiveHyperparameters):
    """Defaults of FedYogi."""

    server_lr: float = Field(default=0.01, gt=0, description="server step size eta [Flower: 0.01]")


class FedAdagradHyperparameters(AdaptiveHyperparameters):
    """Defaults of FedAdagrad."""

    beta1: float = Field(default=0.0, ge=0, lt=1, description="decay of the first moment [FedAdagrad: 0]")


def trained(name: str, tensor: Tensor, networks: NetworkFactory) -> bool:
    """Whether the server's optimiser may step on a tensor. Tensors of any shape."""
    kept = name in networks.buffers or networks.roles[name] in (BN_STATS, FROZEN)
    return tensor.is_floating_point() and not kept


class FedAvgM(FedAvg):
    """m = momentum m + Delta;  x += eta m."""

    name: ClassVar[str] = "fedavgm"
    title: ClassVar[str] = "FedAvgM"
    summary: ClassVar[str] = "FedAvg with momentum at the server"
    hyperparameters: ClassVar[type[Hyperparameters]] = FedAvgMHyperparameters

    def step(self, state: State, merged: dict[str, Tensor], ctx: Context) -> tuple[dict[str, Tensor], State]:
        before = state["weights"]
        old = state.get("m", {})
        new = dict(merged)
        m = {}
        for name, tensor in merged.items():
            if trained(name, tensor, ctx.networks):
                delta = tensor.double() - before[name].double()
                m[name] = ctx.hyper.server_momentum * old[name] + delta if name in old else delta
                new[name] = (before[name].double() + ctx.hyper.server_lr * m[name]).to(tensor.dtype)
        return new, {"m": m}


class _Adaptive(FedAvg):
    """m = b1 m + (1 - b1) Delta;  v by the variant;  x += eta m / (sqrt(v) + tau); moments start at 0, in float64."""

    hyperparameters: ClassVar[type[Hyperparameters]] = AdaptiveHyperparameters

    @staticmethod
    def second_moment(v: Tensor, square: Tensor, beta2: float) -> Tensor:
        """v after a change whose square is ``square``."""
        raise NotImplementedError

    def step(self, state: State, merged: dict[str, Tensor], ctx: Context) -> tuple[dict[str, Tensor], State]:
        hyper: AdaptiveHyperparameters = ctx.hyper
        before = state["weights"]
        old_m = state.get("m", {})
        old_v = state.get("v", {})
        new = dict(merged)
        m = {}
        v = {}
        for name, tensor in merged.items():
            if trained(name, tensor, ctx.networks):
                delta = tensor.double() - before[name].double()
                zero = torch.zeros_like(delta)
                m[name] = hyper.beta1 * old_m.get(name, zero) + (1 - hyper.beta1) * delta
                v[name] = self.second_moment(old_v.get(name, zero), delta.square(), hyper.beta2)
                move = hyper.server_lr * m[name] / (v[name].sqrt() + hyper.tau)
                new[name] = (before[name].double() + move).to(tensor.dtype)
        return new, {"m": m, "v": v}


class FedAdagrad(_Adaptive):
    """v += Delta^2."""

    name: ClassVar[str] = "fedadagrad"
    title: ClassVar[str] = "FedAdagrad"
    summary: ClassVar[str] = "FedAvg with Adagrad at the server"
    hyperparameters: ClassVar[type[Hyperparameters]] = FedAdagradHyperparameters

    @staticmethod
    def second_moment(v: Tensor, square: Tensor, beta2: float) -> Tensor:
        return v + square


class FedAdam(_Adaptive):
    """v = b2 v + (1 - b2) Delta^2."""

    name: ClassVar[str] = "fedadam"
    title: ClassVar[str] = "FedAdam"
    summary: ClassVar[str] = "FedAvg with Adam at the server"

    @staticmethod
    def second_moment(v: Tensor, square: Tensor, beta2: float) -> Tensor:
        return beta2 * v + (1 - beta2) * square


class FedYogi(_Adaptive):
    """v -= (1 - b2) Delta^2 sign(v - Delta^2)."""

    name: ClassVar[str] = "fedyogi"
    title: ClassVar[str] = "FedYogi"
    summary: ClassVar[str] = "FedAvg with Yogi at the server"
    hyperparameters: ClassVar[type[Hyperparameters]] = FedYogiHyperparameters

    @staticmethod
    def second_moment(v: Tensor, square: Tensor, beta2: float) -> Tensor:
        return v - (1 - beta2) * square * torch.sign(v - square)
