"""Answers about the public rows, as FSD+ sends, remembers and merges them: few bits a train, a vote row by row."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from spikefed.wire import LabelDownlink, LabelUplink, SpikeDownlink, SpikeUplink
from spikefed.wire.partial import lead
from spikefed.wire.rows import MISSING
from spikefed.wire.share import Share


def group_spikes(spikes: np.ndarray, groups: int) -> np.ndarray:
    """Trains ``[N, C, T]`` as ``[N, C, groups]``: 1 where at least half of a group's steps fired."""
    n, c, t = spikes.shape
    counts = spikes.reshape(n, c, groups, t // groups).sum(axis=3, dtype=np.int64)
    return (2 * counts >= t // groups).astype(np.uint8)


def most_active(spikes: np.ndarray) -> np.ndarray:
    """The class of ``[N, C, T]`` that fires most, the smaller number among equals; int64 ``[N]``."""
    return spikes.sum(axis=2, dtype=np.float64).argmax(axis=1)


def trains(message: SpikeUplink | SpikeDownlink | LabelUplink | LabelDownlink) -> np.ndarray:
    """What a message says as uint8 ``[N, C, G]``; a label is one bit for its class, a missing one none."""
    if isinstance(message, LabelUplink | LabelDownlink):
        return np.eye(message.classes + 1, message.classes, dtype=np.uint8)[message.labels][:, :, None]
    return message.spikes


def coprime(count: int) -> int:
    """A step of about 0.618 ``count`` that visits all of 0..count-1."""
    return next(s for s in range(max(1, int(count * 0.618)), 2 * count + 2) if math.gcd(s, count) == 1)


def answered_rows(total: int, share: float, client: int, round: int) -> np.ndarray:
    """The rows that a client answers for in a round, ascending; both ends compute them.

    Clients take consecutive stretches of one fixed order of the rows and jump on each round, so that few rows are
    answered twice in a round, a few clients soon answer for all rows,
    and each of them has done so after 1 / share rounds.

    Args:
        total: N, rows of the public set.
        share: part of them to answer, above 0 and at most 1.
        client: who answers.
        round: its number, from 1.
    """
    if share >= 1.0:
        return np.arange(total)
    count = max(1, math.floor(share * total + 0.5))
    stretches = -(-total // count)
    start = (client + (round - 1) * coprime(stretches)) % stretches * count
    stride = coprime(total)  # an order that mixes the set
    return np.sort((np.arange(start, start + count) * stride) % total)


def answered_share(total: int, share: float, round: int, client: int) -> Share | None:
    """``answered_rows`` for the wire, which predicts a row from what it holds of it; None: all rows.

    Args:
        total: N, rows of the public set.
        share: part of them to answer, above 0 and at most 1.
        round: its number, from 1.
        client: who answers.
    """
    return Share(answered_rows(total, share, client, round), total) if share < 1.0 else None


def confidences(answers: np.ndarray) -> np.ndarray:
    """How sure a client is of each row: lead of its most active class over the next, in [0, 1]; float64 ``[N]``."""
    rates = np.sort(answers.mean(axis=2, dtype=np.float64), axis=1)
    return rates[:, -1] - (rates[:, -2] if rates.shape[1] > 1 else 0.0)


def labels_of(spikes: np.ndarray, abstain: float) -> np.ndarray:
    """The most active class of each row, `MISSING` in silence and at a lead below ``abstain``; int64 ``[N]``."""
    # Whole spikes against a share of T, which need not be one in floating point.
    named = spikes.any(axis=(1, 2)) & (lead(spikes) >= abstain * spikes.shape[2] - 1e-6)
    return np.where(named, most_active(spikes), MISSING)


def sharpened(merged: np.ndarray, gamma: float) -> np.ndarray:
    """s^g / (s^g + (1 - s)^g): 0, 0.5 and 1 stay, all else moves away from 0.5. The shape stays."""
    if gamma == 1.0:
        return merged
    up, down = merged**gamma, (1.0 - merged) ** gamma
    return up / (up + down)


def vote_rows(
    answers: Mapping[int, np.ndarray], known: Mapping[int, np.ndarray], weights: Mapping[int, float], confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean over the clients that have answered for a row.

    Args:
        answers: uint8 ``[P, C, G]`` by client, silent where unknown.
        known: bool ``[P]`` by client.
        weights: merge weight by client.
        confidence: exponent scale of a client's confidence in the row.

    Returns:
        merged float64 ``[P, C, G]``, and bool ``[P]``: rows for which anybody of any weight answered.
    """
    clients = sorted(answers)
    total = np.zeros(len(next(iter(known.values()))))
    merged = np.zeros(next(iter(answers.values())).shape)
    for client in clients:
        share = weights[client] * known[client] * np.exp(confidence * (confidences(answers[client]) - 1.0))
        merged += share[:, None, None] * answers[client]
        total += share
    # Not whether a client knows the row: its weight may have vanished beside another's at a small tau_w.
    heard = total > 0
    return merged / np.where(heard, total, 1.0)[:, None, None], heard
