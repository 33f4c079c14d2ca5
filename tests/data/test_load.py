"""`load` on small files in the official layout: search, verification, each kind of damage."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from spikefed.data import catalogue, load, public_set_id, verify
from spikefed.data.catalogue import DatasetInfo, Form, OfficialFile
from spikefed.errors import DataError

from .conftest import packed

TRAIN_IMAGES, TRAIN_LABELS = "mini-train-images-idx3-ubyte.gz", "mini-train-labels-idx1-ubyte.gz"


def test_reads_both_splits(mini: tuple[DatasetInfo, Path], pixels: dict) -> None:
    for split in ("train", "test"):
        images, labels = pixels[split]
        loaded = load("mini", split, mini[1].parent)
        assert (loaded.name, loaded.split, loaded.classes, loaded.shape) == ("mini", split, 10, (1, 28, 28))
        np.testing.assert_array_equal(loaded.images[:, 0].numpy(), images)
        np.testing.assert_array_equal(loaded.labels.numpy(), labels)


def test_search_order(mini: tuple[DatasetInfo, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Argument only, else $SPIKEFED_DATA, ./data, the user cache; sub-folders and flat layout."""
    _, folder = mini
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr("spikefed.data.locate.user_cache", lambda: tmp_path / "cache")
    assert len(load("mini", "test", folder)) == 20  # flat
    with pytest.raises(DataError):
        load("mini", "test")
    for place in (tmp_path / "cache" / "Mini" / "raw", work / "data" / "mini"):
        shutil.copytree(folder, place)
        assert len(load("mini", "test")) == 20
        shutil.rmtree(place)
    monkeypatch.setenv("SPIKEFED_DATA", str(folder.parent))
    assert len(load("mini", "test")) == 20
    with pytest.raises(DataError, match="no such folder"):  # a named folder is the only one searched
        load("mini", "test", tmp_path / "empty")


def test_one_split_is_enough_for_that_split(mini: tuple[DatasetInfo, Path]) -> None:
    (mini[1] / TRAIN_IMAGES).unlink()
    assert len(load("mini", "test", mini[1])) == 20
    with pytest.raises(DataError) as caught:
        load("mini", "train", mini[1])
    text = str(caught.value)
    assert f"lacks {TRAIN_IMAGES}" in text and "spikefed data fetch mini" in text and text.count(". ") == 0


def test_truncated_altered_and_foreign_files(mini: tuple[DatasetInfo, Path]) -> None:
    path = mini[1] / TRAIN_IMAGES
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"{TRAIN_IMAGES} is truncated .*delete it"):
        load("mini", "train", mini[1])
    with pytest.raises(DataError, match="gzip data ends early"):
        load("mini", "train", mini[1], verify=False)
    path.write_bytes(whole + b"x")
    with pytest.raises(DataError, match="is not the official file"):
        load("mini", "train", mini[1])
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match=rf"{TRAIN_IMAGES} has the wrong checksum"):
        load("mini", "train", mini[1])


@pytest.mark.parametrize(
    ("images", "labels", "says"),
    [
        (np.zeros((39, 28, 28), np.uint8), np.zeros(40, np.uint8), "39 images but .* 40 labels"),
        (np.zeros((39, 28, 28), np.uint8), np.zeros(39, np.uint8), r"39 images, Mini \(train\) has 40"),
        (np.zeros((40, 14, 14), np.uint8), np.zeros(40, np.uint8), r"images have shape \[14, 14\]"),
        (np.zeros((40, 28, 28), np.uint8), np.full(40, 10, np.uint8), "labels run from 10 to 10, Mini has 0 to 9"),
        (np.zeros(40, np.uint8), np.zeros(40, np.uint8), "magic 0x00000801, expected 0x00000803"),
    ],
)
def test_structure_is_checked_even_without_checksums(
    mini: tuple[DatasetInfo, Path], images: np.ndarray, labels: np.ndarray, says: str
) -> None:
    (mini[1] / TRAIN_IMAGES).write_bytes(packed(images))
    (mini[1] / TRAIN_LABELS).write_bytes(packed(labels))
    with pytest.raises(DataError, match=says):
        load("mini", "train", mini[1], verify=False)


def test_a_file_is_hashed_once_until_it_changes(
    mini: tuple[DatasetInfo, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    real = hashlib.file_digest
    monkeypatch.setattr(verify.hashlib, "file_digest", lambda *a: calls.append(1) or real(*a))
    load("mini", "train", mini[1])
    load("mini", "train", mini[1])
    assert len(calls) == 2  # images and labels, once each
    path = mini[1] / TRAIN_IMAGES
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(1, 1))
    load("mini", "train", mini[1])
    assert len(calls) == 3


def test_unknown_names_and_splits() -> None:
    with pytest.raises(DataError, match="did you mean 'fashion-mnist'"):
        load("fashon-mnist", "train")
    with pytest.raises(DataError, match="did you mean 'cifar10'"):
        load("CIFAR_10", "train")
    with pytest.raises(DataError, match="choose 'train' or 'test'"):
        load("digits", "valid")


def test_same_named_files_of_another_set_are_not_taken(tmp_path: Path) -> None:
    """MNIST and Fashion-MNIST share file names: in a flat folder the official sizes tell them apart."""
    fashion = catalogue.dataset_info("fashion-mnist")
    for official in fashion.forms[0].files["test"]:
        (tmp_path / official.name).write_bytes(bytes(official.size_bytes or 0))
    with pytest.raises(
        DataError, match="was not found: the files in .* are those of Fashion-MNIST.*put those of MNIST"
    ):
        load("mnist", "test", tmp_path)
    with pytest.raises(DataError, match="wrong checksum"):  # found, but all zeros
        load("fashion-mnist", "test", tmp_path)


def _mini_emnist(monkeypatch: pytest.MonkeyPatch, archive: OfficialFile, offset: int = 1) -> None:
    letters = catalogue.dataset_info("emnist-letters")
    members = {s: tuple(replace(f, sha256=None) for f in letters.forms[0].files[s]) for s in ("train", "test")}
    forms = (Form("idx", members), Form("idx-zip", {"train": (archive,), "test": (archive,)}, members=members))
    mini = replace(
        letters, sizes={"train": 40, "test": 20}, other_sizes={"train": 30}, forms=forms, label_offset=offset
    )
    monkeypatch.setitem(catalogue._CATALOGUE, "emnist-letters", mini)


def test_emnist_inside_its_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upright images, labels from 0, an older release's count accepted, damage inside named."""
    upright = np.zeros((30, 28, 28), np.uint8)
    upright[:, 3, 20] = 200  # row 3, column 20
    labels = np.resize(np.arange(1, 27, dtype=np.uint8), 30)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("gzip/emnist-letters-train-images-idx3-ubyte.gz", packed(upright.transpose(0, 2, 1).copy()))
        archive.writestr("gzip/emnist-letters-train-labels-idx1-ubyte.gz", packed(labels))
        archive.writestr("gzip/emnist-letters-test-images-idx3-ubyte.gz", packed(upright[:20])[:-9])
        archive.writestr("gzip/emnist-letters-mapping.txt", "1 65 97")
    content = buffer.getvalue()
    (tmp_path / "emnist").mkdir()
    path = tmp_path / "emnist" / "gzip.zip"
    path.write_bytes(content)
    _mini_emnist(monkeypatch, OfficialFile("gzip.zip", len(content)))

    loaded = load("emnist-letters", "train", tmp_path)
    np.testing.assert_array_equal(loaded.images[:, 0].numpy(), upright)
    np.testing.assert_array_equal(loaded.labels.numpy(), labels - 1)
    with pytest.raises(DataError, match=r"gzip.zip:gzip/emnist-letters-test-images.* is truncated"):
        load("emnist-letters", "test", tmp_path)

    path.write_bytes(content[:-30])
    with pytest.raises(DataError, match=r"gzip.zip is truncated"):
        load("emnist-letters", "train", tmp_path)
    with pytest.raises(DataError, match=r"not a readable zip"):
        load("emnist-letters", "train", tmp_path, verify=False)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(DataError, match=r"holds no emnist-letters-train-images"):
        load("emnist-letters", "train", tmp_path, verify=False)


def test_emnist_files_beside_each_other_and_a_zero_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _mini_emnist(monkeypatch, OfficialFile("gzip.zip", 1))
    images, labels = np.zeros((40, 28, 28), np.uint8), np.ones(40, np.uint8)
    (tmp_path / "emnist-letters-train-images-idx3-ubyte.gz").write_bytes(packed(images))
    path = tmp_path / "emnist-letters-train-labels-idx1-ubyte.gz"
    path.write_bytes(packed(labels))
    assert int(load("emnist-letters", "train", tmp_path).labels.max()) == 0
    labels[7] = 0
    path.write_bytes(packed(labels))
    with pytest.raises(DataError, match="labels run from 0 to 1, EMNIST letters has 1 to 26"):
        load("emnist-letters", "train", tmp_path)


def test_digits_are_embedded_fixed_and_stratified() -> None:
    train, test = load("digits", "train"), load("digits", "test")
    assert (len(train), len(test), train.shape) == (1437, 360, (1, 8, 8))
    whole = torch.cat([train.images, test.images]).flatten(1)
    rows, target = load_digits(return_X_y=True)
    expected = np.rint(np.asarray(rows) * 255 / 16).astype(np.uint8)
    assert sorted(map(bytes, whole.numpy())) == sorted(map(bytes, expected))  # nothing lost, nothing twice
    assert int(whole.max()) == 255 and int(whole.min()) == 0
    share = np.bincount(target) * 360 / 1797
    assert np.abs(test.labels.bincount().numpy() - share).max() < 1
    again = load("digits", "test")
    assert torch.equal(again.images, test.images) and again.images.data_ptr() != test.images.data_ptr()


def test_digits_split_is_pinned() -> None:
    """Whoever changes the split changes every published digits figure: change this line knowingly."""
    assert (
        public_set_id(load("digits", "test").images).hex()
        == "d2729687162b9bbc204b855cccb49e7df0acefadc111e6192efe1893e2700435"
    )


def test_unreadable_file(mini: tuple[DatasetInfo, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(mini[1] / TRAIN_IMAGES))

    monkeypatch.setattr(gzip, "open", refuse)
    with pytest.raises(DataError, match=rf"{TRAIN_IMAGES} cannot be read \(Permission denied\)"):
        load("mini", "train", mini[1])
