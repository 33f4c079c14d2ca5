"""What a file that a network leaves in says beside its numbers: how pixels enter it and what its classes are called."""

from __future__ import annotations

from dataclasses import dataclass

from spikefed.training import Preprocess
from spikefed.version import __version__


@dataclass(frozen=True)
class About:
    """What whoever takes the network away needs to use it.

    Attributes:
        title: which network, of which run, one line.
        preprocess: pixels (counts, real numbers) to network input.
        class_names: a text for each class.
        values: what the images' numbers are: ``pixels``, ``counts`` or ``reals``.
        timed: the data have time steps of their own.
        logit_scale: factor on logits before their softmax.
    """

    title: str
    preprocess: Preprocess
    class_names: tuple[str, ...]
    values: str = "pixels"
    timed: bool = False
    logit_scale: float = 1.0

    @property
    def origin(self) -> str:
        """One line for the head of a file."""
        return f"{self.title}; written by spikefed {__version__}"
