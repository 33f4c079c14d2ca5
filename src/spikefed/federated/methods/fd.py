"""FD: Jeong et al., "Communication-Efficient On-Device Machine Learning: Federated Distillation and Augmentation under
Non-IID Private Data", 2018 (arXiv 1811.11479).

No public set and no server model. A client uploads the mean output of its network for each label it has; the server
averages per label; a client's loss pulls every sample's output towards the mean that the *other* clients have for that
sample's label.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

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
from spikefed.federated.traffic import Exchange
from spikefed.training import outputs
from spikefed.wire import ClassMeansDownlink, ClassMeansUplink


class FdHyperparameters(LocalTraining):
    """Hyperparameters of FD beside those of local training."""

    gamma: float = Field(default=1.0, ge=0, description="weight of the pull towards the others' means [unknown: ours]")
    others_only: bool = Field(default=True, description="leave the client's own upload out of its means [FD: true]")


def class_means(rates: Tensor, labels: Tensor, classes: int) -> np.ndarray:
    """Mean output per label, float32 ``[C, C]``; a row of NaN for a label without samples."""
    sums = torch.zeros(classes, rates.shape[1], dtype=torch.float64).index_add_(0, labels, rates.double())
    counts = torch.bincount(labels, minlength=classes).unsqueeze(1)
    return torch.where(counts > 0, sums / counts, torch.nan).float().numpy()


def without_own(means: np.ndarray, counts: np.ndarray, own: np.ndarray | None) -> np.ndarray:
    """Means over the other clients: ``[C, C]``; NaN for a label that nobody else has.

    Args:
        means: over all clients that have the label.
        counts: ``[C]``, how many those are.
        own: this client's part of ``means``, or None when it took no part.
    """
    if own is None:
        return means
    mine = np.asarray(np.isfinite(own).all(axis=1))
    rest = counts - mine
    sums = np.where(counts[:, None] > 0, means, 0.0) * counts[:, None] - np.where(mine[:, None], own, 0.0)
    return np.where(rest[:, None] > 0, sums / np.maximum(rest, 1)[:, None], np.nan)


class Fd(Method):
    """Per-class mean outputs both ways. The downlink's last column counts the clients behind each row."""

    name: ClassVar[str] = "fd"
    title: ClassVar[str] = "FD"
    summary: ClassVar[str] = "mean output per class, no public set, no server model"
    hyperparameters: ClassVar[type[Hyperparameters]] = FdHyperparameters
    uplink_kind: ClassVar[MessageKind | None] = "class-means"
    downlink_kind: ClassVar[MessageKind | None] = "class-means"
    server_model: ClassVar[bool] = False

    def exchanges(
        self, hyper: FdHyperparameters, shape: tuple[int, int, int], networks: NetworkFactory
    ) -> tuple[Exchange, Exchange]:
        _, classes, _ = shape
        return Exchange("class-means", (classes, classes, 0)), Exchange("class-means", (classes, classes + 1, 0))

    def init_client(self, ctx: ClientContext) -> State:
        return {"weights": ctx.networks.initial()}

    def init_server(self, ctx: Context) -> tuple[State, None]:
        return {}, None

    def client_round(
        self, state: State, downlink: ClassMeansDownlink | None, ctx: ClientContext
    ) -> tuple[State, ClassMeansUplink, ClientReport]:
        hyper: FdHyperparameters = ctx.hyper
        net = ctx.networks.load(state["weights"])
        pull = None
        if downlink is not None and hyper.gamma:
            means = downlink.means[:, :-1].astype(np.float64)
            counts = np.nan_to_num(downlink.means[:, -1])
            # Its own part is in the means only if it took part in the round that they come from.
            own = state.get("means") if hyper.others_only and state.get("round") == downlink.round - 1 else None
            goals = without_own(means, counts, own)
            pull = self._pull(goals if ctx.outputs is None else goals[np.ix_(ctx.outputs, ctx.outputs)], hyper.gamma)
        values = {"train_loss": train_locally(net, ctx, extra=pull)}
        rates = outputs(
            net, ctx.train.images, preprocess=ctx.preprocess, generator=ctx.generator, train_bn=hyper.train_bn_at_eval
        ).mean(dim=2)
        means = class_means(rates, ctx.train.labels, rates.shape[1])
        uplink = ClassMeansUplink(ctx.round, ctx.client, means, validate(net, ctx))
        kept = {"weights": ctx.networks.weights(net), "means": means, "round": ctx.round}
        return kept, uplink, ClientReport(values)

    @staticmethod
    def _pull(means: np.ndarray, gamma: float):
        """The loss term; ``means`` ``[C, C]``, of the outputs that the loss sees."""
        known = torch.as_tensor(np.isfinite(means).all(axis=1))
        goals = torch.as_tensor(np.nan_to_num(means).astype(np.float32))

        def loss(outputs: Tensor, labels: Tensor) -> Tensor:
            use = known.to(labels.device)[labels].to(outputs.dtype)
            distance = F.mse_loss(outputs.mean(dim=0), goals.to(labels.device)[labels], reduction="none").sum(dim=1)
            return gamma * (use * distance).mean()

        return loss

    def server_round(
        self, state: State, uplinks: Mapping[int, ClassMeansUplink], ctx: Context
    ) -> tuple[State, ClassMeansDownlink, Diagnostics]:
        parts = np.stack([uplinks[c].means for c in sorted(uplinks)]).astype(np.float64)  # [clients, C, C]
        has = np.asarray(np.isfinite(parts).all(axis=2))
        counts = has.sum(axis=0)
        means = np.where(has[:, :, None], parts, 0.0).sum(axis=0) / np.maximum(counts, 1)[:, None]
        message = np.concatenate([means, counts[:, None]], axis=1)
        message[counts == 0] = np.nan
        values = {"classes_known": float((counts > 0).sum())}
        return {}, ClassMeansDownlink(ctx.round + 1, message.astype(np.float32)), Diagnostics(values)

    def repeated(self, downlink: ClassMeansDownlink, round: int, ctx: Context) -> ClassMeansDownlink | None:
        """The downlink of a round after one that changed nothing: none where clients take their own part out of it.

        A client that took part in the round between has replaced that part by a newer one.
        """
        return None if ctx.hyper.others_only else dataclasses.replace(downlink, round=round)

    def server_network(self, state: State, ctx: Context) -> nn.Module:
        raise NotImplementedError("FD has no server model; the run is measured on its clients' networks")

    def client_network(self, state: State, ctx: Context) -> nn.Module:
        """A client's own network."""
        return ctx.networks.load(state["weights"])
