"""FedProx: Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from spikefed.federated.contract import ClientContext, Hyperparameters
from spikefed.federated.local import train_locally
from spikefed.federated.methods.fedavg import FedAvg, FedAvgHyperparameters
from spikefed.training import Mask


class FedProxHyperparameters(FedAvgHyperparameters):
    """Hyperparameters of FedProx beside those of FedAvg."""

    mu: float = Field(
        default=0.01, ge=0, description="weight of the proximal term [FedProx: tuned in 0.001, 0.01, 0.1, 1]"
    )


class FedProx(FedAvg):
    """FedAvg whose clients add mu/2 ||w - w_global||^2 over trained parameters to their loss."""

    name: ClassVar[str] = "fedprox"
    title: ClassVar[str] = "FedProx"
    summary: ClassVar[str] = "FedAvg with a pull of every client towards the global weights"
    hyperparameters: ClassVar[type[Hyperparameters]] = FedProxHyperparameters

    def train(self, net: nn.Module, ctx: ClientContext, mask: Mask | None = None) -> float:
        parameters = [p for p in net.parameters() if p.requires_grad]
        start = [p.detach().clone() for p in parameters]

        def proximal(outputs: Tensor, labels: Tensor) -> Tensor:
            distance = torch.stack([(p - w).square().sum() for p, w in zip(parameters, start, strict=True)]).sum()
            return 0.5 * ctx.hyper.mu * distance

        return train_locally(net, ctx, extra=proximal if ctx.hyper.mu else None, mask=mask)
