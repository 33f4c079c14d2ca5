"""FGSM and PGD."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from spikefed.training.attacks import draws
from spikefed.training.attacks.ball import Ball
from spikefed.training.attacks.victim import Goal, Victim, at_least_one

Watch = Callable[[int, Tensor], None]
"""Told the step and the loss ``[B]`` before it."""


def pgd(
    victim: Victim,
    ball: Ball,
    goal: Goal,
    *,
    steps: int,
    size: float | None = None,
    start: bool = True,
    watch: Watch | None = None,
) -> Tensor:
    """Projected gradient ascent on the loss (Madry et al., ICLR 2018).

    Args:
        victim: the network.
        ball: where the images may lie.
        goal: what is wanted.
        steps: number of gradients, at least 1.
        size: of a step in pixels; default 2.5 eps / steps, as Madry et al. advise.
        start: from a random image of the ball, not from the clean one.
        watch: told the loss on the way.

    Returns:
        the images of the last step.
    """
    at_least_one("steps", steps)
    size = 2.5 * ball.eps / steps if size is None else size
    images = ball.clean
    if start:
        images = ball.start(draws.uniform(victim.seed, draws.START, goal.images, 0, tuple(images.shape[1:])))
    for step in range(steps):
        loss, gradient, _ = victim.ascent(images, goal, step)
        if watch is not None:
            watch(step, loss)
        images = ball.step(images, gradient, size)
    return images


def fgsm(victim: Victim, ball: Ball, goal: Goal) -> Tensor:
    """One step of size eps from the clean image (Goodfellow et al., ICLR 2015). Images are ``[B, C, H, W]``."""
    return pgd(victim, ball, goal, steps=1, size=ball.eps, start=False)


def noise(victim: Victim, ball: Ball, goal: Goal) -> Tensor:
    """No attack: every pixel eps away, up or down by chance. What it costs an attack must beat.

    Images are ``[B, C, H, W]``.
    """
    coin = draws.uniform(victim.seed, draws.CONTROL, goal.images, 0, tuple(ball.clean.shape[1:]))
    return ball.step(ball.clean, coin - 0.5, ball.eps)
