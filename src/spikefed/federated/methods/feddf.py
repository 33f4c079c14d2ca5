"""FedDF: Lin et al., "Ensemble Distillation for Robust Model Fusion in Federated Learning", NeurIPS 2020.

The server averages the clients' weights, as FedAvg does, and then teaches the average what all their networks together
say of the public set (Algorithm 1: the mean of their outputs, softened, is the teacher). It costs the bytes of FedAvg;
the public set stays at the server.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from spikefed.errors import ConfigError
from spikefed.federated.contract import Context, Hyperparameters
from spikefed.federated.methods.fedavg import FedAvg, FedAvgHyperparameters, Sent
from spikefed.federated.setup import Setup
from spikefed.training import optimiser, outputs, train


class FedDfHyperparameters(FedAvgHyperparameters):
    """Hyperparameters of FedDF beside those of FedAvg."""

    server_epochs: int = Field(default=5, ge=0, description="epochs of distillation at the server; 0: FedAvg")
    distil_lr: float = Field(default=1e-3, gt=0, le=1e3, description="its learning rate, Adam [FedDF: 1e-3]")
    distil_batch: int = Field(default=50, ge=1, description="public rows of one of its steps [FedDF: 128]")
    rate_scale: float = Field(
        default=4.0,
        gt=0,
        description="factor on firing rates before the softmax; the rates of a spiking readout end at 1",
    )


class FedDf(FedAvg):
    """FedAvg whose server distils the clients' ensemble into the average."""

    name: ClassVar[str] = "feddf"
    title: ClassVar[str] = "FedDF"
    summary: ClassVar[str] = "FedAvg, then the server's network is taught by all clients' on the public set"
    hyperparameters: ClassVar[type[Hyperparameters]] = FedDfHyperparameters
    public_rows: ClassVar[Literal["nobody", "server", "everyone"]] = "server"

    def check(self, hyper: FedDfHyperparameters, setup: Setup) -> None:
        if hyper.merge != "mean":
            raise ConfigError(f"method.merge = '{hyper.merge}' is not for feddf, whose clients all teach; leave it out")
        if hyper.send != "all":
            raise ConfigError(
                "feddf runs the clients' networks at the server and needs them whole; leave out method.send"
            )
        super().check(hyper, setup)

    def combine(self, sent: Sent, before: dict[str, Tensor], ctx: Context) -> dict[str, Tensor]:
        mean = super().combine(sent, before, ctx)
        hyper: FedDfHyperparameters = ctx.hyper
        if not len(ctx.public) or not hyper.server_epochs:
            return mean
        taught = self._ensemble(sent, ctx)
        net = ctx.networks.load(mean)
        scale = hyper.rate_scale

        def loss(spikes: Tensor, teacher: Tensor) -> Tensor:
            return F.kl_div(F.log_softmax(scale * spikes.mean(dim=0), dim=1), teacher, reduction="batchmean")

        train(
            net, ctx.public, taught, loss, optimiser(net, "adam", hyper.distil_lr, 0.0, 0.0),
            epochs=hyper.server_epochs, batch_size=hyper.distil_batch, preprocess=ctx.preprocess,
            generator=ctx.generator, shuffle=hyper.shuffle,
        )  # fmt: skip
        return ctx.networks.weights(net)

    @staticmethod
    def _ensemble(sent: Sent, ctx: Context) -> Tensor:
        """What all clients together say of the public set: probabilities, float32 ``[P, C]``."""
        total = torch.zeros(())
        for client in sorted(sent.tensors):
            net = ctx.networks.load(sent.tensors[client])
            told = outputs(net, ctx.public, preprocess=ctx.preprocess, generator=ctx.generator)
            total = total + told.mean(dim=2)
        return F.softmax(ctx.hyper.rate_scale * total / len(sent.tensors), dim=1)
