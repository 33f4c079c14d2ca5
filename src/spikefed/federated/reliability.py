"""How far each client's word on each class can be trusted, found from the answers alone.

Dawid & Skene, "Maximum likelihood estimation of observer error-rates using the EM algorithm", Applied Statistics 28
(1979): of every observer it is counted how often he says what where the truth is what, the truth being what all
together say, weighed by just these counts; and once more. Here an observer is a client, an item a public row, and each
class is a yes or no of its own: P(client i fires for k | the row is of class c). A client that fires for boots on
every shoe, because it has never seen a sneaker, is then worth little against one that tells the two apart, however well
it does on the classes that it holds. Label counts never travel; no byte is added.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

WORDS = 0.01
"""Rows of common opinion that are added to what is counted of each class, as a share of the rows of an even class."""
RARE = 1e-3
"""Nothing is held to be less likely than this; so a single row proves nothing."""


def likelihoods(said: np.ndarray, known: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Log likelihood of what a client said of each row, were it of each class; float64 ``[P, C]``, 0 where unknown.

    Args:
        said: how much the client fired for each class, in [0, 1], ``[P, C]``.
        known: rows that it has answered for, bool ``[P]``.
        truth: how likely each class is on each row, ``[P, C]``; sums to 1.
    """
    some = max(int(known.sum()), 1)
    words = WORDS * some / truth.shape[1]
    usual = said[known].sum(axis=0) / some
    fires = (truth[known].T @ said[known] + words * usual) / (truth[known].sum(axis=0)[:, None] + words)
    fires = np.clip(fires, RARE, 1.0 - RARE)
    told = said @ np.log(fires).T + (1.0 - said) @ np.log1p(-fires).T
    return np.where(known[:, None], told, 0.0)


def reliable_vote(
    answers: Mapping[int, np.ndarray], known: Mapping[int, np.ndarray], passes: int, start: np.ndarray
) -> np.ndarray:
    """How likely each class is on each public row; float64 ``[P, C]``, each row sums to 1.

    Every class is held to be as frequent as any other: one that a poor start finds too often would only grow. And the
    log likelihoods of a row's clients are averaged, not summed: all have learned from one server, and err together.

    Args:
        answers: spikes by client, ``[P, C, G]``, silent where unknown.
        known: rows that each client has answered for, bool ``[P]``.
        passes: of counting and weighing, at least 1; the truth is looked for from ``start`` on.
        start: what is held to be true at first, at least 0, ``[P, C]``.
    """
    said = {client: answers[client].mean(axis=2, dtype=np.float64) for client in sorted(answers)}
    truth = (start + RARE) / (start + RARE).sum(axis=1, keepdims=True)
    voices = np.maximum(np.stack([known[client] for client in said]).sum(axis=0), 1)[:, None]
    for _ in range(passes):
        told = np.zeros_like(truth)
        for client in said:
            told += likelihoods(said[client], known[client], truth) / voices
        truth = np.exp(told - told.max(axis=1, keepdims=True))
        truth /= truth.sum(axis=1, keepdims=True)
    return truth
