"""Square attack: random squares, kept where the margin shrinks; no gradient (Andriushchenko et al., ECCV 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spikefed.training.attacks import draws
from spikefed.training.attacks.ball import Ball
from spikefed.training.attacks.bumps import Bumps
from spikefed.training.attacks.victim import Goal, Victim, at_least_one
from spikefed.training.attacks.windows import Proposals, corner, within

SHARE = 0.8
"""Share of the pixels that the first square covers (the paper's p)."""
HALVED = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Parts of the queries after which the share halves."""


def side(query: int, queries: int, height: int, width: int, first: float = SHARE) -> int:
    """Side in pixels of the square of a query.

    Args:
        query: number of the query.
        queries: all of them.
        height: of an image, pixels.
        width: of an image, pixels.
        first: share of the pixels that the first square covers.
    """
    share = first / 2 ** sum(query > part * queries for part in HALVED)
    return min(max(round(math.sqrt(share * height * width)), 1), height, width)


def square(victim: Victim, ball: Ball, goal: Goal, *, queries: int) -> Tensor:
    """The attack in either distance: Algorithms 1 and 2 of the paper (``linf``), 1 and 3 (``l2``).

    Args:
        victim: asked for scores alone; of a coder that draws, the mean over ``victim.draws`` fresh draws a query.
        ball: where the images may lie.
        goal: what is wanted.
        queries: of each image, at least 1; the first is vertical stripes (``linf``) or a grid of bumps (``l2``).
    """
    at_least_one("queries", queries)
    ones = [1] * (ball.clean.dim() - 1)
    tries = (
        Squares(victim.seed, ball, goal.images) if ball.distance == "linf" else Bumps(victim.seed, ball, goal.images)
    )
    best = tries.first()
    value = _margin(victim, best, goal, 0)
    height, width = ball.clean.shape[-2:]
    for query in range(1, queries):
        tried = tries.after(best, query, side(query, queries, height, width, tries.share))
        found = _margin(victim, tried, goal, query)
        better = found > value
        best = torch.where(better.view(-1, *ones), tried, best)
        value = torch.where(better, found, value)
    return best


class Squares(Proposals):
    """Proposals in ``linf``: a square of one colour, each of its channels at one end of the ball."""

    share = SHARE

    def first(self) -> Tensor:
        """Vertical stripes, ``[B, C, H, W]``."""
        clean = self._ball.clean
        shape = (*clean.shape[1:-2], 1, clean.shape[-1])
        coin = draws.uniform(self._seed, draws.CONTROL, self._images, 1, shape)
        return self._ball.step(clean, (coin - 0.5).expand_as(clean), self._ball.eps)

    def after(self, best: Tensor, query: int, size: int) -> Tensor:
        """``best [B, C, H, W]`` with a square of ``size`` pixels painted over."""
        clean = self._ball.clean
        channels = tuple(clean.shape[1:-2])
        shape = (2 + math.prod(channels),)
        numbers = draws.uniform(self._seed, draws.CONTROL, self._images, 1 + query, shape)
        inside = within(clean, *corner(clean, numbers[:, :2], size), size)
        signs = (numbers[:, 2:] - 0.5).view(len(clean), *channels, 1, 1)
        painted = self._ball.step(clean, signs.expand_as(clean), self._ball.eps)
        return torch.where(inside, painted, best)


def _margin(victim: Victim, images: Tensor, goal: Goal, query: int) -> Tensor:
    return goal.loss(victim.scores(images, goal.images, query), "margin")
