"""A method with masks that change, for tests of what masks promise: averaging under magnitude pruning."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from spikefed.federated import ClientContext, Context, MessageKind, NetworkFactory, State
from spikefed.federated.methods.fedavg import FedAvg
from spikefed.federated.methods.fedopt import FedAdam
from spikefed.federated.methods.fedprox import FedProx
from spikefed.networks.roles import WEIGHT
from spikefed.training import Mask

FIRST, FACTOR, EVERY = 0.6, 0.7, 2
"""Share of every weight tensor that stays in round 1, what stays of it at a change, rounds between two changes."""


def kept_after(round: int) -> float:
    """Share that stays in the round after this one."""
    return FIRST * FACTOR ** (round // EVERY)


class Pruned:
    """Mixed in before an averaging method: the mask of the largest weights, a new one after every second round."""

    uplink_kind: ClassVar[MessageKind | None] = "selected-weights"
    downlink_kind: ClassVar[MessageKind | None] = "selected-weights"

    def maskable(self, hyper: Any, networks: NetworkFactory) -> frozenset[str]:
        tensors = networks.initial()
        return frozenset(n for n, role in networks.roles.items() if role == WEIGHT and tensors[n].dim() > 1)

    def next_mask(self, state: State, ctx: Context) -> Mask:
        if "mask" in state and ctx.round % EVERY:
            return Mask(state["mask"])
        return largest(state["weights"], self.maskable(ctx.hyper, ctx.networks), kept_after(ctx.round))


class Personal:
    """Mixed in before an averaging method: every client prunes for itself, after each of its rounds."""

    uplink_kind: ClassVar[MessageKind | None] = "selected-weights"
    downlink_kind: ClassVar[MessageKind | None] = "selected-weights"
    maskable = Pruned.maskable

    def own_masks(self, hyper: Any) -> bool:
        return True

    def next_own_mask(self, state: State, ctx: ClientContext) -> Mask:
        if "own_mask" in state and ctx.round % EVERY:
            return Mask(state["own_mask"])
        share = kept_after(ctx.round) - 0.05 * ctx.client
        return largest(state["weights"], self.maskable(ctx.hyper, ctx.networks), share)


def largest(weights: dict[str, torch.Tensor], names: frozenset[str], share: float) -> Mask:
    """The mask of this share of every tensor, its largest entries."""
    kept = {}
    for name in (name for name in weights if name in names):
        size = weights[name].abs().reshape(-1)
        mask = torch.zeros(size.shape, dtype=torch.bool)
        mask[size.argsort(descending=True, stable=True)[: round(share * len(size))]] = True
        kept[name] = mask.reshape(weights[name].shape)
    return Mask(kept)


class PrunedFedAvg(Pruned, FedAvg):
    """FedAvg under a mask."""

    name: ClassVar[str] = "pruned-fedavg"
    summary: ClassVar[str] = "FedAvg of what magnitude pruning leaves"


class PrunedFedProx(Pruned, FedProx):
    """FedProx under a mask."""

    name: ClassVar[str] = "pruned-fedprox"
    summary: ClassVar[str] = "FedProx of what magnitude pruning leaves"


class PrunedFedAdam(Pruned, FedAdam):
    """FedAdam under a mask."""

    name: ClassVar[str] = "pruned-fedadam"
    summary: ClassVar[str] = "FedAdam of what magnitude pruning leaves"


class PersonalFedAvg(Personal, FedAvg):
    """FedAvg whose clients prune for themselves."""

    name: ClassVar[str] = "personal-fedavg"
    summary: ClassVar[str] = "FedAvg over what each client's own pruning leaves"


class BothFedAvg(Personal, Pruned, FedAvg):
    """Masks of the server's and of every client's own, one within the other."""

    name: ClassVar[str] = "both-fedavg"
    summary: ClassVar[str] = "FedAvg over what the server's and a client's own pruning leave"
