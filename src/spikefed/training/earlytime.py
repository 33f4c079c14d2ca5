"""How many time steps a search needs: the first readout that is as good as the last (Early-Time, Kim et al. 2022).

P_t = softmax of the mean of the first t outputs; D_t = KL(P_t || P_T), the direction of the paper (its released code
computes the other); Dhat_t = D_t / D_2; T_early is the smallest t with Dhat_t < lambda.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from spikefed.training.temporal import prefix_means

RESOLUTION = 1e-12
"""Nats. Logits of size 10 in float32 are 1e-6 apart, and a KL divergence is about half the square of that: less is
rounding, whose ratios would choose a T_early for a network whose answer never changes."""


def prefix_divergences(logits: Float[Tensor, "T N C"], reverse: bool = False) -> Float[Tensor, " T"]:
    """D_t = mean KL(P_t || P_T) in nats; ``reverse`` swaps the two, as the released code does.
    Below `RESOLUTION` it is 0.

    Args:
        logits: of the prefixes: the means of the first t outputs, times their factor.
        reverse: KL(P_T || P_t).
    """
    logs = logits.double().log_softmax(dim=2)
    first, second = (logs[-1:].expand_as(logs), logs) if reverse else (logs, logs[-1:].expand_as(logs))
    found = (first.exp() * (first - second)).sum(2).mean(1)
    return torch.where(found.abs() < RESOLUTION, 0.0, found)


def kl_profile(outputs: Float[Tensor, "N C T"], scale: float = 1.0) -> list[float]:
    """D_t in nats, t = 1 to T, a mean over images; D_T = 0.

    Args:
        outputs: of a network in evaluation, ``[N, C, T]``.
        scale: on the means before the softmax.
    """
    divergences = prefix_divergences(scale * prefix_means(outputs.double().permute(2, 0, 1)))
    return [max(float(d), 0.0) for d in divergences]


def early_steps(profile: Sequence[float], threshold: float) -> int:
    """T_early of a profile D_1 to D_T: the smallest t in 2 to T - 1 with D_t / D_2 < ``threshold``, else T.

    >>> early_steps([0.9, 0.5, 0.2, 0.05, 0.0], 0.6)
    3

    Args:
        profile: from `kl_profile`.
        threshold: lambda, in (0, 1] [paper: 0.6].

    Returns:
        in [2, T]; T where T is below 3.
    """
    steps = len(profile)
    second = profile[1] if steps > 1 else 0.0
    for step in range(2, steps):
        if profile[step - 1] < threshold * second:
            return step
    return 2 if steps > 2 and second == 0 else steps
