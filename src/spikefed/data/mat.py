"""SVHN in MATLAB files: ``X`` uint8 ``[32, 32, 3, N]``, ``y`` ``[N, 1]`` with 10 for the digit 0."""

from __future__ import annotations

import numpy as np

from spikefed.data.catalogue import DatasetInfo
from spikefed.data.locate import Found
from spikefed.data.verify import again, verify_file
from spikefed.errors import DataError


def read_mat(info: DatasetInfo, split: str, found: Found, verify: bool) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 ``[N, 3, 32, 32]`` and labels int64 ``[N]``, the digit 0 as 0.

    Args:
        info: entry of the catalogue.
        split: ``train`` or ``test``.
        found: where the files lie and in which form.
        verify: check sizes and checksums first.

    Raises:
        DataError: truncated, altered, or no such arrays.
    """
    from scipy.io import loadmat  # takes a quarter of a second

    official = found.form.files[split][0]
    path = found.folder / official.name
    if verify:
        verify_file(path, official, info.name)
    try:
        arrays = loadmat(path, variable_names=["X", "y"])
        images, labels = arrays["X"], arrays["y"].reshape(-1).astype(np.int64)
    except Exception as error:  # scipy raises many kinds on a broken file
        told = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be read as a MATLAB file ({told}); {again(info.name)}.") from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != len(labels):
        raise DataError(
            f"{path}: X is {images.dtype} {list(images.shape)} with {len(labels)} labels, not uint8 [32, 32, 3, N]; "
            f"{again(info.name)}."
        )
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1)), np.where(labels == 10, 0, labels)
