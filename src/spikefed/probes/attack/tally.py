"""What is known of every attack so far: which images stand, on which draws, and how far they were moved."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

FIELDS = ("right", "again", "hit", "moved", "pixels", "first", "last")


class Tally:
    """Rows of one attack at one distance, image by image.

    Attributes:
        right: bool ``[J, N]``: the network's answer is the true class, on the draws that judge.
        again: the same on as many fresh draws, which no choice was made by.
        hit: bool ``[J, N]``: it says the class that the attack wanted.
        moved: float64 ``[N]``: distance in pixels.
        pixels: int64 ``[N]``: how many numbers changed.
        first, last: float32 ``[N]``: the attack's loss before its first and last step; NaN where it has none.
    """

    def __init__(self, draws: int, images: int) -> None:
        self.right = torch.zeros(draws, images, dtype=torch.bool)
        self.again = torch.zeros(draws, images, dtype=torch.bool)
        self.hit = torch.zeros(draws, images, dtype=torch.bool)
        self.moved = torch.zeros(images, dtype=torch.float64)
        self.pixels = torch.zeros(images, dtype=torch.int64)
        self.first = torch.full((images,), torch.nan)
        self.last = torch.full((images,), torch.nan)

    def state(self, name: str) -> dict[str, Tensor]:
        """For the file of a probe that is killed."""
        return {f"{name}|{field}": getattr(self, field) for field in FIELDS}

    def restore(self, name: str, state: dict[str, Any]) -> None:
        """What `state` gave."""
        for field in FIELDS:
            getattr(self, field).copy_(state[f"{name}|{field}"])


def worst(tallies: list[Tally]) -> tuple[Tensor, Tensor]:
    """Images that stand under every attack ``[J, N]``; and the strongest attack of each, on draws that did not choose.

    The second is unbiased where a coder draws: the attack of an image is the one that fooled it on the most of the
    first draws, and only the fresh ones are counted.
    """
    tallies = sorted(tallies, key=lambda tally: int(tally.right.sum()))  # of two alike the stronger one is chosen
    every = torch.stack([tally.right for tally in tallies]).all(dim=0)
    standing = torch.stack([tally.right.sum(dim=0) for tally in tallies])  # [attacks, N]
    chosen = standing.argmin(dim=0)
    again = torch.stack([tally.again for tally in tallies])  # [attacks, J, N]
    picked = again.gather(0, chosen.expand(1, *again.shape[1:]))[0]
    return every, picked
