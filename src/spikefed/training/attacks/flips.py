"""Spike flips: a budget of k spikes in the raster that rate coding drew, set or taken away where the loss grows most.

As in the spike-level attack of Mukhoty et al. ("SEA", ICLR 2025): no pixel is touched, so no sampler is in the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikefed.errors import ConfigError
from spikefed.neurons import SignedPoisson
from spikefed.training.attacks import draws
from spikefed.training.attacks.victim import Goal, Victim


@dataclass(frozen=True, eq=False)
class _Raster:
    """A coder that gives the spikes that it holds."""

    spikes: Tensor
    name: str = "raster"
    widens: int = 1

    def encode(self, x: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
        return self.spikes

    def encode_steps(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.spikes


def flip_spikes(
    victim: Victim, images: Tensor, goal: Goal, *, flips: int, count: int = 1, rounds: int = 5
) -> tuple[Tensor, Tensor]:
    """Flip up to so many spikes of every raster that the network is judged on.

    Args:
        victim: a network whose coder draws.
        images: float32 ``[B, C, H, W]``, in pixels.
        goal: what is wanted.
        flips: budget of each raster, 0 or more.
        count: draws J that are judged.
        rounds: gradients; each spends its part of the budget.

    Returns:
        scores ``[J, B, C]`` after the flips, and how many there were ``[J, B]``.

    Raises:
        ConfigError: the network's coding draws no spikes.
    """
    if not victim.draws_spikes:
        raise ConfigError(
            "spike flips need a coding that draws spikes (bernoulli, poisson), and this network's does not; leave "
            "'flips' empty"
        )
    coder = victim.coder
    steps = int(getattr(victim.net, "steps", 1))
    x = victim.preprocess(images)
    found = draws.uniform(victim.seed, draws.JUDGE, goal.images, 0, (count, steps, *x.shape[1:]))
    raster = coder.spikes(x.repeat(count, 1, 1, 1), found.movedim((1, 2), (1, 0)).flatten(1, 2))
    values = (-1.0, 0.0, 1.0) if isinstance(coder, SignedPoisson) else (0.0, 1.0)
    flipped = torch.zeros_like(raster, dtype=torch.bool)
    for turn in range(rounds):
        budget = flips * (turn + 1) // rounds - flips * turn // rounds
        if budget:
            raster, flipped = _flip(victim, raster, flipped, goal, values, budget)
    with torch.no_grad():
        scores = _scores(victim, raster)
    return scores.view(count, len(images), -1), flipped.sum(dim=(0, *range(2, flipped.dim()))).view(count, -1)


def _flip(
    victim: Victim, raster: Tensor, flipped: Tensor, goal: Goal, values: tuple[float, ...], budget: int
) -> tuple[Tensor, Tensor]:
    """The flips that a linear model of the loss likes best; none that it does not, and no spike twice."""
    leaf = raster.clone().requires_grad_()
    with torch.enable_grad(), victim.frozen():
        scores = _scores(victim, leaf)
        loss = goal.loss(scores * victim.scale, victim.loss, len(scores) // len(goal.images)).sum()
        (gradient,) = torch.autograd.grad(loss, leaf)
    gains = torch.stack([gradient * (value - raster) for value in values])
    gain, to = gains.max(dim=0)
    gain = gain.masked_fill(flipped, 0.0).transpose(0, 1).flatten(1)  # [J * B, T * ...]
    best, place = gain.topk(min(budget, gain.shape[1]), dim=1)
    chosen = torch.zeros_like(gain, dtype=torch.bool).scatter_(1, place, best > 0)
    chosen = chosen.view(raster.shape[1], raster.shape[0], *raster.shape[2:]).transpose(0, 1)
    wanted = torch.tensor(values)[to]
    return torch.where(chosen, wanted, raster), flipped | chosen


def _scores(victim: Victim, raster: Tensor) -> Tensor:
    net: Any = victim.net
    before = net.encoder
    net.encoder = _Raster(raster)
    try:
        return net(raster[0]).float().mean(dim=0)
    finally:
        net.encoder = before
