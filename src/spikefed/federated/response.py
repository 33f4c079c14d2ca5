"""Randomised response on spikes, and what it promises: Warner, JASA 1965; Kairouz, Oh, Viswanath, ICML 2015.

Each bit is told with probability e^eps / (1 + e^eps) and flipped otherwise, so what is uploaded of one spike changes
its odds by at most e^eps: (eps, 0) local differential privacy, against the server too. THE UNIT IS ONE SPIKE OF ONE
PUBLIC ROW IN ONE ROUND. It is neither a private image nor a client: one private image can move every spike of every
row, and the guarantee for k spikes together is the composition below, which is worth something for small k only.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch

Source = Literal["system", "seeded"]


def flip_probability(epsilon: float) -> float:
    """p = 1 / (1 + e^eps)."""
    return 1.0 / (1.0 + math.exp(epsilon))


def respond(spikes: np.ndarray, epsilon: float, random: Callable[[int], bytes]) -> np.ndarray:
    """Spikes uint8 of 0/1 with every bit flipped with probability ``flip_probability``, independently.

    32 random bits decide each spike, and the probability is rounded up to a multiple of 2^-32: never less private.
    The shape stays.
    """
    draws = np.frombuffer(random(4 * spikes.size), dtype="<u4").reshape(spikes.shape)
    return spikes ^ (draws < math.ceil(flip_probability(epsilon) * 2**32)).astype(np.uint8)


def unbiased(share: np.ndarray, epsilon: float) -> np.ndarray:
    """The estimate of a share of spikes in [0, 1] from the share after randomised response, clipped to [0, 1].

    E[told] = p + (1 - 2p) s, so s = (told - p) / (1 - 2p); whether it exceeds 0.5 does not change.
    """
    p = flip_probability(epsilon)
    return np.clip((share - p) / (1.0 - 2.0 * p), 0.0, 1.0)


def noise_source(kind: Source, generator: torch.Generator) -> Callable[[int], bytes]:
    """Gives random bytes. ``system``: the operating system's. ``seeded``: from the step's generator.

    Whoever knows the experiment's seed can undo seeded noise: it repeats a measurement and protects nothing.
    """
    if kind == "seeded":
        return np.random.default_rng(int(torch.randint(0, 2**62, (1,), generator=generator))).bytes
    return os.urandom


def composed_epsilon(epsilon: float, count: int, delta: float) -> float:
    """The eps' for which ``count`` independent randomised responses are (eps', delta) private together.

    Optimal composition (Kairouz et al., theorem 3.3): eps'_i = (k - 2i) eps holds with
    delta_i = sum_{l < i} C(k, l) (e^((k-l) eps) - e^((k-2i+l) eps)) / (1 + e^eps)^k; the largest i with
    delta_i <= delta is taken. For randomised response itself this is exact, not a bound.

    Args:
        epsilon: of one response, >= 0.
        count: k >= 0 responses.
        delta: in [0, 1).
    """
    if count <= 0 or epsilon == 0:
        return 0.0
    log_one = math.log1p(math.exp(-epsilon))  # log(1 + e^eps) = eps + this
    log_delta = math.log(delta) if delta > 0 else -math.inf
    low, high = 0, count // 2
    while low < high:  # delta_i rises with i
        middle = (low + high + 1) // 2
        if _log_delta(epsilon, count, middle, log_one) <= log_delta:
            low = middle
        else:
            high = middle - 1
    return (count - 2 * low) * epsilon


def _log_delta(epsilon: float, k: int, i: int, log_one: float) -> float:
    """log delta_i; terms in logarithms, since C(k, l) e^(k eps) overflows. -inf for i = 0."""
    if i == 0:
        return -math.inf
    l = np.arange(i, dtype=np.float64)  # noqa: E741  (the paper's letter)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, k + 1)))])
    whole = np.arange(i)
    choose = log_factorial[k] - log_factorial[whole] - log_factorial[k - whole]
    # e^((k-l) eps) - e^((k-2i+l) eps), over (1 + e^eps)^k
    terms = choose - l * epsilon + np.log1p(-np.exp(-2.0 * (i - l) * epsilon)) - k * log_one
    top = terms.max()
    return float(top + np.log(np.exp(terms - top).sum()))


def account(epsilon: float, delta: float, row_spikes: int, rounds: int) -> dict[str, float]:
    """The promise after some rounds, for the metrics file.

    Args:
        epsilon: of one spike in one round.
        delta: chance that the composed promise fails.
        row_spikes: C * T, spikes of one public row.
        rounds: rounds so far, the present one included; taken as if the client had uploaded in all of them.
    """
    return {
        "response_epsilon": epsilon,
        "response_delta": delta,
        "response_flip_probability": flip_probability(epsilon),
        "epsilon_spike_all_rounds": composed_epsilon(epsilon, rounds, delta),
        "epsilon_row_one_round": composed_epsilon(epsilon, row_spikes, delta),
        "epsilon_row_all_rounds": composed_epsilon(epsilon, row_spikes * rounds, delta),
    }
