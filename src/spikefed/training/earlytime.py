"""How many time steps a search needs: the first readout that is as good as the last (Early-Time, Kim et al. 2022).

P_t = softmax of the mean of the first t outputs; D_t = KL(P_t || P_T), the direction of the paper (its released code
computes the other); Dhat_t = D_t / D_2; T_early is the smallest t with Dhat_t < lambda.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def prefix_log_probabilities(outputs: Tensor, scale: float = 1.0) -> Tensor:
    """log P_t of outputs ``[N, C, T]``, t = 1 to T: ``[T, N, C]``; ``scale`` multiplies the means as logits."""
    counts = torch.arange(1, outputs.shape[2] + 1, dtype=outputs.dtype)
    means = outputs.cumsum(dim=2) / counts
    return (scale * means).permute(2, 0, 1).log_softmax(dim=2)


def kl_profile(outputs: Tensor, scale: float = 1.0) -> list[float]:
    """D_t in nats, t = 1 to T, a mean over images; D_T = 0.

    Args:
        outputs: of a network in evaluation, ``[N, C, T]``.
        scale: on the means before the softmax.
    """
    log_p = prefix_log_probabilities(outputs.double(), scale)
    divergences = (log_p.exp() * (log_p - log_p[-1])).sum(dim=2).mean(dim=1)
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
