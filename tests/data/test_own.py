"""A user's own images: every accepted form gives the same sets, everything else is refused in one sentence."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from spikefed import data
from spikefed.errors import DataError

LEVELS = np.arange(20 * 6 * 5, dtype=np.uint8).reshape(20, 6, 5)  # wraps around: every level occurs
LABELS = np.arange(20) % 4


class Pictures(Dataset):
    """PIL images, as a folder of photographs gives them."""

    classes = ("a", "b", "c", "d", "e")  # one more than the labels show

    def __init__(self, part: slice = slice(None)) -> None:
        self.items = list(zip(LEVELS[part], LABELS[part], strict=True))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        return Image.fromarray(self.items[i][0]), int(self.items[i][1])


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        return iter(zip(LEVELS, LABELS, strict=True))


PAIR = (LEVELS, LABELS)
HALVES = ((LEVELS[:12], LABELS[:12]), (LEVELS[12:], LABELS[12:]))


def by_split(split: str) -> Any:
    return HALVES[split == "test"]


def by_train(root: str = "x", train: bool = True) -> Any:
    return Pictures(slice(0, 12) if train else slice(12, None))


@pytest.mark.parametrize(
    "source",
    [
        HALVES,
        {"train": HALVES[0], "test": HALVES[1]},
        lambda: HALVES,
        by_split,
        by_train,
        [Pictures(slice(0, 12)), Pictures(slice(12, None))],
        (
            TensorDataset(torch.from_numpy(LEVELS[:12].copy()), torch.from_numpy(LABELS[:12])),
            (LEVELS[12:, None], LABELS[12:, None]),
        ),
        tuple((images.astype(np.float32) / 255, labels) for images, labels in HALVES),
        tuple((torch.from_numpy(images.astype(np.float64) / 255), list(labels)) for images, labels in HALVES),
        tuple((images.astype(np.int64)[..., None], labels.astype(np.float32)) for images, labels in HALVES),
    ],
    ids=["pairs", "dict", "function", "split", "train", "datasets", "mixed", "float32", "float64", "channel-last"],
)
def test_every_form_gives_the_same_pixels_and_labels(source: Any) -> None:
    train, test = data.image_sets(source, "mine")
    assert train.images.dtype == torch.uint8 and train.shape == (1, 6, 5) and train.name == "mine"
    assert np.array_equal(train.images[:, 0].numpy(), LEVELS[:12])
    assert np.array_equal(test.images[:, 0].numpy(), LEVELS[12:])
    assert train.labels.tolist() == LABELS[:12].tolist() and test.labels.tolist() == LABELS[12:].tolist()


@pytest.mark.parametrize("source", [PAIR, Pictures(), Stream(), lambda: PAIR], ids=["pair", "dataset", "stream", "fn"])
def test_one_part_gives_a_fifth_of_each_class_to_the_test(source: Any) -> None:
    train, test = data.image_sets(source, "mine")
    assert test.labels.bincount(minlength=4).tolist()[:4] == [1, 1, 1, 1] and len(train) == 16
    seen = {bytes(image.numpy().tobytes()) for part in (train, test) for image in part.images}
    assert seen == {image.tobytes() for image in LEVELS}
    again = data.image_sets(source, "mine")
    assert again[1].fingerprint() == test.fingerprint() != train.fingerprint()


def test_classes_are_those_of_both_parts_or_those_a_dataset_names() -> None:
    assert data.image_sets(((LEVELS, LABELS % 2), (LEVELS, LABELS)), "m")[0].classes == 4
    assert data.image_sets(Pictures(), "m")[0].classes == 5


def test_colour_with_channels_last_is_turned() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (10, 6, 5, 3), dtype=np.uint8)
    train, _ = data.image_sets(((rgb, LABELS[:10]), (rgb, LABELS[:10])), "m")
    assert np.array_equal(train.images.numpy(), rgb.transpose(0, 3, 1, 2))


def test_random_transforms_come_out_alike_and_leave_the_global_generator() -> None:
    class Noisy(Pictures):
        def __getitem__(self, i: int) -> tuple[Any, int]:
            return torch.rand(1, 6, 5), i % 4

    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, second = data.image_sets(Noisy(), "m")[0], data.image_sets(Noisy(), "m")[0]
    assert first.fingerprint() == second.fingerprint() and torch.equal(state, torch.get_rng_state())


F = LEVELS.astype(np.float32)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ((F, LABELS), r"m \(train\): float images must lie in \[0, 1\] but run from 0 to 255"),
        ((F / 255 - 0.5, LABELS), r"run from -0.5 to 0.5; scale them, or give uint8"),
        ((F * np.nan, LABELS), r"600 pixels are not finite, the first in item 0 at \[0, 0\]"),
        ((LEVELS.astype(np.int32) * 2, LABELS), r"whole-number images must lie in 0..255 but run from 0 to 510"),
        ((LEVELS.astype(complex), LABELS), r"images are complex128"),
        ((LEVELS.reshape(20, 30), LABELS), r"shape \[20, 30\]; give \[N, H, W\].*reshape"),
        ((LEVELS, LABELS[:19]), r"20 images but 19 labels"),
        ((LEVELS, LABELS - 1), r"smallest label is -1"),
        ((LEVELS, LABELS + 0.5), r"labels are float64; give whole numbers"),
        ((LEVELS, np.eye(4)[LABELS]), r"labels have shape \[20, 4\]"),
        ((LEVELS, LABELS * 0), r"every label is 0"),
        ((LEVELS[:4], LABELS[:4]), r"class 0 has one image"),
        ((HALVES[0], (LEVELS[:, :5], LABELS)), r"training images are 1x6x5, test images 1x5x5"),
        ((HALVES[0], (LEVELS[:0], LABELS[:0])), r"m \(test\): it holds no images"),
        (
            [(LEVELS[0],)] * 3,
            r"m \(train\): item 0 is no pair \(image, label\) and no dict with 'image' and 'label': Ind",
        ),
        (lambda: 3, r"m \(train\) is int; give \(images, labels\)"),
        (lambda: 1 / 0, r"m failed: ZeroDivisionError: division by zero \(.*test_own.py, line \d+\)"),
        (lambda root: PAIR, r"asks for its folder \('root'\); give it as data.dir"),
    ],
)
def test_what_cannot_be_told_is_refused_in_one_sentence(source: Any, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as error:
        data.image_sets(source, "m")
    assert "\n" not in str(error.value)


def test_images_of_several_sizes_are_named() -> None:
    class Uneven(Pictures):
        def __getitem__(self, i: int) -> tuple[Any, int]:
            return np.zeros((6, 5 + i % 2), np.uint8), i % 4

    with pytest.raises(DataError, match=r"several shapes \(6x5, 6x6\)"):
        data.image_sets(Uneven(), "m")


def test_npz_file_and_folder_and_where_they_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (train, test), folder = HALVES, tmp_path / "faces"
    folder.mkdir()
    np.savez(tmp_path / "all.npz", x_train=train[0], y_train=train[1], x_test=test[0], y_test=test[1])
    named = dict(train_images=train[0], train_labels=train[1], test_images=test[0], test_labels=test[1])
    np.savez(tmp_path / "named.npz", **named)
    np.savez(tmp_path / "half.npz", images=train[0], labels=train[1], test_images=test[0], test_labels=test[1])
    np.savez(folder / "train.npz", images=train[0], labels=train[1])
    np.savez(folder / "test.npz", images=test[0], labels=test[1])
    wanted = [part.fingerprint() for part in data.image_sets(HALVES, "m")]
    for name in ("all.npz", "all", "named", "half", "faces", str(folder), str(tmp_path / "all.npz")):
        assert [part.fingerprint() for part in data.load_both(f"npz:{name}", tmp_path)] == wanted, name
    monkeypatch.chdir(tmp_path)
    assert data.load("npz:faces", "test").fingerprint() == wanted[1]
    np.savez(tmp_path / "one.npz", images=LEVELS, labels=LABELS)
    assert len(data.load("npz:one", "test")) == 4


def test_an_array_that_is_no_column_of_an_npz_file_is_named(tmp_path: Path) -> None:
    plain = {"images": LEVELS, "labels": LABELS}
    np.savez(tmp_path / "short.npz", **plain, users=np.arange(len(LABELS) - 1), boxes=np.zeros((len(LABELS), 4)))
    train, test = data.load_both(f"npz:{tmp_path}/short.npz")
    count = len(LABELS)
    assert not train.columns and not test.columns
    assert train.notes == (
        f"short.npz (train): 'users' has {count - 1} values for {count} items, so it is not used.",
        f"short.npz (train): 'boxes' has shape [{count}, 4] for {count} items, so it is not used.",
    )
    np.savez(tmp_path / "whole.npz", **plain, users=np.arange(count), test_images=LEVELS[:4], test_labels=LABELS[:4])
    train, _ = data.load_both(f"npz:{tmp_path}/whole.npz")
    assert train.notes == () and set(train.columns) == {"users"}


def test_npz_that_is_absent_foreign_or_incomplete(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="npz:none was not found as .*give an .npz file, or a folder with train.npz"):
        data.load("npz:none", "train", tmp_path)
    (tmp_path / "text.npz").write_text("no")
    with pytest.raises(DataError, match="text.npz is no .npz file of plain arrays"):
        data.load("npz:text", "train", tmp_path)
    assert "unsafely" not in str(pytest.raises(DataError, data.load, "npz:text", "train", tmp_path).value)
    np.save(tmp_path / "one.npy", LEVELS)
    with pytest.raises(DataError, match=r"one.npy is one array of shape .* without labels; write it and them into one"):
        data.load("npz:one.npy", "train", tmp_path)
    np.savez(tmp_path / "half.npz", train_images=LEVELS, test_images=LEVELS)
    with pytest.raises(DataError, match="holds train_images, test_images; it must hold 'train_images' and 'train_lab"):
        data.load("npz:half", "train", tmp_path)
    np.savez(tmp_path / "pickled.npz", images=np.array([None, {}], dtype=object), labels=LABELS)
    with pytest.raises(DataError, match="pickled.npz is no .npz file of plain arrays"):
        data.load("npz:pickled", "train", tmp_path)


def test_a_module_names_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import numpy as np\nclass Box:\n  @staticmethod\n  def faces():\n"
    code += "    return np.zeros((10, 4, 4), 'u1'), np.arange(10) % 2\n"
    (tmp_path / "facesmodule.py").write_text(code)
    (tmp_path / "brokenmodule.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(
        DataError, match="names module 'facesmodule', which Python does not find; put its folder on PYT"
    ):
        data.load("facesmodule:Box.faces", "train")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert len(data.load("facesmodule:Box.faces", "train")) == 8
    with pytest.raises(DataError, match="AttributeError.*'other'"):
        data.load("facesmodule:other", "train")
    with pytest.raises(
        DataError, match="'brokenmodule:x' cannot be imported: ModuleNotFoundError: No module named 'noth"
    ):
        data.load("brokenmodule:x", "train")
    sys.modules.pop("facesmodule")
