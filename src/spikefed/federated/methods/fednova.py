"""FedNova: Wang et al., "Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization",
NeurIPS 2020.

A client with more data takes more local steps and so pulls the mean further than its share. FedNova divides every
client's change by its steps before the mean, and multiplies the mean by the steps that the clients took on average.
Running statistics are averaged as they are: they are no sum of steps, and a scaled variance could become negative.
"""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from spikefed.errors import ConfigError
from spikefed.federated.contract import Context, Hyperparameters
from spikefed.federated.local import local_steps
from spikefed.federated.methods.fedavg import FedAvg, FedAvgHyperparameters, Sent
from spikefed.federated.methods.fedopt import trained
from spikefed.federated.selection import merge_selected
from spikefed.federated.setup import Setup


def effective_steps(hyper: FedAvgHyperparameters, samples: int) -> float:
    """||a_i||_1: how far a client's steps carry a constant gradient, in steps of plain SGD (section 4.2).

    Momentum rho makes tau steps [tau - rho (1 - rho^tau) / (1 - rho)] / (1 - rho) of them. Steps of Adam have one
    size whatever the gradient, and count as they are.
    """
    steps = local_steps(hyper, samples)
    rho = hyper.momentum if hyper.optimiser == "sgd" else 0.0
    return (steps - rho * (1.0 - rho**steps) / (1.0 - rho)) / (1.0 - rho)


class FedNova(FedAvg):
    """x += tau_eff sum_i p_i (y_i - x) / tau_i over trained parameters, with tau_eff = sum_i p_i tau_i (eq. 6)."""

    name: ClassVar[str] = "fednova"
    title: ClassVar[str] = "FedNova"
    summary: ClassVar[str] = "FedAvg of changes by the local step, so that more steps weigh no more"
    hyperparameters: ClassVar[type[Hyperparameters]] = FedAvgHyperparameters

    def check(self, hyper: FedAvgHyperparameters, setup: Setup) -> None:
        if hyper.merge != "mean":
            raise ConfigError(f"method.merge = '{hyper.merge}' is not for fednova, which is a mean; leave it out")
        super().check(hyper, setup)

    def combine(self, sent: Sent, before: dict[str, Tensor], ctx: Context) -> dict[str, Tensor]:
        plain = super().combine(sent, before, ctx)
        steps = {c: effective_steps(ctx.hyper, n) for c, n in sent.samples.items()}
        if len(set(steps.values())) == 1 or not all(steps.values()):
            return plain  # to the bit FedAvg; and without local steps there is nothing to divide by
        # tau_eff sum p_i d_i / tau_i  =  scale * sum q_i d_i, with shares q_i ~ p_i / tau_i that sum to 1.
        total = math.fsum(sent.weights[c] / steps[c] for c in steps)
        shares = {c: sent.weights[c] / steps[c] / total for c in steps}
        scale = math.fsum(sent.weights[c] * steps[c] for c in steps) * total
        normalised = merge_selected(sent.tensors, shares, before, sent.selections)
        new = dict(plain)
        for name, tensor in normalised.items():
            if trained(name, tensor, ctx.networks):
                old = before[name].double()
                new[name] = (old + scale * (tensor.double() - old)).to(tensor.dtype)
        return new
