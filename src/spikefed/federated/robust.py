"""Votes and means that a few lying clients cannot move far: pure functions over ``{client: array}``.

Sums run in the order of client numbers, so the order of arrival cannot change a bit. What each rule withstands, with n
clients of which f lie (a liar may send anything, and knows what the others send):

* median, trimmed (Yin et al., "Byzantine-Robust Distributed Learning", ICML 2018): where the honest clients agree and
  n > 2f, no position of a vote can be flipped, and a mean stays inside the range of the honest values.
* clipped: a claimed accuracy buys no more than the median client's; against false claims alone, not false spikes.
* agreement: a client that contradicts most others loses its say, on every position at once; needs n > 2f + 1, since a
  client's own reference is the median over the *others*.
* Krum (Blanchard et al., NeurIPS 2017): takes one client's weights whole; its theorem asks for n > 2f + 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

Vote = Literal["weighted", "median", "trimmed", "clipped", "agreement"]
Merge = Literal["mean", "median", "trimmed", "krum"]


def weighted_mean(
    arrays: Mapping[int, np.ndarray], weights: Mapping[int, float], dtype: type[np.float64] | None = None
) -> np.ndarray:
    """sum_i w_i x_i in float64, in the order of client numbers; ``weights`` should sum to 1.
    All arrays have one shape, the result's.

    Args:
        dtype: what numbers are turned to before they are weighted, one client at a time; None leaves them as they are
            (then products of float32 are rounded to float32).
    """
    clients = sorted(arrays)
    merged = np.zeros(np.shape(arrays[clients[0]]), dtype=np.float64)
    for client in clients:
        merged += weights[client] * (arrays[client] if dtype is None else arrays[client].astype(dtype))
    return merged


def coordinate_median(arrays: Mapping[int, np.ndarray]) -> np.ndarray:
    """Median over clients of each number, float64; for spikes 0, 0.5 (a tie of an even number of clients) or 1.

    All arrays have one shape, the result's.
    """
    return np.median(_stacked(arrays), axis=0)


def trimmed_mean(arrays: Mapping[int, np.ndarray], liars: int) -> np.ndarray:
    """Mean over clients of each number without its ``liars`` largest and smallest values, float64.

    With 2 ``liars`` clients or fewer as many are cut as leave one or two values: the median.
    All arrays have one shape, the result's.
    """
    stack = np.sort(_stacked(arrays), axis=0)
    cut = min(liars, (len(stack) - 1) // 2)
    return stack[cut : len(stack) - cut].mean(axis=0)


def clipped_accuracies(accuracies: Mapping[int, float]) -> dict[int, float]:
    """Accuracies no higher than their median: a claim of 1 weighs as much as the client in the middle."""
    ceiling = float(np.median(list(accuracies.values())))
    return {client: min(accuracy, ceiling) for client, accuracy in accuracies.items()}


def agreements(arrays: Mapping[int, np.ndarray]) -> dict[int, float]:
    """How far each client agrees with the others: median over them of the correlation, in [-1, 1].

    Correlation and not the share of equal spikes: spikes are sparse, so silence alone would agree nine times in ten. A
    constant array correlates with nothing (0). Of two clients both get their one correlation; one alone gets 1.
    """
    clients = sorted(arrays)
    if len(clients) == 1:
        return {clients[0]: 1.0}
    rows = np.stack([np.asarray(arrays[c], dtype=np.float32).reshape(-1) for c in clients])
    rows -= rows.mean(axis=1, keepdims=True, dtype=np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(norms > 0, norms, 1.0)
    correlation = (rows @ rows.T).astype(np.float64)
    others = ~np.eye(len(clients), dtype=bool)
    return {c: float(np.median(correlation[i, others[i]])) for i, c in enumerate(clients)}


def agreement_weights(arrays: Mapping[int, np.ndarray], weights: Mapping[int, float]) -> dict[int, float]:
    """``weights`` times the square of each client's agreement, which counts as 0 where negative; sums to 1.

    When nobody agrees with anybody the weights stay as they are. All arrays have one shape.
    """
    trust = {client: max(0.0, a) ** 2 for client, a in agreements(arrays).items()}
    total = sum(weights[client] * trust[client] for client in sorted(weights))
    if total <= 0.0:
        return dict(weights)
    return {client: weights[client] * trust[client] / total for client in weights}


def vote(
    arrays: Mapping[int, np.ndarray], weights: Mapping[int, float], how: Vote = "weighted", liars: int = 1
) -> tuple[np.ndarray, dict[int, float]]:
    """Merge spikes, counts or probabilities of the same shape by a rule.

    Args:
        arrays: one array a client, all of one shape: spikes ``[N, C, T]``, counts or probabilities ``[N, C]``, label
            shares from `one_hot`.
        weights: the method's own merge weights, summing to 1. ``clipped`` expects those of `clipped_accuracies`.
        how: the rule; ``median`` and ``trimmed`` give every client one voice and ignore ``weights``.
        liars: clients assumed to lie, f (``trimmed``).

    Returns:
        the merged array, float64, and the weight that each client had in it.
    """
    uniform = dict.fromkeys(sorted(arrays), 1.0 / len(arrays))
    if how == "median":
        return coordinate_median(arrays), uniform
    if how == "trimmed":
        return trimmed_mean(arrays, liars), uniform
    used = agreement_weights(arrays, weights) if how == "agreement" else dict(weights)
    return weighted_mean(arrays, used), used


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Hard labels int ``[N]`` as shares ``[N, C]`` that `vote` merges; a missing label (-1) is an equal share each.

    A label vote is then the largest merged share: `np.argmax(merged, axis=1)`, ties to the smaller class.
    """
    labels = np.asarray(labels)
    shares = np.zeros((len(labels), classes))
    known = labels >= 0
    shares[known, labels[known]] = 1.0
    shares[~known] = 1.0 / classes
    return shares


def normalised(merged: np.ndarray) -> np.ndarray:
    """Rows ``[N, C]`` that sum to 1 again (a median of distributions does not); a row of zeros becomes uniform."""
    total = merged.sum(axis=1, keepdims=True)
    return np.where(total > 0, merged / np.where(total > 0, total, 1.0), 1.0 / merged.shape[1])


def squared_distances(tensors: Mapping[int, Mapping[str, np.ndarray]]) -> tuple[list[int], np.ndarray]:
    """Client numbers, ascending, and the squared distances ``[n, n]`` of their floating tensors, as one vector each."""
    clients = sorted(tensors)
    total = np.zeros((len(clients), len(clients)))
    for name, first in tensors[clients[0]].items():
        if np.issubdtype(first.dtype, np.floating):
            rows = np.stack([np.asarray(tensors[c][name], dtype=np.float64).reshape(-1) for c in clients])
            for i in range(len(clients)):
                total[i] += np.square(rows - rows[i]).sum(axis=1)
    return clients, total


def krum(tensors: Mapping[int, Mapping[str, np.ndarray]], liars: int) -> int:
    """The client whose n - f - 2 nearest others are nearest in sum (Krum, section 3); ties to the smaller number.

    Fewer than f + 3 clients: the single nearest other decides. The theorem needs n > 2f + 2: with four clients and one
    liar the choice is honest as long as the liar stays farther from all honest ones than two of them are apart.
    Clients' tensors have the same shapes.
    """
    clients, distances = squared_distances(tensors)
    if len(clients) == 1:
        return clients[0]
    near = max(1, len(clients) - liars - 2)
    np.fill_diagonal(distances, np.inf)
    scores = np.sort(distances, axis=1)[:, :near].sum(axis=1)
    return clients[int(np.argmin(scores))]


def merge_tensors(
    tensors: Mapping[int, Mapping[str, np.ndarray]], weights: Mapping[int, float], how: Merge, liars: int = 1
) -> tuple[dict[str, np.ndarray], dict[int, float]]:
    """Merge state tensors by a rule; integer tensors (batch counters) get the rounded result.
    Clients' tensors have the same shapes, the result's.

    Args:
        tensors: state tensors by client and name.
        weights: weights of ``mean``, summing to 1; the other rules give every client one voice.
        how: the rule.
        liars: clients assumed to lie, f (``trimmed``, ``krum``).

    Returns:
        merged tensors in their own dtypes, and the weight that each client had.
    """
    clients = sorted(tensors)
    if how == "krum":
        chosen = krum(tensors, liars)
        return dict(tensors[chosen]), {c: float(c == chosen) for c in clients}
    merged: dict[str, np.ndarray] = {}
    for name, first in tensors[clients[0]].items():
        column = {c: tensors[c][name] for c in clients}
        if how == "mean":
            value = weighted_mean(column, weights)
        else:
            value = coordinate_median(column) if how == "median" else trimmed_mean(column, liars)
        merged[name] = (value if np.issubdtype(first.dtype, np.floating) else np.rint(value)).astype(first.dtype)
    used = dict(weights) if how == "mean" else dict.fromkeys(clients, 1.0 / len(clients))
    return merged, used


def _stacked(arrays: Mapping[int, np.ndarray]) -> np.ndarray:
    return np.stack([np.asarray(arrays[client], dtype=np.float64) for client in sorted(arrays)])
