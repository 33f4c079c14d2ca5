"""What a supernet tells of its branches before anybody has trained: a score of untrained subnets as the prior of pi.

A search in a federation begins without knowing anything, and its first rounds are spent on branches that a score
without training could have told apart. Here some subnets are drawn, each is scored as `spikefed search` scores a cell,
on the server's public images, and a branch is worth the mean score of the subnets with it less that of those without.
No published counterpart is known.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.federated.contract import Context
from spikefed.networks import Choice, GraphNetwork, Space, subnet
from spikefed.search import Memory, Objective, answers, saliency, size_of

SUBNETS = 64
"""Drawn and scored."""
IMAGES = 64
"""Public images that they are shown."""
GAIN = 0.02
"""Gain in accuracy that one deviation of the scores counts as: utilities are gains, and later ones take its place."""


def check(text: str, net: nn.Module) -> None:
    """Refuse a prior that no score gives.

    Raises:
        ConfigError: an unknown score, one that compares all networks of a search, a network without spikes.
    """
    if not text:
        return
    score = Objective.parse(text).score
    if score.ranks:
        raise ConfigError(
            f"score '{score.name}' ranks the cells of a whole search; set method.prior = 'sahd', or another that "
            "scores one network"
        )
    if not isinstance(net, GraphNetwork) and (score.looks or score.learns):
        raise ConfigError(
            f"method.prior = '{text}' is told by spikes but network.twin = 'ann' gives none; use '-macs', 'parameters' "
            "or none"
        )


def prior(text: str, ctx: Context, gates: Tensor) -> Tensor:
    """Utilities that a search begins with, float64 ``[n]``: mean 0, in gains of accuracy (`GAIN`).

    Args:
        text: the score, as an objective of a search: ``sahd``, ``-parameters``.
        ctx: the server's, with the public images and the initial weights.
        gates: of the subnets that are scored, bool ``[k, n]``.

    Raises:
        ConfigError: fewer than two public images; a score that all subnets share.
    """
    if len(ctx.public) < 2:
        raise ConfigError(
            f"method.prior shows public images to untrained networks and there are {len(ctx.public)}; set data.public "
            "to 64, or leave the prior out"
        )
    scores = torch.tensor([_scored(text, ctx, tuple(row)) for row in gates.tolist()], dtype=torch.float64)
    worth = torch.zeros(gates.shape[1], dtype=torch.float64)
    for j in range(len(worth)):
        having = scores[gates[:, j]]
        lacking = scores[~gates[:, j]]
        if len(having) and len(lacking):
            worth[j] = having.mean() - lacking.mean()
    deviation = float(worth.std(correction=0))
    if deviation == 0:
        raise ConfigError(f"method.prior = '{text}' tells no branches apart here; leave it out")
    return GAIN * (worth - worth.mean()) / deviation


def _scored(text: str, ctx: Context, gates: tuple[bool, ...]) -> float:
    """The score of one untrained subnet, the more the better."""
    goal = Objective.parse(text)
    net = ctx.networks.load(ctx.networks.initial())
    space = Space.of(net)
    small = subnet(net, Choice(gates, space.everything.channels))
    images = ctx.preprocess(ctx.public[:IMAGES].to(next(net.parameters()).device))
    if isinstance(small, GraphNetwork) and goal.score.learns:
        return goal.sign * saliency(small, [images], ctx.seed)[0]
    size = size_of(small)
    shown = answers(small, None, [images], Memory(0)) if isinstance(small, GraphNetwork) and goal.score.looks else []
    return goal.sign * goal.score.of(size, shown)
