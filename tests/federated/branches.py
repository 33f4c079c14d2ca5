"""A method whose clients get and return one branch of the network each, chosen by the server, for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from spikefed.federated import Context, MessageKind, NetworkFactory, State, by_branch
from spikefed.federated.methods.fedopt import FedAdam
from spikefed.networks.roles import WEIGHT
from spikefed.wire import Message


class Branches(FedAdam):
    """FedAdam in which a client is sent one weighted layer, another in every round, and the normalisations."""

    name: ClassVar[str] = "branches"
    summary: ClassVar[str] = "every client trains the layer that the server sends it"
    uplink_kind: ClassVar[MessageKind | None] = "selected-weights"
    downlink_kind: ClassVar[MessageKind | None] = "selected-weights"

    def maskable(self, hyper: Any, networks: NetworkFactory) -> frozenset[str]:
        return frozenset(name for name, role in networks.roles.items() if role == WEIGHT)

    def addressed(self, state: State, downlink: Message, client: int, ctx: Context) -> Message:
        layers = list(dict.fromkeys(name.partition(".")[0] for name in downlink.kept))
        mine = by_branch(downlink.tensors, layers[(client + downlink.round) % len(layers)])
        return replace(downlink, kept={name: np.full(m.shape, name in mine) for name, m in downlink.kept.items()})
