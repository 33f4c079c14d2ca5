"""Images that nobody took: what they are meant to be, what a network makes of them, and the file that holds them.

Class impressions (Nayak et al., ICML 2019; PrivateSNN, Kim et al., AAAI 2022) ask an image of class k to look to the
network like a draw from a Dirichlet distribution whose concentrations say how alike the classifier finds k and every
other class. A draw need not have its largest share at k: an image is labelled by what was asked for, or by what the
network says of it, never by the class that the draw was made for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from spikefed.errors import DataError
from spikefed.files import write_atomic
from spikefed.networks import read_tensors, write_tensors

LEAST = 1e-3
"""Least concentration: the class that is least alike would have 0, which no Dirichlet distribution has."""
SMALLEST_SHARE = 1e-6
"""Least share of a class in a soft target."""


def similarity(weight: Float[Tensor, "C F"]) -> Float[Tensor, "C C"]:
    """Concentrations in [1e-3, 1]: cosines of a classifier's rows, each row from its least (1e-3) to its largest (1).

    Args:
        weight: of the last layer, a row for each class.
    """
    rows = torch.nn.functional.normalize(weight.detach().double(), dim=1)
    cosines = rows @ rows.T
    low = cosines.amin(dim=1, keepdim=True)
    high = cosines.amax(dim=1, keepdim=True)
    return ((cosines - low) / (high - low).clamp_min(1e-12)).clamp_min(LEAST).float()


def soft_targets(
    concentrations: Float[Tensor, "C C"], classes: Integer[Tensor, " N"], scale: float, seed: int
) -> Float[Tensor, "N C"]:
    """Draws from Dirichlet(scale * concentrations[k]), strictly positive, each row with sum 1.

    Drawn in the log domain (log of a gamma variate of shape a is that of a + 1, plus log U / a): with concentrations
    near 0 the usual draws end in rows of 0 / 0.

    Args:
        concentrations: as `similarity` gives them.
        classes: k of each row.
        scale: below 1 draws are nearer to one class, above 1 to the concentrations.
        seed: of the draws.
    """
    draw = np.random.default_rng(seed)
    shapes = scale * concentrations.double().numpy()[classes.numpy()]
    logs = np.log(draw.standard_gamma(shapes + 1)) + np.log(1 - draw.random(shapes.shape)) / shapes
    shares = torch.softmax(torch.from_numpy(logs), dim=1).clamp_min(SMALLEST_SHARE)
    return (shares / shares.sum(dim=1, keepdim=True)).float()


@dataclass(frozen=True, eq=False)
class SyntheticSet:
    """Synthetic images.

    Attributes:
        images: uint8 ``[N, C, H, W]``.
        targets: shares of the classes that were asked for, float32 ``[N, classes]``.
        outputs: mean outputs of the network on ``images``, float32 ``[N, classes]``: what a student learns from.
        provenance: where they come from: kind, settings, the network's SHA-256.
    """

    images: UInt8[Tensor, "N C H W"]
    targets: Float[Tensor, "N classes"]
    outputs: Float[Tensor, "N classes"]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> Integer[Tensor, " N"]:
        """What the network says of each image, int64 ``[N]``."""
        return self.outputs.argmax(dim=1)

    @property
    def agreement(self) -> float:
        """Share of images of which the network says the class that has the largest share of their target."""
        return float((self.labels == self.targets.argmax(dim=1)).double().mean())

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int) -> SyntheticSet:
        """The first so many; classes take turns, so they hold all of them."""
        parts = (self.images[:count], self.targets[:count], self.outputs[:count])
        return SyntheticSet(*parts, self.provenance)

    def save(self, path: Path) -> None:
        """Write the images with all that is known of them as one safetensors file."""
        tensors = {"images": self.images, "targets": self.targets, "outputs": self.outputs}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, write_tensors(tensors, facts=dict(self.provenance)))

    @staticmethod
    def load(path: Path) -> SyntheticSet:
        """Inverse of `save`.

        Raises:
            CheckpointError: a damaged file.
            DataError: no such file, or one of something else.
        """
        if not path.is_file():
            raise DataError(f"there are no synthetic images in {path}; make them with 'spikefed synthesise'")
        found = read_tensors(path)
        tensors = found.tensors
        images = tensors.get("images")
        fits = set(tensors) == {"images", "targets", "outputs"} and images is not None and images.dtype == torch.uint8
        if images is None or not fits or len({len(tensor) for tensor in tensors.values()}) != 1:
            raise DataError(f"{path} holds no synthetic images; make them anew with 'spikefed synthesise'")
        return SyntheticSet(images, tensors["targets"], tensors["outputs"], found.facts)
