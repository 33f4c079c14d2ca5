"""The watch set: what its authors recorded, cut into windows that never cross recordings or people."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pytest

from spikefed import data
from spikefed.data import watch
from spikefed.errors import DataError

HERE = importlib.util.find_spec("seglearn") is not None
needed = pytest.mark.skipif(not HERE, reason="the package seglearn is not installed")


@needed
def test_windows_are_those_of_the_recordings() -> None:
    told = watch.recordings()
    train, test = data.load_both("watch")
    assert len(train) + len(test) == 4677 and train.steps == 100 and train.shape == (6, 1, 1)
    assert set(test.columns["person"]) == {9, 10} and set(train.columns["person"]) == set(range(1, 9))
    for part in (train, test):
        for number in np.unique(part.columns["recording"]):
            rows = np.flatnonzero(part.columns["recording"] == number)
            series = np.asarray(told["X"][number], np.float32)
            assert len(rows) == (len(series) - 100) // 50 + 1
            for place, row in enumerate(rows):
                assert np.array_equal(part.images[row, :, :, 0, 0].numpy(), series[50 * place : 50 * place + 100])
            assert set(part.labels[rows].tolist()) == {int(told["y"][number])}
            assert set(part.columns["person"][rows]) == {int(told["subject"][number])}
    assert train.class_names == tuple(told["y_labels"])


@needed
def test_an_altered_file_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(watch.watch_file().read_bytes())
    content[1000] ^= 1
    (tmp_path / "w.npy").write_bytes(content)
    monkeypatch.setattr(watch, "watch_file", lambda: tmp_path / "w.npy")
    with pytest.raises(DataError, match="is not the file of seglearn 1.2.5 .its checksum differs"):
        watch.recordings()


def test_nothing_but_arrays_is_ever_unpickled() -> None:
    import io
    import os

    evil = pickle.dumps(os.system)
    with pytest.raises(pickle.UnpicklingError, match="it asks for"):
        watch._Arrays(io.BytesIO(evil)).load()


def test_without_the_package_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"lies inside the package seglearn; install spikefed\[watch\]"):
        data.load("watch", "train")
