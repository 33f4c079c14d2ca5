"""Random numbers that belong to an image, not to a batch: an attack gives the same whatever batches it is cut into.

Every number follows from (seed, purpose, image, moment); a moment is one gradient, one query, or one judgement.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

ATTACK, START, JUDGE, AGAIN, SEARCH, CONTROL = range(6)
"""Purposes: no two share a number. The draws that judge an image are never those that its attack saw."""

_MASK = 2**64 - 1


def uniform(seed: int, purpose: int, images: Sequence[int], moment: int, shape: tuple[int, ...]) -> Tensor:
    """Numbers in [0, 1), ``[B, *shape]``, those of each image its own.

    Args:
        seed: of the attack.
        purpose: what they are for.
        images: B numbers of images.
        moment: which of the attack's steps.
        shape: of the numbers of an image.
    """
    out = torch.empty(len(images), *shape)
    generator = torch.Generator()
    for place, image in enumerate(images):
        generator.manual_seed(_mixed(seed, purpose, image, moment))
        torch.rand(shape, generator=generator, out=out[place])
    return out


def _mixed(*numbers: int) -> int:
    """A seed from several numbers: splitmix64 (Steele et al., OOPSLA 2014) over each in turn."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1
