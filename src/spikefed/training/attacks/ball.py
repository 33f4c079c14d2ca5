"""Where an adversarial image may lie: within eps of the clean one, and within the range of pixels.

Everything is in the data's own units (pixels of 0..255) and before normalisation, so that eps means the same under
every preprocessing and no normalised value leaves its range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from spikefed.errors import ConfigError

Distance = Literal["linf", "l2"]


@dataclass(frozen=True, eq=False)
class Ball:
    """The images within a distance of clean ones, cut to the range of pixels; exact to the last bit.

    Attributes:
        clean: float32 ``[B, ...]``, in pixels.
        eps: largest distance, in pixels: of any one pixel (``linf``), or of the whole image (``l2``).
        distance: ``linf`` or ``l2``.
        range: darkest and brightest pixel.
    """

    clean: Tensor
    eps: float
    distance: Distance = "linf"
    range: tuple[float, float] = (0.0, 255.0)

    def __post_init__(self) -> None:
        if not self.clean.is_floating_point():
            raise ConfigError(f"images of an attack are {self.clean.dtype}; give pixels as numbers: images.float()")
        if not len(self.clean):
            raise ConfigError("there is no image to attack; give at least one")
        low, high = self.range
        most = (high - low) * (1 if self.distance == "linf" else self.clean[0].numel() ** 0.5)
        if not 0 <= self.eps <= most:
            raise ConfigError(
                f"eps = {self.eps:g} is beyond what pixels from {low:g} to {high:g} can change; choose one from 0 to "
                f"{most:g} (8 of 255 is usual for linf)"
            )

    def hold(self, images: Tensor) -> Tensor:
        """The nearest images inside. Images are ``[B, C, H, W]``."""
        low, high = self.range
        if self.distance == "linf":
            return torch.minimum(
                torch.maximum(images, self._edge(-1.0).clamp_min(low)), self._edge(1.0).clamp_max(high)
            )
        # Cutting to the range moves every pixel towards its clean value, so the distance only shrinks.
        return self._near(images.clamp(low, high))

    def step(self, images: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        """A step of a size in pixels up the gradient, and back inside. Where the gradient is 0 nothing moves.

        Args:
            images: ``[B, ...]`` inside.
            gradient: of what is to grow, shaped alike.
            size: of the step, one for all or ``[B, 1, ...]``.
        """
        return self.hold(images + size * self.direction(gradient))

    def direction(self, gradient: Tensor) -> Tensor:
        """The steepest step of size 1: signs, or the gradient over its length (0 stays 0). The shape stays."""
        if self.distance == "linf":
            return gradient.sign()
        wide = gradient.double()  # squares of a saturated loss's gradient are 0 in float32
        length = _length(wide)
        return torch.where(length > 0, wide / length.clamp_min(1e-300), 0.0).to(gradient.dtype)

    def start(self, uniform: Tensor) -> Tensor:
        """A random image inside, from numbers in [0, 1) shaped as the images.

        Uniform over the cube (``linf``), or at a random length in a random direction (``l2``).
        """
        if self.distance == "linf":
            return self.hold(self.clean + (2 * uniform - 1) * self.eps)
        normal = torch.special.ndtri(uniform.double().clamp(1e-12, 1 - 1e-12)).to(self.clean.dtype)
        length = uniform.flatten(1)[:, :1].view(-1, *[1] * (self.clean.dim() - 1))
        return self.hold(self.clean + self.direction(normal) * self.eps * length)

    def moved(self, images: Tensor) -> Tensor:
        """Distance from the clean images in pixels ``[B]``, float64."""
        change = (images.double() - self.clean.double()).flatten(1)
        return change.abs().amax(dim=1) if self.distance == "linf" else change.norm(dim=1)

    def _edge(self, sign: float) -> Tensor:
        """``clean +- eps``, rounded towards the clean image where float32 has no such number."""
        edge = (self.clean.double() + sign * self.eps).to(self.clean.dtype)
        beyond = (edge.double() - self.clean.double()).abs() > self.eps
        return torch.where(beyond, torch.nextafter(edge, self.clean), edge)

    def _near(self, images: Tensor) -> Tensor:
        change = images.double() - self.clean.double()
        length = _length(change)
        # A hair less than eps, for the rounding to float32.
        shrunk = self.clean.double() + change * (self.eps * (1 - 2**-20) / length.clamp_min(1e-30))
        low, high = self.range
        found = torch.where(length > self.eps, shrunk.clamp(low, high), images.double()).to(self.clean.dtype)
        still = _length(found.double() - self.clean.double()) > self.eps  # eps of a few last bits
        return torch.where(still, self.clean, found)


def _length(change: Tensor) -> Tensor:
    return change.flatten(1).norm(dim=1).view(-1, *[1] * (change.dim() - 1))
