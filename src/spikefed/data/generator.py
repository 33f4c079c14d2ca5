"""A small generator of images that an ensemble of networks recognises (DENSE, Zhang et al., NeurIPS 2022).

    x = G(z, y),   loss = CE(softmax(D(x) / temperature), y) + weight * gap to batch norm's statistics (+ smoothness)

D is the mean of the networks' outputs, z normal, y a class (they take turns). For each batch of images a draw of z
stays while the generator learns, and the next batch goes on with the same generator. DENSE's third term, which draws
images to where a student differs from the ensemble, is left out: there is no student yet.

Beside pixels that move for themselves (`spikefed.data.synthesis`) images of a generator share what it has learnt: they
look more alike, and cost the same products again for the generator's layers, which are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

LATENT = 64
"""Numbers of z [DENSE: 256, of a generator eight times as wide]."""
WIDTH = 32
"""Channels of its maps [DENSE: 64 and 128]."""
SLOPE = 0.2
"""Of its leaky ReLU below 0 [DENSE: 0.2]."""


class Ensemble(nn.Module):
    """Several networks that speak as one: the mean of their mean outputs, as of one time step.

    Args:
        nets: of one federation, with the same classes; kinds and sizes may differ.
    """

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    @property
    def readout(self) -> str:
        """Of its networks: ``spike`` if all give firing rates."""
        return "spike" if all(getattr(net, "readout", "") == "spike" for net in self.nets) else "current"

    def forward(
        self, x: Float[Tensor, "B ..."], generator: torch.Generator | None = None
    ) -> Float[Tensor, "1 B classes"]:
        """Mean outputs of network input; ``generator`` draws for each network in turn."""
        return torch.stack([net(x, generator=generator).mean(dim=0) for net in self.nets]).mean(dim=0, keepdim=True)


class Generator(nn.Module):
    """From noise and a class to an image with pixels between 0 and 1, at a quarter, half and the whole of its size.

    Args:
        shape: ``(C, H, W)`` of an image.
        classes: how many there are.
        seed: of its weights.
    """

    def __init__(self, shape: Sequence[int], classes: int, seed: int) -> None:
        super().__init__()
        channels, height, width = shape
        self.classes = classes
        self.shape = (channels, height, width)
        self.begin = (2 * WIDTH, ceil(height / 4), ceil(width / 4))
        self.spread = nn.Linear(LATENT + classes, self.begin[0] * self.begin[1] * self.begin[2])
        self.first = nn.Conv2d(2 * WIDTH, 2 * WIDTH, 3, padding=1)
        self.second = nn.Conv2d(2 * WIDTH, WIDTH, 3, padding=1)
        self.last = nn.Conv2d(WIDTH, channels, 3, padding=1)
        # Of single images, so that how many are made together does not matter.
        self.norms = nn.ModuleList(nn.GroupNorm(4, width) for width in (2 * WIDTH, 2 * WIDTH, WIDTH))
        draw = torch.Generator().manual_seed(seed)
        for module in (self.spread, self.first, self.second, self.last):
            nn.init.kaiming_normal_(module.weight, a=SLOPE, generator=draw)
            assert module.bias is not None
            nn.init.zeros_(module.bias)

    def forward(self, z: Float[Tensor, "B latent"], labels: Integer[Tensor, " B"]) -> Float[Tensor, "B C H W"]:
        """Pixels in [0, 1] of noise and classes."""
        told = torch.cat([z, F.one_hot(labels, self.classes).to(z.dtype)], dim=1)
        half = tuple(ceil(side / 2) for side in self.shape[1:])
        maps = self.norms[0](self.spread(told).unflatten(1, self.begin))
        maps = self._grown(maps, half, self.first, self.norms[1])
        maps = self._grown(maps, self.shape[1:], self.second, self.norms[2])
        return torch.sigmoid(self.last(maps))

    @staticmethod
    def _grown(maps: Tensor, size: tuple[int, ...], conv: nn.Module, norm: nn.Module) -> Tensor:
        return F.leaky_relu(norm(conv(F.interpolate(maps, size=size))), SLOPE)
