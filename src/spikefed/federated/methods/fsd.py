"""Federal SNN Distillation: Liu, Zhan, Xie, Wang, Liu, J. Phys. Conf. Ser. 2216 (2022) 012078, Algorithm 1.

A client uploads the output spikes of its network on the shared public set and its validation accuracy. The server
averages
the spikes weighted by accuracy (eq. 3), distils its own network on the average, rounds the average and sends it back.
Every choice that the paper leaves open is a field below and a row of `docs/deviations.md`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
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
from spikefed.federated.robust import Vote, clipped_accuracies, vote, weighted_mean
from spikefed.training import CrossTerm, distillation_loss, optimiser, output_spikes, train
from spikefed.wire import SpikeDownlink, SpikeUplink


class FsdHyperparameters(LocalTraining):
    """Hyperparameters of FSD beside those of local training."""

    distil_epochs: int = Field(default=5, ge=0, description="client epochs on (X_p, S_g) per round [FSD 4.1.2: 5]")
    server_epochs: int = Field(default=5, ge=0, description="server epochs on (X_p, S_g) per round [FSD 4.1.2: 5]")
    distil_batch: int = Field(default=50, ge=1, description="public rows per distillation step [FSD authors' code: 50]")
    distil_lr: float = Field(
        default=1e-3, gt=0, le=1e3, description="learning rate of distillation [FSD 4.1.3: 1e-5, our default 1e-3]"
    )
    lambda_: float = Field(
        default=0.1, ge=0, alias="lambda", description="weight of L_F in eq. 4 [unknown; authors' code: 1]"
    )
    cross_normalise: Literal["sum", "softmax"] = Field(default="sum", description="normalisation of p [code: softmax]")
    cross_direction: Literal["paper", "reversed"] = Field(
        default="paper", description="direction of L_F [code: reversed]"
    )
    cross_reduction: Literal["mean", "sum"] = Field(default="mean", description="L_F over samples [code: sum]")
    cross_axis: Literal["time", "batch"] = Field(
        default="time", description="axis that p averages over [released code: batch]"
    )
    tau_w: float = Field(default=1.0, ge=1e-3, description="temperature of softmax over accuracies in eq. 3 [paper: 1]")
    vote: Vote = Field(default="weighted", description="how spikes are merged [paper: weighted]; see docs/privacy.md")
    liars: int = Field(default=1, ge=0, description="clients assumed to lie, vote 'trimmed'")
    tie: Literal["silent", "fire"] = Field(
        default="silent", description="Round at exactly 0.5 [code: half to even, so silent]"
    )
    client_reset: Literal["common", "own", "never"] = Field(
        default="common",
        description="weights a client restarts from each round: the common initial ones, its own, or its last",
    )
    server_targets: Literal["soft", "rounded"] = Field(
        default="soft", description="what the server distils on [paper: soft]"
    )
    optimiser_state: Literal["discard", "keep"] = Field(
        default="discard", description="Adam state between phases of one kind [authors' code: discard]"
    )
    model_config = {**LocalTraining.model_config, "populate_by_name": True}


def merge_weights(accuracies: Mapping[int, float], tau_w: float = 1.0) -> dict[int, float]:
    """w = softmax(acc / tau_w) over clients (text above eq. 3); float64, sums to 1."""
    clients = sorted(accuracies)
    logits = np.array([accuracies[c] for c in clients], dtype=np.float64) / tau_w
    powers = np.exp(logits - logits.max())
    return dict(zip(clients, (powers / powers.sum()).tolist(), strict=True))


def merge_spikes(spikes: Mapping[int, np.ndarray], weights: Mapping[int, float]) -> np.ndarray:
    """S_g = sum_i w_i S_i (eq. 3): float64 ``[N, C, T]`` in [0, 1], summed in the order of client numbers."""
    return weighted_mean(spikes, weights)


def round_spikes(merged: np.ndarray, tie: str = "silent") -> np.ndarray:
    """S_g := Round(S_g) (Algorithm 1, line 11): uint8 0/1; exactly 0.5 is silent, or fires with ``tie="fire"``."""
    return (merged >= 0.5 if tie == "fire" else merged > 0.5).astype(np.uint8)


def distil(
    net: nn.Module, target: Tensor, epochs: int, ctx: Context, optim: torch.optim.Optimizer | None = None
) -> float:
    """Train ``net`` in place on (X_p, S_g) with the loss of eq. 4; returns the last epoch's mean loss.

    Args:
        target: float32 ``[P, C, T]``, spikes or their average.
    """
    hyper: FsdHyperparameters = ctx.hyper
    cross = CrossTerm(hyper.cross_normalise, hyper.cross_direction, hyper.cross_reduction, hyper.cross_axis)
    return train(
        net,
        ctx.public,
        target,
        lambda spikes, goal: distillation_loss(spikes, goal, hyper.lambda_, cross),
        optim or distil_optimiser(net, hyper),
        epochs=epochs,
        batch_size=hyper.distil_batch,
        preprocess=ctx.preprocess,
        generator=ctx.generator,
        shuffle=hyper.shuffle,
    )


def distil_optimiser(net: nn.Module, hyper: FsdHyperparameters) -> torch.optim.Optimizer:
    """A fresh optimiser of the distillation phase."""
    return optimiser(net, hyper.optimiser, hyper.distil_lr, hyper.momentum, hyper.weight_decay)


def resumed(optim: torch.optim.Optimizer, state: State, key: str) -> torch.optim.Optimizer:
    """``optim`` with the moments kept under ``key``, if the round before left any."""
    if key in state:
        # Copies: the optimiser updates what it is given in place, and a step must not change the state it got.
        moments = {int(index): copy.deepcopy(entry) for index, entry in state[key].items()}
        optim.load_state_dict({"state": moments, "param_groups": optim.state_dict()["param_groups"]})
    return optim


def moments(optim: torch.optim.Optimizer) -> State:
    """The optimiser's moments as a state entry."""
    return {str(index): dict(entry) for index, entry in optim.state_dict()["state"].items()}


class Fsd:
    """Algorithm 1 of the paper; numbers in comments are its lines as listed in the specification."""

    name: ClassVar[str] = "fsd"
    summary: ClassVar[str] = "output spikes on a public set, accuracy-weighted average, distillation"
    hyperparameters: ClassVar[type[Hyperparameters]] = FsdHyperparameters
    uplink_kind: ClassVar[MessageKind] = "spikes"
    downlink_kind: ClassVar[MessageKind] = "spikes"

    def init_client(self, ctx: ClientContext) -> State:
        return {}

    def init_server(self, ctx: Context) -> tuple[State, None]:
        return {"weights": ctx.networks.initial()}, None

    def client_round(
        self, state: State, downlink: SpikeDownlink | None, ctx: ClientContext
    ) -> tuple[State, SpikeUplink, ClientReport]:
        hyper: FsdHyperparameters = ctx.hyper
        # 1: reset the client's network
        if hyper.client_reset == "never" and "weights" in state:
            net = ctx.networks.load(state["weights"])
        else:
            net = ctx.networks.load(ctx.networks.initial(None if hyper.client_reset == "common" else ctx.seed))
        keep = hyper.optimiser_state == "keep"
        kept: State = {}
        values = {}
        # 2-3: distil on the voted spikes; the first epoch has none
        if downlink is not None:
            optim = distil_optimiser(net, hyper)
            optim = resumed(optim, state, "distil_moments") if keep else optim
            target = torch.from_numpy(downlink.spikes.astype(np.float32))
            values["distil_loss"] = distil(net, target, hyper.distil_epochs, ctx, optim)
            kept |= {"distil_moments": moments(optim)} if keep else {}
        # 4: train on D_iT
        optim = optimiser(net, hyper.optimiser, hyper.lr, hyper.momentum, hyper.weight_decay)
        optim = resumed(optim, state, "local_moments") if keep else optim
        values["train_loss"] = train_locally(net, ctx, optim)
        kept |= {"local_moments": moments(optim)} if keep else {}
        # 5: S_i = SNN(X_p)
        spikes = output_spikes(
            net, ctx.public, preprocess=ctx.preprocess, generator=ctx.generator, train_bn=hyper.train_bn_at_eval
        )
        values["firing_rate"] = float(spikes.mean()) if spikes.size else 0.0
        # 6: accuracy on D_iV
        accuracy = validate(net, ctx)
        # 7: upload
        uplink = SpikeUplink(ctx.round, ctx.client, spikes, accuracy, ctx.public_set_id)
        if hyper.client_reset == "never":
            kept["weights"] = ctx.networks.weights(net)
        return kept, uplink, ClientReport(values)

    def server_round(
        self, state: State, uplinks: Mapping[int, SpikeUplink], ctx: Context
    ) -> tuple[State, SpikeDownlink, Diagnostics]:
        hyper: FsdHyperparameters = ctx.hyper
        # 9: weighted average of the clients' spikes, or the robust vote that the config names
        accuracies = {c: u.accuracy for c, u in uplinks.items()}
        weights = merge_weights(clipped_accuracies(accuracies) if hyper.vote == "clipped" else accuracies, hyper.tau_w)
        merged, weights = vote({c: u.spikes for c, u in uplinks.items()}, weights, hyper.vote, hyper.liars)
        rounded = round_spikes(merged, hyper.tie)
        # 10: distil the server's network, never reset
        net = ctx.networks.load(state["weights"])
        optim = distil_optimiser(net, hyper)
        keep = hyper.optimiser_state == "keep"
        optim = resumed(optim, state, "moments") if keep else optim
        goal = merged if hyper.server_targets == "soft" else rounded
        loss = distil(net, torch.from_numpy(goal.astype(np.float32)), hyper.server_epochs, ctx, optim)
        new_state: State = {"weights": ctx.networks.weights(net)} | ({"moments": moments(optim)} if keep else {})
        # 11-12: round and send
        downlink = SpikeDownlink(ctx.round + 1, rounded, ctx.public_set_id)
        agreement = float(np.mean(np.maximum(merged, 1.0 - merged))) if merged.size else 1.0
        values = {"server_distil_loss": loss, "agreement": agreement, "global_firing_rate": float(rounded.mean())}
        return new_state, downlink, Diagnostics(values, weights)

    def server_network(self, state: State, ctx: Context) -> nn.Module:
        return ctx.networks.load(state["weights"])
