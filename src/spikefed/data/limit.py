"""A smaller test set that still looks like the whole."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from spikefed.data.images import ImageSet

_SEED = 2216  # never change it: it fixes which images are measured
_Z = 3.09  # quantile 0.999 of the normal distribution


def limited(images: ImageSet, limit: int) -> ImageSet:
    """At most ``limit`` images: the first, where their classes are those of the whole set; else a seeded sample.

    A file in random order so gives its first rows. One that is sorted by class would give one class: then each class
    gives its share, rounded so that the sum fits (largest remainders, at least one image while there is room), chosen
    by a fixed seed, in the order of the file.
    """
    if limit >= len(images):
        return images
    labels = images.labels.numpy()
    rows = np.arange(limit) if representative(labels, limit) else stratified(labels, limit)
    return images.subset(torch.from_numpy(rows))


def representative(labels: np.ndarray, first: int) -> bool:
    """Whether the classes of the first rows could be those of a random sample (chi-squared test, level 0.001).

    ``labels`` is ``[N]``.
    """
    whole = np.bincount(labels)
    present = np.flatnonzero(whole)
    expected = whole[present] * (first / len(labels))
    seen = np.bincount(labels[:first], minlength=len(whole))[present]
    statistic = float(((seen - expected) ** 2 / expected).sum())
    freedom = max(len(present) - 1, 1)
    spread = 2 / (9 * freedom)
    return statistic <= freedom * (1 - spread + _Z * spread**0.5) ** 3  # Wilson and Hilferty 1931


def stratified(labels: np.ndarray | Tensor, count: int) -> np.ndarray:
    """Row numbers of a sample with the class shares of the whole, ascending.

    ``labels`` is ``[N]``, the result ``[count]``.
    """
    labels = np.asarray(labels)
    whole = np.bincount(labels)
    share = whole * (count / len(labels))
    quota = np.floor(share).astype(np.int64)
    if count >= np.count_nonzero(whole):
        quota = np.maximum(quota, whole > 0)
    order = np.argsort(quota - share, kind="stable")
    for label in order:
        if quota.sum() >= count:
            break
        quota[label] += quota[label] < whole[label]
    while quota.sum() > count:
        quota[np.argmax(quota)] -= 1
    generator = np.random.RandomState(_SEED)
    chosen = [generator.permutation(np.flatnonzero(labels == label))[:take] for label, take in enumerate(quota)]
    return np.sort(np.concatenate(chosen))
