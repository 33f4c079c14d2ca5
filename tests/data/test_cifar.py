"""Python batches, their archive and tiles, written small by the tests; what a hostile pickle can do."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spikefed.data import catalogue, load
from spikefed.data.catalogue import Form, OfficialFile
from spikefed.data.cifar import read_batch
from spikefed.errors import DataError

COUNT = 100


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (COUNT, 3, 32, 32), dtype=np.uint8)


LABELS = [i % 10 for i in range(COUNT)]


def batch(images: np.ndarray, labels: list[int], **more: object) -> bytes:
    return pickle.dumps({"data": images.reshape(len(images), -1), "labels": labels, **more}, protocol=2)


def old_batch(rows: np.ndarray, labels: list[int]) -> bytes:
    """The opcodes that Python 2 wrote: byte-string keys, numpy.core names, the pixels as one byte string."""

    def short(text: bytes) -> bytes:
        return b"U" + bytes([len(text)]) + text

    def small(number: int) -> bytes:
        return b"J" + struct.pack("<i", number)

    dtype = b"cnumpy\ndtype\n" + short(b"u1") + small(0) + small(1) + b"\x87R"
    dtype += b"(" + small(3) + short(b"|") + b"NNN" + small(-1) + small(-1) + small(0) + b"tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + small(0) + b"\x85" + short(b"b") + b"\x87R"
    array += b"(" + small(1) + small(len(rows)) + small(3072) + b"\x86" + dtype + b"\x89"
    array += b"T" + struct.pack("<i", rows.size) + rows.tobytes() + b"tb"
    numbers = b"](" + b"".join(small(v) for v in labels) + b"e"
    return b"\x80\x02}(" + short(b"labels") + numbers + short(b"data") + array + b"u."


@pytest.mark.parametrize("write", [batch, lambda x, y: old_batch(x.reshape(len(x), -1), y)], ids=["new", "old"])
def test_batch_round_trip(images: np.ndarray, write: object) -> None:
    pixels, labels = read_batch(write(images, LABELS), "b", "labels", "fetch it")  # type: ignore[operator]
    np.testing.assert_array_equal(pixels, images)
    assert labels.tolist() == LABELS and labels.dtype == np.int64


def test_label_key_chooses_the_labels(images: np.ndarray) -> None:
    content = batch(images[:3], [9, 9, 9], fine_labels=[99, 0, 5], coarse_labels=[19, 0, 1])
    assert read_batch(content, "b", "fine_labels", "")[1].tolist() == [99, 0, 5]
    assert read_batch(content, "b", "coarse_labels", "")[1].tolist() == [19, 0, 1]


class Harm:
    def __reduce__(self) -> tuple:
        return (os.system, ("echo harm > harm.txt",))


class Name:
    """Pickles as a call of any global."""

    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple:
        return (self.call[0], tuple(self.call[1:]))


@pytest.mark.parametrize(
    "harmful",
    [
        Harm(),
        Name(eval, "1"),
        Name(np.frombuffer, b"abc"),
        Name(bytearray, 10),
        np.array([{"a": 1}], dtype=object),
        np.zeros((2, 3072), np.float32),
        np.dtype("V8"),
    ],
    ids=["system", "eval", "frombuffer", "bytearray", "objects", "floats", "void"],
)
def test_nothing_but_uint8_arrays_is_built(
    harmful: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: np.ndarray
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="allowed"):
        read_batch(batch(images, LABELS, extra=harmful), "bad_batch", "labels", "fetch it")
    assert not (tmp_path / "harm.txt").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not a CIFAR python batch"),
        (b"PK\x03\x04", "is not a CIFAR python batch"),
        (pickle.dumps([1, 2], protocol=2), "is not a CIFAR python batch"),
        (pickle.dumps({"labels": LABELS}, protocol=2), "no 'data' array"),
        (pickle.dumps({"data": b"x" * 3072, "labels": [1]}, protocol=2), "no 'data' array"),
        (pickle.dumps({"data": np.zeros((2, 100), np.uint8), "labels": [1, 2]}, protocol=2), "no 'data' array"),
        (pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, protocol=2), "2 images but 1 labels"),
        (pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [1.5]}, protocol=2), "no list 'labels'"),
        (pickle.dumps({"data": np.zeros((1, 3072), np.uint8)}, protocol=2), "no list 'labels'"),
    ],
)
def test_bad_batches_are_named(content: bytes, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        read_batch(content, "some_batch", "labels", "fetch it")
    assert "some_batch" in str(caught.value) and "fetch it" in str(caught.value)


def test_cut_batches_are_errors(images: np.ndarray) -> None:
    whole = batch(images[:2], LABELS[:2])
    for length in range(0, len(whole), 97):
        with pytest.raises(DataError):
            read_batch(whole[:length], "cut", "labels", "fetch it")


def tile_zip(images: np.ndarray, labels: list[int], **change: object) -> bytes:
    """The tile layout for splits of one tile each."""
    plan = {"rows": 10, "columns": 10, "image": [32, 32, 3], "splits": {"train": COUNT, "test": COUNT}} | change
    picture = np.zeros((320, 320, 3), np.uint8)
    for i, image in enumerate(images):  # image i stands in row i // 10, column i % 10
        top, left = 32 * (i // 10), 32 * (i % 10)
        picture[top : top + 32, left : left + 32] = image.transpose(1, 2, 0)
    tile, out = io.BytesIO(), io.BytesIO()
    Image.fromarray(picture).save(tile, format="WEBP", lossless=True)
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("info.json", json.dumps(plan))
        for split in ("train", "test"):
            archive.writestr(f"{split}/labels.u8", bytes(labels))
            archive.writestr(f"{split}/coarse_labels.u8", bytes(v // 2 for v in labels))
            archive.writestr(f"{split}/0000.webp", tile.getvalue())
    return out.getvalue()


def official(name: str, content: bytes) -> OfficialFile:
    return OfficialFile(name, len(content), md5=hashlib.md5(content).hexdigest())


def mini_cifar(monkeypatch: pytest.MonkeyPatch, **contents: bytes) -> None:
    """Make 'cifar10' a set of 100 + 100 images with the checksums of ``contents``."""
    one = official("data_batch_1", contents.get("batch", b""))
    two = official("test_batch", contents.get("batch", b""))
    tiles = official("cifar10.zip", contents.get("tiles", b""))
    tar = official("cifar-10-python.tar.gz", contents.get("tar", b""))
    files = {"train": (one,), "test": (two,)}
    info = replace(
        catalogue.dataset_info("cifar10"),
        sizes={"train": COUNT, "test": COUNT},
        forms=(
            Form("batches", files, folder="cifar-10-batches-py"),
            Form("tiles", {"train": (tiles,), "test": (tiles,)}),
            Form("batches-tar", {"train": (tar,), "test": (tar,)}, members=files),
        ),
    )
    monkeypatch.setitem(catalogue._CATALOGUE, "cifar10", info)


def tar_gz(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def test_three_forms_hold_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: np.ndarray) -> None:
    content = batch(images, LABELS)
    packed, tiles = tar_gz(data_batch_1=content, test_batch=content), tile_zip(images, LABELS)
    mini_cifar(monkeypatch, batch=content, tar=packed, tiles=tiles)
    for folder, name, data in (
        ("a/cifar", "cifar10.zip", tiles),
        ("b", "cifar-10-python.tar.gz", packed),
        ("c/cifar/cifar-10-batches-py", "data_batch_1", content),
        ("d/cifar-10-batches-py", "data_batch_1", content),
    ):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).write_bytes(data)
    for folder in ("a", "b", "c", "d", "d/cifar-10-batches-py"):
        loaded = load("cifar10", "train", tmp_path / folder)
        np.testing.assert_array_equal(loaded.images.numpy(), images)
        assert loaded.labels.tolist() == LABELS


def test_damaged_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: np.ndarray) -> None:
    content = batch(images, LABELS)
    whole = tar_gz(data_batch_1=content, test_batch=content)
    mini_cifar(monkeypatch, batch=content, tar=whole)
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(whole[:-1000])
    with pytest.raises(DataError, match="is truncated"):
        load("cifar10", "test", tmp_path)
    with pytest.raises(DataError, match="truncated or damaged"):
        load("cifar10", "test", tmp_path, verify=False)
    path.write_bytes(tar_gz(data_batch_1=content))
    with pytest.raises(DataError, match="holds no test_batch"):
        load("cifar10", "test", tmp_path, verify=False)
    altered = content[:-2000] + bytes(1990) + content[-10:]
    changed = tar_gz(data_batch_1=content, test_batch=altered)
    mini_cifar(monkeypatch, batch=content, tar=changed)
    path.write_bytes(changed)
    with pytest.raises(DataError, match=r"test_batch has the wrong checksum"):
        load("cifar10", "test", tmp_path)


def test_damaged_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: np.ndarray) -> None:
    whole = tile_zip(images, LABELS)
    mini_cifar(monkeypatch, tiles=whole)
    path = tmp_path / "cifar10.zip"

    def refuse(content: bytes, says: str, verify: bool = False) -> None:
        path.write_bytes(content)
        with pytest.raises(DataError, match=says):
            load("cifar10", "train", tmp_path, verify=verify)

    refuse(whole[:-500], "is truncated", verify=True)
    refuse(whole[:300] + bytes([whole[300] ^ 1]) + whole[301:], "wrong checksum", verify=True)
    refuse(whole[:-500], "not a readable zip")
    refuse(tile_zip(images, LABELS, rows=5), "does not describe 10x10 tiles")
    refuse(tile_zip(images, LABELS[:-1]), "announces 100 images and holds 99 labels")
    refuse(tile_zip(images, [11] * COUNT), "labels run from 11 to 11")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("info.json", "{}")
    refuse(path.read_bytes(), "not a readable zip of CIFAR tiles")
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"RIFF nothing" if name.endswith("webp") else old.read(name))
    refuse(out.getvalue(), "train/0000.webp is not a readable WebP picture")
