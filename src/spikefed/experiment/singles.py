"""Batches of one: an own network may have a norm that cannot work on them, which is said before anything is trained."""

from __future__ import annotations

import torch
from torch import nn

from spikefed import data
from spikefed.errors import ConfigError
from spikefed.experiment.config import Experiment
from spikefed.networks import copy_tensors, load_tensors
from spikefed.seeding import seeded


def check_singles(config: Experiment, split: data.FederatedSplit, net: nn.Module, shape: tuple[int, ...]) -> None:
    """Refuse batches of one that the network cannot be trained on.

    Args:
        net: it is left as it was.
        shape: of one input, time included.

    Raises:
        ConfigError: names the client, its samples and the batch.
    """
    hyper = config.hyper()
    batch = getattr(hyper, "local_batch", 2)
    held = [len(indices.train) for indices in split.clients]
    alone = next((client for client, count in enumerate(held) if count == 1 or (count and batch == 1)), None)
    rows = len(split.public_images)
    pick = getattr(hyper, "distil_batch", None)
    distils = pick is not None and (pick == 1 or rows == 1)
    if (alone is None and not distils) or not _refuses(net, shape):
        return
    if alone is not None:
        count = held[alone]
        raise ConfigError(
            f"network '{config.network.name}' normalises over the batch and cannot be trained on one item alone, but "
            f"client {alone} has {count} training item{'s' * (count != 1)} and training.local_batch is {batch}; "
            "give it more, raise training.local_batch, or use another norm"
        )
    raise ConfigError(
        f"network '{config.network.name}' normalises over the batch and cannot be trained on one item alone, but "
        f"method.distil_batch is {pick} of {rows} public rows; raise it, or use another norm"
    )


def _refuses(net: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether a training step on one item fails where one on two does not."""
    before = copy_tensors(net)
    was_training = net.training
    device = next(net.parameters(), torch.empty(0)).device
    try:
        with torch.no_grad(), seeded(0):
            net.train()
            draws = torch.Generator().manual_seed(0)
            net(torch.rand(2, *shape).to(device), generator=draws)
            try:
                net(torch.rand(1, *shape).to(device), generator=draws)
            except ValueError as error:
                return "more than 1 value per channel" in str(error)
            return False
    except Exception:  # what else is wrong with it is for others to say
        return False
    finally:
        net.train(was_training)
        load_tensors(net, before)
