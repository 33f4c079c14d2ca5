"""Square attack in L2: a window takes the change of another one, in the shape of two bumps.

Andriushchenko et al., ECCV 2020, section 3.3 and Algorithm 3. A change is worth most where it is concentrated, so the
budget of one window moves to another.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spikefed.training.attacks import draws
from spikefed.training.attacks.windows import Proposals, corner, within

TILES = 5
"""Bumps of the first query along each side."""


class Bumps(Proposals):
    """Proposals in ``l2``."""

    share = 0.1
    """Of the pixels that the first window covers (the paper's p)."""

    def first(self) -> Tensor:
        """A grid of bumps, each up or down by chance in every channel; ``[B, C, H, W]``."""
        clean = self._ball.clean
        height, width = clean.shape[-2:]
        count = min(TILES, height, width)
        size = min(height, width) // count
        channels = math.prod(clean.shape[1:-2])
        numbers = draws.uniform(self._seed, draws.CONTROL, self._images, 1, (count, count, 1 + channels))
        change = torch.zeros_like(clean)
        origin = (height - size * count) // 2, (width - size * count) // 2
        for i in range(count):
            for j in range(count):
                top = torch.full((len(clean),), origin[0] + i * size)
                left = torch.full((len(clean),), origin[1] + j * size)
                change = change + self._bump(top, left, size, numbers[:, i, j])
        return self._ball.step(clean, change, self._ball.eps)

    def after(self, best: Tensor, query: int, size: int) -> Tensor:
        """``best [B, C, H, W]`` with the change of one window moved into another, of ``size`` pixels (made odd)."""
        clean = self._ball.clean
        height, width = clean.shape[-2:]
        size = min(max(size, 3) | 1, height, width)
        shape = (4 + 1 + math.prod(clean.shape[1:-2]),)
        numbers = draws.uniform(self._seed, draws.CONTROL, self._images, 1 + query, shape)
        top, left = corner(clean, numbers[:, :2], size)
        target = within(clean, top, left, size)
        source = within(clean, *corner(clean, numbers[:, 2:4], size), size)
        change = best - clean
        # What the window may spend in each channel: its own and the other's change, and what the ball has left.
        spare = (self._ball.eps**2 - _squares(change, clean.dim() - 1)).clamp_min(0)
        held = _squares(torch.where(target | source, change, torch.zeros_like(change)), 2)
        budget = (spare / math.prod(clean.shape[1:-2]) + held).sqrt()
        inside = torch.where(target, change, torch.zeros_like(change))
        old = inside / _squares(inside, 2).sqrt().clamp_min(1e-10)
        new = self._bump(top, left, size, numbers[:, 4:]) + old
        new = new / _squares(new, 2).sqrt().clamp_min(1e-10) * budget
        moved = torch.where(target, new, torch.where(source, torch.zeros_like(change), change))
        return self._ball.step(clean, moved, self._ball.eps)

    def _bump(self, top: Tensor, left: Tensor, size: int, numbers: Tensor) -> Tensor:
        """A bump of length 1 in each channel of each image; 0 outside its window.

        Args:
            top: first row of the window, ``[B]``.
            left: its first column, ``[B]``.
            size: its side.
            numbers: ``[B, 1 + channels]`` in [0, 1): which way it lies, and its signs.
        """
        clean = self._ball.clean
        height, width = clean.shape[-2:]
        rows = (torch.arange(height) - top[:, None]).clamp(0, size - 1)  # [B, H]
        columns = (torch.arange(width) - left[:, None]).clamp(0, size - 1)
        form = bump(size)
        upright = form[rows[:, :, None], columns[:, None, :]]  # [B, H, W]
        lying = form.T[rows[:, :, None], columns[:, None, :]]
        chosen = torch.where(numbers[:, :1, None] < 0.5, upright, lying).view(len(clean), *_ones(clean), height, width)
        ends = numbers[:, 1:].view(len(clean), *clean.shape[1:-2], 1, 1)
        signs = torch.where(ends < 0.5, -1.0, 1.0)
        return torch.where(within(clean, top, left, size), chosen * signs, torch.zeros_like(clean))


def bump(size: int) -> Tensor:
    """The shape of a window's change: two opposite bumps, of length 1 together; ``[size, size]``."""
    if size == 1:
        return torch.ones(1, 1)
    half = size // 2
    form = torch.cat([_half(half, size), -_half(size - half, size)])
    return form / form.norm()


def _half(height: int, width: int) -> Tensor:
    """Rectangles around the middle, the k-th of them 1 / k^2 high; of length 1 together. ``[height, width]``."""
    form = torch.zeros(height, width)
    middle = height // 2, width // 2
    for k in range(max(middle) + 1):
        rows = slice(max(middle[0] - k, 0), middle[0] + k + 1)
        form[rows, max(middle[1] - k, 0) : middle[1] + k + 1] += 1 / (k + 1) ** 2
    return form / form.norm()


def _squares(x: Tensor, last: int) -> Tensor:
    """Sum of squares over the last dimensions of ``x [B, ...]``, which stay as 1."""
    return x.square().sum(dim=tuple(range(-last, 0)), keepdim=True)


def _ones(clean: Tensor) -> list[int]:
    return [1] * (clean.dim() - 3)
