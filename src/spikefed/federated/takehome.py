"""What a client takes home: how good its own network is after its step of a round, and how good all are together.

Measured beside the server's network on the same test set, so that a federation whose server falls behind what its
clients hold shows it. Nothing here steers a round or travels: it needs all clients in one process (or its workers).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

MEAN = "clients_accuracy_mean"
LEAST = "clients_accuracy_least"
MOST = "clients_accuracy_most"
VOTE = "vote_accuracy"
KEYS = (MEAN, LEAST, MOST, VOTE)
"""Keys of a round's metrics, all in [0, 1]."""


@dataclass(frozen=True)
class TakeHome:
    """One client's own network on the test set.

    Attributes:
        accuracy: share of images that it got right, in [0, 1].
        scores: mean outputs over the T steps, float32 ``[N, C]``.
    """

    accuracy: float
    scores: Tensor


def measured(scores: Tensor, labels: Tensor) -> TakeHome:
    """What scores ``[N, C]`` are worth on labels ``[N]``; the first class wins a tie, as everywhere."""
    return TakeHome(_accuracy(scores, labels), scores)


def together(taken: Mapping[int, TakeHome], labels: Tensor) -> dict[str, float | None]:
    """The round's metrics: mean, least and most over the clients, and their vote.

    The vote is the class with the highest mean of all clients' scores, every client alike; `probes.Accuracy` measures
    the same ensemble. None throughout where no client ended its step.

    Args:
        taken: by client.
        labels: of the test set, int64 ``[N]``.
    """
    if not taken:
        return dict.fromkeys(KEYS)
    own = [taken[client].accuracy for client in sorted(taken)]
    scores = torch.zeros_like(next(iter(taken.values())).scores)
    for client in sorted(taken):  # a sum of floats must not depend on who answered first
        scores += taken[client].scores
    return {MEAN: fmean(own), LEAST: min(own), MOST: max(own), VOTE: _accuracy(scores / len(taken), labels)}


def _accuracy(scores: Tensor, labels: Tensor) -> float:
    return float((scores.argmax(dim=1) == labels).sum()) / max(len(labels), 1)
