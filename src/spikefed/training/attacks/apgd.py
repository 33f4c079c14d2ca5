"""APGD: projected gradients with momentum, whose step each image halves for itself (Croce and Hein, ICML 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spikefed.training.attacks.ball import Ball
from spikefed.training.attacks.gradients import Watch
from spikefed.training.attacks.victim import Goal, Victim, at_least_one

MOMENTUM = 0.75
RISES = 0.75
"""alpha and rho of the paper."""


def checkpoints(steps: int) -> list[int]:
    """Where the step size is looked at: p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06)."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return sorted({min(steps, math.ceil(share * steps - 1e-9)) for share in shares[1:]})


def apgd(victim: Victim, ball: Ball, goal: Goal, *, steps: int, watch: Watch | None = None) -> Tensor:
    """Algorithm 1 of the paper, from the clean image.

    Args:
        victim: the network.
        ball: where the images may lie.
        goal: what is wanted.
        steps: number of gradients, at least 1.
        watch: told the loss on the way.

    Returns:
        of each image the one of largest loss among those that fooled the network (mean over the draws of that step),
        and where none did the one of largest loss.
    """
    at_least_one("steps", steps)
    ones = [1] * (ball.clean.dim() - 1)
    size = torch.full((len(ball.clean), *ones), 2.0 * ball.eps)
    images = before = ball.clean
    best = ball.clean
    top = torch.full((len(ball.clean),), -torch.inf)  # x_max, f_max
    found = best
    value = top.clone()
    gradient = torch.zeros_like(best)
    best_gradient = gradient
    rises = torch.zeros_like(top)
    last_size = size.clone()
    last_top = top.clone()
    last_look = 0
    previous = top.clone()
    looks = set(checkpoints(steps))
    for step in range(steps + 1):
        loss, gradient, scores = victim.ascent(images, goal, step)
        if watch is not None:
            watch(step, loss)
        better = loss > top
        shown = _over(better, ones)
        best = torch.where(shown, images, best)
        best_gradient = torch.where(shown, gradient, best_gradient)
        top = torch.where(better, loss, top)
        worth = loss + 1e6 * goal.met(scores)
        found = torch.where(_over(worth > value, ones), images, found)
        value = torch.maximum(value, worth)
        if step == steps:
            break
        rises += (loss > previous) & torch.isfinite(previous)
        previous = loss
        if step in looks:
            few = rises < RISES * (step - last_look)
            stuck = (last_size == size).flatten() & (last_top == top)
            halve = _over(few | stuck, ones)
            last_size = size.clone()
            last_top = top.clone()
            last_look = step
            size = torch.where(halve, size / 2, size)
            images = torch.where(halve, best, images)
            gradient = torch.where(halve, best_gradient, gradient)
            rises = torch.zeros_like(rises)
        towards = ball.step(images, gradient, size)  # z
        momentum = images + MOMENTUM * (towards - images) + (1 - MOMENTUM) * (images - before)
        images, before = ball.hold(towards if step == 0 else momentum), images
    return found


def _over(chosen: Tensor, ones: list[int]) -> Tensor:
    return chosen.view(-1, *ones)
