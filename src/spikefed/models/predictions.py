"""What a model says of images."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    Attributes:
        image: file, or place in what was given.
        label: number of the class; the smallest among equals.
        name: its name.
        confidence: see `Predictions`.
        silent: no output neuron fired, so that ``label`` says nothing.
        truth: the class that came with the image, None without one.
    """

    image: str
    label: int
    name: str
    confidence: float
    silent: bool
    truth: int | None = None


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of images, in the order given.

    Attributes:
        scores: mean outputs over time, float32 ``[N, C]``: firing rates in [0, 1], or logits (readout ``current``).
        class_names: a text for each class.
        images: file of each image, or its place in what was given.
        spiking: whether scores are firing rates.
        logit_scale: factor on logits before their softmax.
        truth: classes that came with the images, int64 ``[N]``; None without any.
        notes: what was done to the images that whoever gave them should know, a sentence each.
        seconds: that reading and predicting took.
    """

    scores: Tensor
    class_names: tuple[str, ...]
    images: list[str]
    spiking: bool
    logit_scale: float = 1.0
    truth: Tensor | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @cached_property
    def labels(self) -> Tensor:
        """The class with the highest score, the smallest number among equals; int64 ``[N]``."""
        return self.scores.argmax(dim=1)

    @property
    def names(self) -> list[str]:
        """Name of the class of each image."""
        return [self.class_names[label] for label in self.labels.tolist()]

    @cached_property
    def confidence(self) -> Tensor:
        """In [0, 1], float32 ``[N]``: the class's share of all output spikes, 0 where none came; of logits the softmax.

        It is no calibrated probability: the probe `accuracy` measures how far it is from one.
        """
        if self.spiking:
            shares = self.scores / self.scores.sum(dim=1, keepdim=True).clamp_min(1e-12)
        else:
            shares = torch.softmax(self.logit_scale * self.scores, dim=1)
        return shares.gather(1, self.labels[:, None])[:, 0]

    @cached_property
    def silent(self) -> Tensor:
        """Where no output neuron fired, bool ``[N]``."""
        return (self.scores == 0).all(dim=1) & self.spiking

    @property
    def accuracy(self) -> float | None:
        """Share of the images whose class is the one they came with; None where none came."""
        if self.truth is None or not len(self.truth):
            return None
        return float((self.labels == self.truth).double().mean())

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Prediction]:
        truth = [None] * len(self) if self.truth is None else self.truth.tolist()
        columns = (self.images, self.labels.tolist(), self.names, self.confidence.tolist(), self.silent.tolist(), truth)
        return (Prediction(*row) for row in zip(*columns, strict=True))

    def to_csv(self) -> str:
        """A header and one line an image: image, label, class, confidence, and truth where it is known."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        known = self.truth is not None
        writer.writerow(["image", "label", "class", "confidence", *(["truth"] if known else [])])
        for one in self:
            writer.writerow([one.image, one.label, one.name, f"{one.confidence:.4f}", *([one.truth] if known else [])])
        return text.getvalue()
