"""Who gains from federating: the run's network, and each client's own, on data that are that client's."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from spikefed.experiment.federation import Federation
from spikefed.federated import Labelled, Server
from spikefed.federated.randomness import EVALUATE, generator
from spikefed.training import evaluate


def own_test(federation: Federation, client: int) -> Labelled:
    """Items that nobody trains on and that are this client's: its share ``data.own_test``, else its test part."""
    split = federation.split
    test = federation.test
    if len(split.clients[client].test):
        return federation.labelled(split.clients[client].test)
    owners = test.columns.get(federation.config.data.by)
    rows = np.flatnonzero(owners.astype(str) == split.names[client]) if split.names and owners is not None else []
    index = torch.as_tensor(rows, dtype=torch.int64)
    return Labelled(test.images[index], test.labels[index])


def people(federation: Federation, server: Server) -> list[dict[str, Any]]:
    """A row a client, where clients are people or have test data of their own.

    Returns:
        rows of ``client`` (its number), ``name``, ``items`` (train and validation), ``test_items`` of its own;
        ``accuracy`` of the run's network on these, ``own_accuracy`` of the client's own network on these, and
        ``own_on_test`` of the client's own network on the run's test set; None where there is no such network or set.
    """
    split = federation.split
    tests = {c: own_test(federation, c) for c in range(len(split.clients))}
    if not split.names and not any(map(len, tests.values())):
        return []
    shared: dict[int, float | None] = {}
    if server.has_model:
        net = server.network()
        shared = {client: _accuracy(federation, net, held, client) for client, held in tests.items()}
    everybody = Labelled(federation.test.images, federation.test.labels)
    own = {
        c: (_accuracy(federation, net, tests[c], c), _accuracy(federation, net, everybody, c))
        for c, net in server.client_networks()
        if c in tests
    }
    return [
        {
            "client": client,
            "name": split.names[client] if split.names else str(client),
            "items": len(split.clients[client].train) + len(split.clients[client].validation),
            "test_items": len(held),
            "accuracy": shared.get(client),
            "own_accuracy": own.get(client, (None, None))[0],
            "own_on_test": own.get(client, (None, None))[1],
        }
        for client, held in tests.items()
    ]


def _accuracy(federation: Federation, net: nn.Module, held: Labelled, client: int) -> float | None:
    if not len(held):
        return None
    return evaluate(
        net,
        held.images,
        held.labels,
        preprocess=federation.preprocess,
        generator=generator(federation.config.seed, EVALUATE, 0, 2 + client),
        train_bn=getattr(federation.config.hyper(), "train_bn_at_eval", False),
    ).accuracy
