"""Firing thresholds of a converted layer, from what its ANN twin gives on calibration images.

A neuron that adds up its current and subtracts theta when it fires stands, after T steps, for one of T + 1 values from
0 to theta. A high theta makes them coarse, a low one cuts large activations off.

===========  =================================================================  =====================================
recipe       theta                                                              source
===========  =================================================================  =====================================
max          largest activation of the layer                                    Diehl et al., IJCNN 2015
percentile   its 99.9th percentile (robust norm)                                Rueckauer et al., Front. Neurosci. 2017
channel      the same, for each channel                                         Kim et al., AAAI 2020 (Spiking-YOLO)
local        for each channel the theta whose T + 1 values come nearest to the  the local loss of Bu et al., CVPR 2025
             activations (mean squares), given what the layers before really    (arXiv 2409.03368), which has a bound
             deliver after T steps                                              in its place and gradient steps
qcfs         what the ANN learnt as the threshold of its quantised activations  Bu et al., ICLR 2022
===========  =================================================================  =====================================
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Recipe = Literal["max", "percentile", "channel", "local", "qcfs"]
RECIPES = ("max", "percentile", "channel", "local")
"""Those that find thresholds on calibration images; ``qcfs`` has learnt them."""
PERCENTILE = 0.999
"""Share of activations that the robust norm keeps below the threshold [Rueckauer et al. 2017: 99.9 %]."""
CANDIDATES = torch.logspace(-1.5, 0.1, 41)
"""Shares of a channel's largest activation that `local` tries."""
FLOOR = 1e-3
"""Least threshold, as a share of the layer's largest: a channel that was silent in calibration may wake up later."""


def thresholds(
    activations: Float[Tensor, "N C *map"], arrived: Float[Tensor, "N C *map"], recipe: Recipe, steps: int, start: float
) -> Float[Tensor, " C"]:
    """Threshold of every channel.

    Args:
        activations: of the ANN, at least 0.
        arrived: mean currents of the spiking layer, for ``local``.
        recipe: one of `RECIPES` but ``qcfs``, which finds nothing.
        steps: T.
        start: potential before the first step, as a share of the threshold.
    """
    channels = activations.shape[1]
    flat = activations.transpose(0, 1).reshape(channels, -1)
    largest = flat.amax().clamp_min(1e-12)
    if recipe == "max":
        return largest.expand(channels).clone()
    if recipe == "percentile":
        return _percentile(flat.reshape(1, -1)).clamp_min(FLOOR * largest).expand(channels).clone()
    if recipe == "channel":
        return _percentile(flat).clamp_min(FLOOR * largest)
    return _nearest(flat, arrived.transpose(0, 1).reshape(channels, -1), steps, start).clamp_min(FLOOR * largest)


def counted(
    currents: Float[Tensor, "C M"], theta: Float[Tensor, " C"], steps: int, start: float
) -> Float[Tensor, "C M"]:
    """What a neuron that gets ``currents`` at every one of T steps stands for at their end, theta * spikes / T.

    Args:
        currents: of each step.
        theta: threshold of each row.
        steps: T.
        start: potential before the first step, as a share of the threshold.
    """
    spikes = torch.floor(currents * (steps / theta[:, None]) + start).clamp(0, steps)
    return spikes * (theta[:, None] / steps)


def _percentile(flat: Tensor) -> Tensor:
    """The `PERCENTILE` of every row ``[C, M]``."""
    place = max(1, round(PERCENTILE * flat.shape[1]))
    return flat.kthvalue(place, dim=1).values


def _nearest(wanted: Tensor, arrived: Tensor, steps: int, start: float) -> Tensor:
    """The candidate of every row ``[C, M]`` whose values come nearest to those wanted."""
    largest = wanted.amax(dim=1)
    losses = []
    for share in CANDIDATES.tolist():
        theta = (share * largest).clamp_min(1e-12)
        losses.append((counted(arrived, theta, steps, start) - wanted).square().mean(dim=1))
    return CANDIDATES.to(wanted)[torch.stack(losses).argmin(dim=0)] * largest
