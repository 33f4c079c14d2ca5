"""SVHN's MATLAB files, written small by the tests."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from spikefed.data import catalogue, load
from spikefed.data.catalogue import Form, OfficialFile
from spikefed.errors import DataError

X = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 20), dtype=np.uint8)
Y = (np.arange(20) % 10 + 1)[:, None].astype(np.uint8)  # 1 to 10


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {}
    for split in ("train", "test"):
        path = tmp_path / "svhn" / f"{split}_32x32.mat"
        path.parent.mkdir(exist_ok=True)
        savemat(path, {"X": X, "y": Y})
        files[split] = (OfficialFile(path.name, md5=hashlib.md5(path.read_bytes()).hexdigest()),)
    info = replace(catalogue.dataset_info("svhn"), sizes={"train": 20, "test": 20}, forms=(Form("mat", files),))
    monkeypatch.setitem(catalogue._CATALOGUE, "svhn", info)
    return tmp_path


def test_pixels_stand_upright_and_ten_means_zero(folder: Path) -> None:
    train = load("svhn", "train", folder)
    assert train.shape == (3, 32, 32) and train.labels.tolist() == [*range(1, 10), 0] * 2
    for n in (0, 7, 19):
        assert np.array_equal(train.images[n].numpy(), X[..., n].transpose(2, 0, 1))


def test_altered_broken_and_foreign_files_are_refused(folder: Path) -> None:
    path = folder / "svhn" / "train_32x32.mat"
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    with pytest.raises(DataError, match="wrong checksum"):
        load("svhn", "train", folder)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cannot be read as a MATLAB file"):
        load("svhn", "train", folder, verify=False)
    savemat(path, {"X": X.astype(float), "y": Y})
    with pytest.raises(DataError, match=r"X is float64 \[32, 32, 3, 20\] with 20 labels, not uint8"):
        load("svhn", "train", folder, verify=False)
    savemat(path, {"Z": X})
    with pytest.raises(DataError, match="cannot be read as a MATLAB file"):
        load("svhn", "train", folder, verify=False)
