"""Soft labels of a spiking network: what DS-FL and CFD exchange and distil on."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from spikefed.federated.fitting import DistillationHyperparameters, Goal

PROBABILITY_FLOOR = 1e-7
"""Smallest probability inside a logarithm [CFD's clip]."""


class SoftLabelHyperparameters(DistillationHyperparameters):
    """Hyperparameters of methods that exchange distributions over classes."""

    vote: Literal["weighted", "median", "trimmed", "agreement"] = Field(
        default="weighted", description="how uploads are merged [the papers: weighted, all alike]; see docs/privacy.md"
    )
    rate_scale: float = Field(
        default=10.0, gt=0, description="factor on firing rates (0..1) that makes logits of them [ours]"
    )


def probabilities(values: Tensor, hyper: SoftLabelHyperparameters) -> np.ndarray:
    """Softmax over classes of ``rate_scale`` x the mean output over time: float64 ``[N, C]`` from ``[N, C, T]``.

    Ties are broken by the first class when an argmax is taken, as everywhere here.
    """
    return torch.softmax(hyper.rate_scale * values.double().mean(dim=2), dim=1).numpy()


def soft_cross_entropy(outputs: Tensor, target: Tensor, scale: float) -> Tensor:
    """-sum_c q_c log p_c, mean over the batch; p = softmax(scale x mean output), ``outputs [T, B, C]``, ``[B, C]``.

    Up to the entropy of q this is KL(q || p), the loss of DS-FL and CFD.
    """
    logs = F.log_softmax(scale * outputs.mean(dim=0), dim=1).clamp_min(float(np.log(PROBABILITY_FLOOR)))
    return -(target * logs).sum(dim=1).mean()


def soft_goal(target: np.ndarray, hyper: SoftLabelHyperparameters, rows: Tensor | None = None) -> Goal:
    """Distillation on distributions ``[R, C]``."""
    return Goal(
        torch.as_tensor(target.astype(np.float32)),
        lambda outputs, goal: soft_cross_entropy(outputs, goal, hyper.rate_scale),
        rows,
    )
