"""A method with masks that change, for tests of what masks promise: averaging under magnitude pruning."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from spikefed.federated import Context, MessageKind, NetworkFactory, State
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
        kept = {}
        for name in self.maskable(ctx.hyper, ctx.networks):
            size = state["weights"][name].abs().reshape(-1)
            mask = torch.zeros(size.shape, dtype=torch.bool)
            mask[size.argsort(descending=True, stable=True)[: round(kept_after(ctx.round) * len(size))]] = True
            kept[name] = mask.reshape(state["weights"][name].shape)
        return Mask({name: kept[name] for name in state["weights"] if name in kept})


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
