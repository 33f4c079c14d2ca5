"""Square attack: random squares, kept where the margin shrinks; no gradient (Andriushchenko et al., ECCV 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spikefed.errors import ConfigError
from spikefed.training.attacks import draws
from spikefed.training.attacks.ball import Ball
from spikefed.training.attacks.victim import Goal, Victim

SHARE = 0.8
"""Share of the pixels that the first square covers (the paper's p)."""
HALVED = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Parts of the queries after which the share halves."""


def side(query: int, queries: int, height: int, width: int) -> int:
    """Side in pixels of the square of a query.

    Args:
        query: number of the query.
        queries: all of them.
        height: of an image, pixels.
        width: of an image, pixels.
    """
    share = SHARE / 2 ** sum(query > part * queries for part in HALVED)
    return min(max(round(math.sqrt(share * height * width)), 1), height, width)


def square(victim: Victim, ball: Ball, goal: Goal, *, queries: int) -> Tensor:
    """The L-infinity attack, Algorithms 1 and 2 of the paper.

    Args:
        victim: asked for scores alone; of a coder that draws, the mean over ``victim.draws`` fresh draws a query.
        ball: of distance ``linf``.
        goal: what is wanted.
        queries: of each image, at least 1; the first is vertical stripes.

    Raises:
        ConfigError: another distance.
    """
    if ball.distance != "linf":
        raise ConfigError("attack 'square' is made for distance linf; leave it out, or set distance = 'linf'")
    count = len(ball.clean)
    height, width = ball.clean.shape[-2:]
    channels = tuple(ball.clean.shape[1:-2])
    coin = draws.uniform(victim.seed, draws.CONTROL, goal.images, 1, (*channels, 1, width))
    best = ball.step(ball.clean, (coin - 0.5).expand_as(ball.clean), ball.eps)
    value = _margin(victim, best, goal, 0)
    rows, columns = torch.arange(height).view(-1, 1), torch.arange(width)
    ones = [1] * (ball.clean.dim() - 1)
    for query in range(1, queries):
        s = side(query, queries, height, width)
        numbers = draws.uniform(victim.seed, draws.CONTROL, goal.images, 1 + query, (2 + math.prod(channels),))
        top = (numbers[:, 0] * (height - s + 1)).floor().view(-1, *ones)
        left = (numbers[:, 1] * (width - s + 1)).floor().view(-1, *ones)
        inside = (rows >= top) & (rows < top + s) & (columns >= left) & (columns < left + s)
        signs = (numbers[:, 2:] - 0.5).view(count, *channels, 1, 1)
        painted = ball.step(ball.clean, signs.expand_as(ball.clean), ball.eps)
        tried = torch.where(inside, painted, best)
        found = _margin(victim, tried, goal, query)
        better = found > value
        best = torch.where(better.view(-1, *ones), tried, best)
        value = torch.where(better, found, value)
    return best


def _margin(victim: Victim, images: Tensor, goal: Goal, query: int) -> Tensor:
    return goal.loss(victim.scores(images, goal.images, query), "margin")
