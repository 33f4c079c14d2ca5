"""FedDF: Lin et al., "Ensemble Distillation for Robust Model Fusion in Federated Learning", NeurIPS 2020.

The server averages the clients' weights, as FedAvg does, and then teaches the average what all their networks together
say of the public set (Algorithm 1: the mean of their outputs, softened, is the teacher). It costs the bytes of FedAvg;
the public set stays at the server.

With ``rows = "generator"`` the server needs no public set: it makes images that the clients' networks together
recognise (DENSE, Zhang et al., NeurIPS 2022; `spikefed.data.generator`), and teaches on these.
"""

from __future__ import annotations

import copy
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from spikefed.data import Ensemble, SynthesisPlan, synthesise
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
    rows: Literal["public", "generator"] = Field(
        default="public",
        json_schema_extra={"since": "0.2"},
        description="what the clients' networks teach on: the public set, or images that a 'generator' makes, which "
        "learns at the server from these networks alone [DENSE]",
    )
    made_rows: int = Field(
        default=1000, ge=1, json_schema_extra={"since": "0.2"}, description="images that the server makes"
    )
    made_steps: int = Field(
        default=100, ge=1, json_schema_extra={"since": "0.2"}, description="gradient steps of each 250 [DENSE: 30]"
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
        rows = ctx.public if hyper.rows == "public" else self._made(sent, ctx)
        taught = self._ensemble(sent, rows, ctx)
        net = ctx.networks.load(mean)
        scale = hyper.rate_scale

        def loss(spikes: Tensor, teacher: Tensor) -> Tensor:
            return F.kl_div(F.log_softmax(scale * spikes.mean(dim=0), dim=1), teacher, reduction="batchmean")

        train(
            net, rows, taught, loss, optimiser(net, "adam", hyper.distil_lr, 0.0, 0.0),
            epochs=hyper.server_epochs, batch_size=hyper.distil_batch, preprocess=ctx.preprocess,
            generator=ctx.generator, shuffle=hyper.shuffle,
        )  # fmt: skip
        return ctx.networks.weights(net)

    @staticmethod
    def _made(sent: Sent, ctx: Context) -> Tensor:
        """Images ``[made_rows, C, H, W]`` that the clients' networks together recognise."""
        hyper: FedDfHyperparameters = ctx.hyper
        nets = [copy.deepcopy(ctx.networks.load(sent.tensors[client])).cpu().eval() for client in sorted(sent.tensors)]
        plan = SynthesisPlan("generator", hyper.made_rows, hyper.made_steps, temperature=1 / hyper.rate_scale)
        shape = tuple(ctx.public.shape[1:])
        with torch.no_grad():
            classes = nets[0](ctx.preprocess(ctx.public[:1]), generator=ctx.generator).shape[-1]
        seed = int(torch.randint(2**31, (), generator=ctx.generator))
        made = synthesise(Ensemble(nets), plan, shape=shape, classes=classes, preprocess=ctx.preprocess, seed=seed)
        return made.images

    @staticmethod
    def _ensemble(sent: Sent, rows: Tensor, ctx: Context) -> Tensor:
        """What all clients together say of some rows: probabilities, float32 ``[P, C]``."""
        total = torch.zeros(())
        for client in sorted(sent.tensors):
            net = ctx.networks.load(sent.tensors[client])
            told = outputs(net, rows, preprocess=ctx.preprocess, generator=ctx.generator)
            total = total + told.mean(dim=2)
        return F.softmax(ctx.hyper.rate_scale * total / len(sent.tensors), dim=1)
