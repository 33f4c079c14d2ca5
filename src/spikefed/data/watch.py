"""The watch set: ten people, seven shoulder exercises, a smartwatch on either arm (package seglearn, BSD-3).

Burns et al., Shoulder physiotherapy exercise recognition: machine learning the inertial signals from a smartwatch,
Physiological Measurement 39, 2018 (arXiv:1802.01489): 140 recordings of six inertial values at 50 Hz.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spikefed.data.images import ImageSet
from spikefed.errors import DataError

RATE_HZ = 50
WINDOW_S = 2.0
HOP_S = 1.0
TEST_PEOPLE = ("9", "10")
"""Who is the test part where nothing else is asked for."""
_SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"
_ARRAYS = {
    ("numpy.core.multiarray", "_reconstruct"): ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"): ("numpy._core.multiarray", "scalar"),
    ("numpy", "ndarray"): ("numpy", "ndarray"),
    ("numpy", "dtype"): ("numpy", "dtype"),
    ("_codecs", "encode"): ("_codecs", "encode"),
}


class _Arrays(pickle.Unpickler):
    """Reads arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAYS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        there, kept = _ARRAYS[module, name]
        if np.lib.NumpyVersion(np.__version__) < "2.0.0":
            there = module
        return super().find_class(there, kept)


def watch_file() -> Path:
    """The file inside the package seglearn, which is not imported.

    Raises:
        DataError: the package is not installed, or its file is another.
    """
    found = importlib.util.find_spec("seglearn")
    path = None if found is None or found.origin is None else Path(found.origin).parent / "data" / "watch_dataset.npy"
    if path is None or not path.is_file():
        raise DataError("data set 'watch' lies inside the package seglearn; install spikefed[watch].")
    return path


def recordings() -> dict[str, Any]:
    """The recordings as they are: ``X`` (140 arrays ``[samples, 6]``), ``y``, ``subject``, ``side``, ``y_labels``.

    Raises:
        DataError: not there, or altered: the file is compared with its checksum before anything in it is read.
    """
    path = watch_file()
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise DataError(f"{path} is not the file of seglearn 1.2.5 (its checksum differs); install that version again.")
    stream = io.BytesIO(content)
    np.lib.format.read_magic(stream)
    np.lib.format.read_array_header_1_0(stream)
    try:
        return _Arrays(stream).load().item()
    except (pickle.UnpicklingError, ImportError, AttributeError) as error:
        raise DataError(f"{path} cannot be read: {error}; install seglearn 1.2.5 again.") from error


def read_watch(split: str, window_s: float = WINDOW_S, hop_s: float = HOP_S) -> ImageSet:
    """Windows of the recordings as series, float32 ``[N, T, 6, 1, 1]``; columns ``person``, ``side``, ``recording``.

    Args:
        split: ``"train"``: people 1 to 8; ``"test"``: people 9 and 10.
        window_s: seconds of a window.
        hop_s: seconds from one window to the next.

    Raises:
        DataError: as `recordings`.
    """
    told = recordings()
    length = round(window_s * RATE_HZ)
    hop = round(hop_s * RATE_HZ)
    windows = []
    labels = []
    columns = {"person": [], "side": [], "recording": []}
    for number, series in enumerate(told["X"]):
        if (str(int(told["subject"][number])) in TEST_PEOPLE) != (split == "test"):
            continue
        cut = np.lib.stride_tricks.sliding_window_view(np.asarray(series, np.float32), length, axis=0)[::hop]
        windows.append(cut.transpose(0, 2, 1))
        labels += [int(told["y"][number])] * len(cut)
        facts = (int(told["subject"][number]), ("left", "right")[int(told["side"][number])], number)
        for key, fact in zip(columns, facts, strict=True):
            columns[key] += [fact] * len(cut)
    series = torch.from_numpy(np.concatenate(windows))[..., None, None]
    names = tuple(str(name) for name in told["y_labels"])
    kept = {key: np.asarray(values) for key, values in columns.items()}
    return ImageSet("watch", split, series, torch.tensor(labels), len(names), names, "reals", kept)
