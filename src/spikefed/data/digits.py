"""The 8x8 digits inside scikit-learn: real data that needs no file and no network."""

from __future__ import annotations

import numpy as np

TEST_ITEMS = 360
_SPLIT_SEED = 2216  # never change it: it fixes which images are test images


def read_digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 ``[N, 1, 8, 8]`` (0..16 scaled to 0..255) and labels int64 ``[N]``, in the order of the source.

    The split is fixed and stratified: each class gives a fifth of its images to the test part, rounded so that it has
    360 images (largest remainders, ties to the smaller class), chosen by a frozen generator.
    """
    from sklearn.datasets import load_digits  # seconds to import, and no other data set needs it

    rows, target = load_digits(return_X_y=True)
    pixels = np.rint(np.asarray(rows).reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = np.asarray(target, dtype=np.int64)

    counts = np.bincount(labels)
    share = counts * (TEST_ITEMS / len(labels))
    quota = np.floor(share).astype(int)
    missing = TEST_ITEMS - int(quota.sum())
    quota[np.argsort(quota - share, kind="stable")[:missing]] += 1

    generator = np.random.RandomState(_SPLIT_SEED)  # the legacy generator's stream is frozen by numpy's own policy
    is_test = np.zeros(len(labels), dtype=bool)
    for label, take in enumerate(quota):
        is_test[generator.permutation(np.flatnonzero(labels == label))[:take]] = True
    chosen = is_test if split == "test" else ~is_test
    return pixels[chosen], labels[chosen]
