"""Names of the official sets' classes: one a class, those of the publishers' own files where these are at hand."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest

from spikefed.data import dataset_info, datasets, load
from spikefed.data.classnames import CLASS_NAMES, FASHION


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_every_class_has_a_name_of_its_own(name: str) -> None:
    names = CLASS_NAMES[name]
    assert len(names) == len(set(names)) == dataset_info(name).classes
    assert all(text == text.strip() and text for text in names)


def test_sets_without_names_are_those_of_digits() -> None:
    unnamed = {info.name for info in datasets()} - CLASS_NAMES.keys() - {"watch"}  # that one brings its own
    assert unnamed == {"digits", "mnist", "emnist-digits", "emnist-mnist", "svhn"}
    assert load("digits", "test").names == tuple("0123456789")


def test_emnist_has_the_codes_of_its_mapping_files() -> None:
    merged = CLASS_NAMES["emnist-balanced"]
    assert [ord(merged[label]) for label in (0, 9, 10, 35, 36, 39, 46)] == [48, 57, 65, 90, 97, 101, 116]


@pytest.mark.parametrize(
    ("archive", "key", "name"),
    [
        ("cifar10.zip", b"label_names", "cifar10"),
        ("cifar100.zip", b"fine_label_names", "cifar100"),
        ("cifar100.zip", b"coarse_label_names", "cifar100-coarse"),
    ],
)
def test_cifars_are_those_of_its_meta_files(real_data: Path, archive: str, key: bytes, name: str) -> None:
    with zipfile.ZipFile(real_data / "cifar" / archive) as opened:
        told = pickle.loads(opened.read("meta.pkl"), encoding="bytes")  # noqa: S301 - the official file
    assert tuple(text.decode() for text in told[key]) == CLASS_NAMES[name]


def test_images_come_with_them(real_data: Path) -> None:
    shown = load("fashion-mnist", "test", real_data)
    assert shown.class_names == FASHION and shown.class_name(int(shown.labels[0])) == "Ankle boot"
    assert shown.subset([0, 1]).class_names == FASHION
