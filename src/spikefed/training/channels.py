"""Which channels go: one after the other, until few enough weights are left."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from spikefed.errors import ConfigError
from spikefed.networks import Row
from spikefed.training.masks import Mask


def channel_scores(row: Row, scores: Mapping[str, Tensor]) -> list[Tensor]:
    """Of single weights' scores, by name, the mean over those that lead into a channel: ``[C]`` a hidden layer."""
    return [scores[row.weight(place)].flatten(1).mean(1) for place in range(len(row.names) - 1)]


def mask_of_best_channels(
    row: Row,
    scores: list[Tensor],
    sparsity: float,
    within: Mask | None = None,
    operations: Mapping[str, Tensor] | None = None,
    keep: float = 0.0,
) -> Mask:
    """The mask without the channels of the smallest scores: at most ``1 - sparsity`` of all entries stay.

    Channels go one by one. The weights that a channel takes along are those that are
    still there, and so are its operations.

    Args:
        row: of the network.
        scores: at least 0, ``[C]`` a hidden layer.
        sparsity: share of all entries under the mask that goes, in [0, 1].
        within: an earlier such mask; what it took stays away.
        operations: by weight name, ``[1, Cin, k, k]`` or ``[1, in]``: the score is then divided by those that go with
            the channel, into it and out of it.
        keep: share of its channels that every layer keeps, and one at least.

    Raises:
        ConfigError: what layers keep is more than is to be left.
    """
    alive = [torch.ones(len(s), dtype=torch.bool) for s in scores] if within is None else row.alive(within.kept)
    masks = row.mask(alive)
    total = sum(kept.numel() for kept in masks.values())
    most = round((1 - sparsity) * total)
    meets = None if operations is None else [_by_input(row, place, operations) for place in range(len(row.names))]
    while sum(int(kept.sum()) for kept in masks.values()) > most:
        told = [s if meets is None else _over(s, _saved(row, place, alive, meets)) for place, s in enumerate(scores)]
        open_ = [s if int(s.sum()) > fewest(len(s), keep) else torch.zeros_like(s) for s in alive]
        if not any(bool(o.any()) for o in open_):
            raise ConfigError(too_sparse(row, sparsity, keep))
        lowest = [torch.where(o, t.double(), torch.inf) for o, t in zip(open_, told, strict=True)]
        place = min(range(len(lowest)), key=lambda p: float(lowest[p].min()))
        alive[place][int(lowest[place].argmin())] = False
        masks = row.mask(alive)
    return Mask(masks)


def fewest(channels: int, keep: float) -> int:
    """Channels that a layer of so many keeps at least."""
    return max(1, math.ceil(keep * channels))


def too_sparse(row: Row, sparsity: float, keep: float) -> str:
    """What is wrong with a sparsity that the channels every layer keeps do not allow; empty where they do."""
    masks = row.mask([torch.arange(channels) < fewest(channels, keep) for channels in row.channels[:-1]])
    total = sum(kept.numel() for kept in masks.values())
    left = sum(int(kept.sum()) for kept in masks.values())
    if left <= round((1 - sparsity) * total):
        return ""
    return (
        f"the channels that every layer keeps (method.keep_channels = {keep:g}) are {100 * left / total:.2f} % of the "
        f"entries, and a sparsity of {sparsity:g} leaves fewer; set a lower one"
    )


def _by_input(row: Row, place: int, operations: Mapping[str, Tensor]) -> Tensor:
    """Operations of one output channel through the weights from each input channel, ``[Cin]`` float64."""
    met = operations[row.weight(place)].double()
    channels = row.channels[place - 1] if place else met.shape[1]
    return met.reshape(channels, -1).sum(1)


def _saved(row: Row, place: int, alive: list[Tensor], meets: list[Tensor]) -> Tensor:
    """Operations that go with each channel of a layer, as the others stand: ``[C]`` float64."""
    into = meets[place].sum() if not place else meets[place][alive[place - 1]].sum()
    readers = alive[place + 1].sum() if place + 1 < len(alive) else row.channels[-1]
    return into + meets[place + 1] * readers


def _over(scores: Tensor, saved: Tensor) -> Tensor:
    return scores.double() / saved.clamp_min(torch.finfo(torch.float64).tiny)
