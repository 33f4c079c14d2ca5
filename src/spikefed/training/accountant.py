"""What clipped, noisy steps on random batches spend: opacus' Renyi accountant behind two functions."""

from __future__ import annotations

import warnings
from typing import Any

from spikefed.errors import ConfigError

ORDERS = [1 + x / 10 for x in range(1, 100)] + list(range(12, 64))
"""Renyi orders that are tried; opacus' own."""


def spent(noise: float, share: float, steps: int, delta: float) -> float:
    """epsilon of (epsilon, delta)-differential privacy after so many steps (Abadi et al. 2016; Mironov et al. 2019).

    Args:
        noise: deviation of the noise in units of the clipping norm; 0 gives infinity.
        share: probability of each sample to be in a batch.
        steps: of the optimiser; 0 spends nothing.
        delta: below one over the number of samples.

    Raises:
        ConfigError: opacus is not installed.
    """
    if not steps:
        return 0.0
    if not noise:
        return float("inf")
    analysis = _opacus()
    rdp = analysis.compute_rdp(q=share, noise_multiplier=noise, steps=steps, orders=ORDERS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # at the first or last order the bound holds, and is a little loose
        epsilon, _ = analysis.get_privacy_spent(orders=ORDERS, rdp=rdp, delta=delta)
    return float(epsilon)


def noise_for(epsilon: float, share: float, steps: int, delta: float) -> float:
    """The least noise, to a hundredth, with which so many steps spend at most ``epsilon``.

    Args:
        epsilon: above 0.
        share: probability of each sample to be in a batch.
        steps: of the optimiser.
        delta: below one over the number of samples.

    Raises:
        ConfigError: opacus is not installed, or no noise up to 1,000 is enough.
    """
    low = 1
    high = 1
    while spent(high / 100, share, steps, delta) > epsilon:
        low = high
        high = 2 * high
        if high > 100_000:
            raise ConfigError(f"no noise keeps {steps} steps within epsilon {epsilon:g}; take fewer steps")
    while high - low > 1:
        middle = (low + high) // 2
        if spent(middle / 100, share, steps, delta) <= epsilon:
            high = middle
        else:
            low = middle
    return high / 100


def check_installed() -> None:
    """Raise ConfigError where opacus is missing."""
    _opacus()


def _opacus() -> Any:
    try:
        from opacus.accountants.analysis import rdp
    except ImportError as error:
        raise ConfigError(
            "counting differential privacy needs opacus, which is not installed; pip install 'spikefed[dp]'"
        ) from error
    return rdp
