"""Numbers of which a part is 0, for tests of pruned layers."""

from __future__ import annotations

import torch


def drawn(seed: int, *shape: int, density: float = 1.0) -> torch.Tensor:
    """Normal numbers, this part of them not 0."""
    draw = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=draw) < density) * torch.randn(shape, generator=draw)


def spikes(seed: int, *shape: int, density: float) -> torch.Tensor:
    """1 in this part, else 0."""
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < density).float()
