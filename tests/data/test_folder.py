"""Folders of pictures in every layout, sizes made equal by the stated rule, and large ones left on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import spikefed
from spikefed import data
from spikefed.data import folder, parts
from spikefed.errors import DataError

R = np.random.default_rng(0)


def put(path: Path, size: tuple[int, int] = (8, 8), mode: str = "RGB", level: int | None = None) -> np.ndarray:
    """A picture of noise, or of one level; as PIL reads it back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size, 3) if mode != "L" else size
    pixels = R.integers(0, 256, shape, dtype=np.uint8) if level is None else np.full(shape, level, np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    with Image.open(path) as file:
        return np.asarray(file.convert("L" if mode in ("L", "1") else "RGB"))


def read(root: Path, **reading: Any) -> data.Sources:
    return data.load_sources(f"images:{root}", None, data.Reading(**reading))


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "gif", "tiff", "webp", "ppm"])
def test_class_folders_in_any_common_format(ending: str, tmp_path: Path) -> None:
    wanted = {}
    for label in ("dog", "ant", "cat"):
        for n in range(10):
            image = put(tmp_path / label / f"{n}.{ending}", mode="P" if ending == "gif" else "RGB")
            wanted[image.tobytes()] = label
    (tmp_path / "dog" / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden").mkdir()
    train, test, _ = read(tmp_path)
    assert train.class_names == ("ant", "cat", "dog") and (len(train), len(test)) == (24, 6)
    for part in (train, test):
        for image, label in zip(part.images, part.labels.tolist(), strict=True):
            assert wanted[image.permute(1, 2, 0).contiguous().numpy().tobytes()] == train.class_name(label)


def test_parts_by_folder_and_validation_in_place_of_a_test(tmp_path: Path) -> None:
    for split, count in (("Train", 4), ("val", 2), ("test", 3)):
        for label in ("a", "b"):
            for n in range(count):
                put(tmp_path / "full" / split / label / f"{n}.png")
                if split != "test":
                    put(tmp_path / "decathlon" / split.lower() / f"000{1 + (label == 'b')}" / f"{n}.jpg")
                else:
                    put(tmp_path / "decathlon" / "test" / f"{label}{n}.jpg")  # classes are not told
    assert [len(part) for part in read(tmp_path / "full")[:2]] == [8, 6]
    train, test, _ = read(tmp_path / "decathlon")
    assert (len(train), len(test), train.class_names) == (8, 4, ("0001", "0002"))


def test_tiny_imagenet(tmp_path: Path) -> None:
    held = []
    for label in ("n01", "n02"):
        for n in range(3):
            put(tmp_path / "train" / label / "images" / f"{label}_{n}.JPEG")
        (tmp_path / "train" / label / f"{label}_boxes.txt").write_text("x")
    for n in range(4):
        put(tmp_path / "val" / "images" / f"val_{n}.JPEG")
        held.append(f"val_{n}.JPEG\tn0{1 + n % 2}\t0\t0\t62\t62")
    (tmp_path / "val" / "val_annotations.txt").write_text("\n".join(held) + "\n")
    put(tmp_path / "test" / "images" / "test_0.JPEG")
    (tmp_path / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn02\tfire salamander\nn03\tother\n")
    train, test, _ = read(tmp_path)
    assert train.class_names == ("goldfish", "fire salamander")
    assert (len(train), len(test), test.labels.tolist()) == (6, 4, [0, 0, 1, 1])
    with Image.open(tmp_path / "val" / "images" / "val_2.JPEG") as file:
        first = np.asarray(file.convert("RGB"))
    assert np.array_equal(test.images[1].permute(1, 2, 0).numpy(), first)


def test_few_shot_sets_with_other_classes_in_each_part_are_put_together(tmp_path: Path) -> None:
    for split, labels in (("train", "abc"), ("val", "d"), ("test", "ef")):
        for label in labels:
            for n in range(5):
                put(tmp_path / split / label / f"{n}.jpg")
    train, test, _ = read(tmp_path)
    assert train.class_names == tuple("abcdef") and (len(train), len(test)) == (24, 6)


def test_people_above_the_classes_are_a_column(tmp_path: Path) -> None:
    for person in ("anna", "ben"):
        for label in ("a", "b"):
            for n in range(5):
                put(tmp_path / person / label / f"{n}.png")
    train, _, _ = read(tmp_path)
    assert train.class_names == ("a", "b") and set(train.columns["folder"]) == {"anna", "ben"}
    split = data.split_federation(train, clients=2, partition="column", by="folder")
    assert split.names == ("anna", "ben")


def test_sizes_are_made_equal_by_the_stated_rule(tmp_path: Path) -> None:
    sizes = [(20, 30), (40, 25), (18, 18), (100, 64), (22, 19)] * 2
    for n, size in enumerate(sizes):
        put(tmp_path / "ab"[n % 2] / f"{n}.png", size)
    train, test, _ = read(tmp_path)
    assert train.shape == (3, 18, 18)
    assert "pictures have several sizes; each covers 18x18 and is cut at its centre" in train.notes[1]
    wanted = set()
    for path in tmp_path.glob("*/*.png"):
        with Image.open(path) as file:
            square = ImageOps.fit(file, (18, 18), Image.Resampling.BILINEAR)
        wanted.add(np.asarray(square).transpose(2, 0, 1).tobytes())
    assert {image.numpy().tobytes() for part in (train, test) for image in part.images} == wanted
    assert read(tmp_path, size=10).train.shape == (3, 10, 10)


def test_grey_stays_grey_sixteen_bits_become_eight_and_photos_stand_upright(tmp_path: Path) -> None:
    for n in range(10):
        put(tmp_path / "ab"[n % 2] / f"{n}.png", mode="L")
    wide = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(wide).save(tmp_path / "a" / "0.png")
    train, test, _ = read(tmp_path)
    assert train.shape == (1, 8, 8)
    pixels = {image.numpy().tobytes() for part in (train, test) for image in part.images}
    assert np.rint(wide / 257).astype(np.uint8).tobytes() in pixels
    turned = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    tag = Image.Exif()
    tag[0x0112] = 6
    turned.save(tmp_path / "a" / "0.png", exif=tag)
    both = read(tmp_path)
    with Image.open(tmp_path / "a" / "0.png") as file:
        upright = np.asarray(ImageOps.exif_transpose(file))
    assert any(np.array_equal(image[0].numpy(), upright) for part in both[:2] for image in part.images)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda root: None, "was not found as .*give a folder of class folders"),
        (lambda root: (root / "a").mkdir(parents=True), "has no pictures in class folders, such as faces/cat/1.png"),
        (lambda root: [put(root / f"{n}.png") for n in range(3)], "has no pictures in class folders"),
        (lambda root: [put(root / "a" / f"{n}.png") for n in range(9)], "every label is 0; give at least two classes"),
        (lambda root: [put(root / k / "0.png") for k in "ab"], "class a has one image, too few"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(make: Any, sentence: str, tmp_path: Path) -> None:
    make(tmp_path / "faces")
    with pytest.raises(DataError, match=sentence) as error:
        read(tmp_path / "faces")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "instead"), [
    ("t.csv", "read it as csv:"), ("t.npz", "read it as npz:"), ("t.png", "give the folder that the class folders lie"),
])  # fmt: skip
def test_a_file_in_place_of_a_folder_is_told_how_it_is_read(name: str, instead: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=f"is a file, no folder of class folders; {instead}"):
        read(tmp_path / name)


def test_broken_pictures_are_named(tmp_path: Path) -> None:
    for n in range(10):
        put(tmp_path / "ab"[n % 2] / f"{n}.png", (40, 40))
    whole = (tmp_path / "a" / "4.png").read_bytes()
    (tmp_path / "a" / "4.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="4.png is no (whole )?picture .*; replace it or take it out"):
        read(tmp_path)
    (tmp_path / "a" / "4.png").write_text("text")
    with pytest.raises(DataError, match="4.png is no picture"):
        read(tmp_path)


def test_a_large_folder_stays_on_disk_and_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(60):
        put(tmp_path / "faces" / "abc"[n % 3] / f"{n}.png", level=n * 4)
    eager = read(tmp_path / "faces")
    monkeypatch.setattr(folder, "IN_MEMORY_BYTES", 0)
    lazy = read(tmp_path / "faces")
    assert isinstance(lazy.train.images, data.LazyImages) and isinstance(eager.train.images, torch.Tensor)
    for one, other in zip(eager[:2], lazy[:2], strict=True):
        assert torch.equal(one.images, other.images[:]) and torch.equal(one.labels, other.labels)
    first = lazy.train.fingerprint()
    assert read(tmp_path / "faces").train.fingerprint() == first
    put(tmp_path / "faces" / "a" / "0.png", level=3)
    assert read(tmp_path / "faces").train.fingerprint() != first


def test_lazy_and_eager_runs_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(90):
        put(tmp_path / "faces" / "abc"[n % 3] / f"{n:02}.png", level=None if n % 2 else 80 * (n % 3))
    tree = {
        "name": "faces", "rounds": 2, "run": {"threads": 1}, "network": {"name": "4C3-AP2", "steps": 4},
        "data": {"dataset": "images:faces", "dir": str(tmp_path), "clients": 2, "public": 20},
        "training": {"local_epochs": 1}, "method": {"name": "fsd", "distil_epochs": 1, "server_epochs": 1},
    }  # fmt: skip
    eager = spikefed.run(tree, out=tmp_path / "eager")
    monkeypatch.setattr(folder, "IN_MEMORY_BYTES", 0)
    lazy = spikefed.run(tree, out=tmp_path / "lazy")
    assert (eager / "model.safetensors").read_bytes() == (lazy / "model.safetensors").read_bytes()
    assert json.loads((lazy / "result.json").read_text())["class_names"] == ["a", "b", "c"]
    standard = spikefed.run(tree, overrides=["data.pixels=standard", "rounds=1"], out=tmp_path / "standard")
    assert (standard / "result.json").is_file()


def test_mapped_arrays_give_what_arrays_in_memory_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = R.integers(0, 256, (80, 3, 6, 6), dtype=np.uint8), np.arange(80) % 4
    np.savez(tmp_path / "plain.npz", images=images, labels=labels)
    np.savez_compressed(tmp_path / "packed.npz", images=images, labels=labels)
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "images.npy", images)
    np.save(tmp_path / "arrays" / "labels.npy", labels)
    wanted = data.load_both(f"npz:{tmp_path}/plain.npz")
    from spikefed.data import npz

    monkeypatch.setattr(npz, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(parts, "IN_MEMORY_BYTES", 0)
    for name, mapped in (("plain.npz", True), ("packed.npz", False), ("arrays", True)):
        found = data.load_both(f"npz:{tmp_path}/{name}")
        assert isinstance(found[0].images, data.LazyImages) == mapped
        for one, other in zip(wanted, found, strict=True):
            assert torch.equal(one.images, other.images[:]) and torch.equal(one.labels, other.labels)


@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_on_disk_are_those_of_the_array_and_a_cut_file_is_named(tmp_path: Path, order: str) -> None:
    array = np.asarray(R.normal(size=(20, 2, 3)).astype(np.float32), order=order)  # type: ignore[call-overload]
    np.save(tmp_path / "x.npy", array)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for rows in ([3, 0, 3, 19], [], np.arange(20)):
        assert np.array_equal(parts.rows_on_disk(mapped, np.asarray(rows, int)), array[np.asarray(rows, int)])
    if order == "C":
        with (tmp_path / "x.npy").open("r+b") as file:
            file.truncate((tmp_path / "x.npy").stat().st_size - 1)
        assert np.array_equal(parts.rows_on_disk(mapped, [18]), array[18:19])
        with pytest.raises(DataError, match=r"x\.npy ends inside item 19; copy it again"):
            parts.rows_on_disk(mapped, [19])


def test_a_folder_of_many_pictures_is_told_apart_by_names_and_some_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(12):
        put(tmp_path / "faces" / "ab"[n % 2] / f"{n:02}.png", level=n)
    monkeypatch.setattr(folder, "IN_MEMORY_BYTES", 0)
    whole = read(tmp_path / "faces").train.fingerprint()
    for limit in ("SIZES", "LOOKED_AT"):
        monkeypatch.setattr(folder, limit, 3)
    some = read(tmp_path / "faces").train.fingerprint()
    assert some != whole and read(tmp_path / "faces").train.fingerprint() == some
    (tmp_path / "faces/a/02.png").rename(tmp_path / "faces/a/03.png")
    assert read(tmp_path / "faces").train.fingerprint() != some


def test_reading_pictures_does_not_import_scikit_learn() -> None:
    """It takes seconds, and only the digits lie in it."""
    import ast

    for path in Path(data.__file__).parent.glob("*.py"):
        tops = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not any("sklearn" in ast.unparse(node) for node in tops), path.name
