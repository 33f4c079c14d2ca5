"""The official files, where the real data folder is at hand."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spikefed.data import check, load
from spikefed.errors import DataError


@pytest.mark.parametrize(
    ("name", "split", "count", "first_labels"),
    [
        ("mnist", "train", 60000, [5, 0, 4, 1, 9]),
        ("mnist", "test", 10000, [7, 2, 1, 0, 4]),
        ("fashion-mnist", "train", 60000, [9, 0, 0, 3, 0]),
        ("fashion-mnist", "test", 10000, [9, 2, 1, 1, 6]),
        ("cifar10", "test", 10000, [3, 8, 8, 0, 6]),
        ("cifar100", "test", 10000, [49, 33, 72, 51, 71]),
        # mountain, forest and sea: outdoor scenes (10); seal: aquatic mammals (0); mushroom: fruit and vegetables (4)
        ("cifar100-coarse", "test", 10000, [10, 10, 0, 4, 10]),
    ],
)
def test_official_files(real_data: Path, name: str, split: str, count: int, first_labels: list[int]) -> None:
    loaded = load(name, split, real_data)
    assert len(loaded) == count and loaded.labels[:5].tolist() == first_labels
    per_class = loaded.labels.bincount(minlength=loaded.classes)
    if name == "mnist":
        assert (int(per_class.min()), int(per_class.max())) == ((5421, 6742) if split == "train" else (892, 1135))
    else:
        assert (per_class == count // loaded.classes).all()


def test_cifar10_train_has_the_published_channel_statistics(real_data: Path) -> None:
    images = load("cifar10", "train", real_data).images
    levels = torch.arange(256, dtype=torch.float64)
    means, deviations = [], []
    for channel in range(3):
        share = images[:, channel].flatten().bincount(minlength=256).double() / images[:, channel].numel()
        means.append(float(share @ levels))
        deviations.append(float(share @ levels.square() - means[-1] ** 2) ** 0.5)
    assert [round(m, 2) for m in means] == [125.31, 122.95, 113.87]
    assert [round(d, 2) for d in deviations] == [62.99, 62.09, 66.70]


def test_truncated_official_file(real_data: Path, tmp_path: Path) -> None:
    shutil.copytree(real_data / "mnist", tmp_path / "mnist")
    path = tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:1_000_000])
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte.gz is truncated \(1,000,000 of 1,648,877 bytes\)"):
        load("mnist", "test", tmp_path)
    (row,) = check(tmp_path, ["mnist"])
    assert row.status == "bad" and row.counts == {"train": 60000}


def test_unpacked_official_files(real_data: Path, tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for path in (real_data / "fashion-mnist").glob("t10k-*.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    assert torch.equal(load("fashion-mnist", "test", tmp_path).images, load("fashion-mnist", "test", real_data).images)


@pytest.mark.slow
def test_tiles_equal_the_official_python_batches(real_data: Path, tmp_path: Path) -> None:
    """The data folder's own script rebuilds the official batches byte for byte (it compares their MD5)."""
    script = real_data / "unpack_cifar.py"
    subprocess.run([sys.executable, str(script), "--out", str(tmp_path)], check=True, capture_output=True)
    for name in ("cifar10", "cifar100", "cifar100-coarse"):
        for split in ("train", "test"):
            tiles, batches = load(name, split, real_data), load(name, split, tmp_path)
            assert torch.equal(tiles.images, batches.images) and torch.equal(tiles.labels, batches.labels)
