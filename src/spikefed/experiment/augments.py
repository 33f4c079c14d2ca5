"""Augmentations that do not suit the images: series that would be moved as pictures, pictures moved out of sight."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from spikefed.errors import ConfigError
from spikefed.experiment.config import Experiment
from spikefed.training import REACH

KEYS = {"augment": "training", "server_augment": "method", "distil_augment": "method"}
"""Settings that name an augmentation, and their tables."""
FAR = Fraction(1, 8)
"""Share of an image's side, the usual crop of CIFAR-10 (4 pixels of 32); beyond it nothing here was found to gain.

On digits of 8x8 pixels a server that learns rows shifted by up to 2 pixels has 58 % after one round, without 94 %.
"""


def _chosen(config: Experiment) -> Iterator[tuple[str, str]]:
    """Every key that names an augmentation here, and its value."""
    hyper = config.hyper()
    for key, table in KEYS.items():
        value = getattr(hyper, key, "none")
        if value != "none":
            yield f"{table}.{key}", value


def check_augments(config: Experiment, shape: tuple[int, int, int]) -> None:
    """Refuse to move what is no picture.

    Args:
        config: the experiment.
        shape: (C, H, W) of an image.

    Raises:
        ConfigError: an augmentation of series or rows of numbers.
    """
    for key, value in _chosen(config) if 1 in shape[1:] else ():
        raise ConfigError(f"{key} = '{value}' moves pictures, and the data are series or rows of numbers; leave it out")


def augment_notes(config: Experiment, shape: tuple[int, int, int]) -> tuple[str, ...]:
    """A sentence for every augmentation that moves images by more than `FAR` of their shorter side.

    Args:
        config: the experiment.
        shape: (C, H, W) of an image.
    """
    height, width = shape[1:]
    return tuple(
        f"{key} = '{value}' moves images of {height}x{width} by up to {REACH[value]} pixels, more than an eighth of "
        "their side, so that much of what they show is lost; leave it out"
        for key, value in _chosen(config)
        if REACH[value] > FAR * min(height, width)
    )
