"""Labels as people write them: numbered, said, and kept as names; what are no classes is refused at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from spikefed import data
from spikefed.errors import DataError

IMAGES = np.arange(40, dtype=np.uint8)[:, None, None] + np.zeros((1, 4, 4), np.uint8)


def read(labels: Any, **more: Any) -> tuple[data.ImageSet, data.ImageSet]:
    return data.image_sets({"images": IMAGES, "labels": labels, **more}, "m")


@pytest.mark.parametrize(
    ("labels", "names", "said"),
    [
        (np.resize([5, 7, 42], 40), ("5", "7", "42"), "labels 5, 7 and 42 become classes 0 to 2"),
        (np.resize([1, 2, 3], 40), ("1", "2", "3"), "labels 1, 2 and 3 become classes 0 to 2"),
        (["cat", "ant", "bee", "ant"] * 10, ("ant", "bee", "cat"), "classes 0 to 2 are ant, bee and cat"),
        (np.array([b"yes", b"no"] * 20), ("no", "yes"), "classes 0 to 1 are no and yes"),
        (np.array(["b", "a"] * 20, dtype=object), ("a", "b"), "classes 0 to 1 are a and b"),
        ([True, False] * 20, (), ""),
        (np.resize([0.0, 1.0, 2.0], 40), (), ""),
    ],
)
def test_labels_are_numbered_said_and_named(labels: Any, names: tuple[str, ...], said: str) -> None:
    train, test = read(labels)
    assert (train.class_names, test.class_names) == (names, names)
    assert train.notes == (
        (f"m: {said}, and keep their numbers as names.",) if "become" in said else (f"m: {said}.",) if said else ()
    )
    source = {name: value for name, value in zip(names, range(len(names)), strict=True)}
    texts = [v.decode() if isinstance(v, bytes) else str(v) for v in np.asarray(labels).tolist()]
    wanted = [source[text] if names else int(v) for text, v in zip(texts, np.asarray(labels).tolist(), strict=True)]
    both = {
        bytes(i.numpy().tobytes()): int(label)
        for part in (train, test)
        for i, label in zip(part.images, part.labels, strict=True)
    }
    assert [both[image.tobytes()] for image in IMAGES] == wanted


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([0, 3_000_000] * 20, r"labels run from 0 to 3,000,000, but only 2 of these 3,000,001 classes have images"),
        ([0, 7, 42, 0] * 10, r"labels run from 0 to 42, but only 3 of these 43 classes"),
        ([f"file{i}.png" for i in range(40)], r"40 different labels in 40 items, such as file0.png and file1.png"),
        (np.arange(40) * 1000 + 5, r"40 different labels in 40 items"),
        ([1, "cat"] * 20, r"classes 0 to 1 are 1 and cat|labels are int and str; give whole numbers, or texts"),
        ([None, "cat"] * 20, r"labels are NoneType and str"),
        ([7] * 40, r"every label is 7; give at least two classes"),
        ([float("nan"), 1.0] * 20, r"labels are float64; give whole numbers from 0, or texts"),
        (np.eye(4)[np.resize(range(4), 40)], r"labels have shape \[40, 4\].*one-hot rows take argmax\(1\)"),
    ],
)
def test_what_are_no_classes_is_refused(labels: Any, sentence: str) -> None:
    if labels == [1, "cat"] * 20 if isinstance(labels, list) else False:
        labels = np.array(labels, dtype=object)
    with pytest.raises(DataError, match=sentence) as error:
        read(labels)
    assert "\n" not in str(error.value)


def test_a_gap_among_classes_is_said_and_nothing_moves() -> None:
    train, _ = read(np.resize([0, 1, 3], 40))
    assert train.classes == 4 and train.class_names == () and train.notes == ("m: no image of class 2.",)


def test_train_and_test_are_numbered_together() -> None:
    parts = {"train": (IMAGES, np.resize([5, 7], 40)), "test": (IMAGES[:3], [42, 5, 7])}
    train, test = data.image_sets(parts, "m")
    assert (train.classes, test.labels.tolist(), test.class_names) == (3, [2, 0, 1], ("5", "7", "42"))
    with pytest.raises(DataError, match="one part has texts as labels and another numbers"):
        data.image_sets({"train": (IMAGES, ["a", "b"] * 20), "test": (IMAGES[:2], [0, 1])}, "m")


def test_other_values_of_an_item_become_columns_and_travel_with_it() -> None:
    people = np.arange(40) // 4
    train, test = read(np.arange(40) % 2, person=people, word="not a column", short=[1, 2])
    assert set(train.columns) == {"person"}
    owner = {image.tobytes(): person for image, person in zip(IMAGES, people, strict=True)}
    for part in (train, test, train.subset([3, 1, 2])):
        assert [owner[i.numpy().tobytes()] for i in part.images] == part.columns["person"].tolist()
