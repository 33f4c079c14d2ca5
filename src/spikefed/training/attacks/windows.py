"""Windows of an image, and what the proposals of the Square attack have in common."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spikefed.training.attacks.ball import Ball


class Proposals:
    """Images that a search without gradients tries.

    Args:
        seed: of the attack.
        ball: where the images may lie.
        images: their numbers, which the random numbers belong to.
    """

    def __init__(self, seed: int, ball: Ball, images: Sequence[int]) -> None:
        self._seed = seed
        self._ball = ball
        self._images = images


def corner(clean: Tensor, numbers: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """First row and column ``[B]`` of a window that lies inside ``clean [B, C, H, W]``, from ``[B, 2]`` in [0, 1)."""
    height, width = clean.shape[-2:]
    return (numbers[:, 0] * (height - size + 1)).long(), (numbers[:, 1] * (width - size + 1)).long()


def within(clean: Tensor, top: Tensor, left: Tensor, size: int) -> Tensor:
    """Which pixels lie in a window, bool ``[B, 1, H, W]``.

    Args:
        clean: images ``[B, C, H, W]``.
        top: first row ``[B]``.
        left: first column ``[B]``.
        size: side.
    """
    ones = [1] * (clean.dim() - 1)
    rows = torch.arange(clean.shape[-2]).view(-1, 1)
    columns = torch.arange(clean.shape[-1])
    top = top.view(-1, *ones)
    left = left.view(-1, *ones)
    return (rows >= top) & (rows < top + size) & (columns >= left) & (columns < left + size)
