"""Share folders: what stands in their files, an order that content alone fixes, what differs between machines."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefed import data
from spikefed.data import difference, facts_of, public_set_id
from spikefed.errors import DataError

READING = data.Reading()
NAMES = ("ant", "bee", "cat")


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 1, 8, 8), dtype=np.uint8)


def write(folder: Path, **arrays: Any) -> Path:
    """A whole share, of which a test changes one array: ``public_images=...``, ``labels=None`` leaves it out."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "public_images": pictures(12), "public_class_names": np.array(NAMES), "images": pictures(20, 1),
        "labels": np.arange(20) % 3, "test_images": pictures(9, 2), "test_labels": np.arange(9) % 3, **arrays,
    }  # fmt: skip
    files: dict[str, dict[str, Any]] = {"public.npz": {}, "test.npz": {}, "private.npz": {}}
    for key, array in told.items():
        split = next((word for word in ("public", "test") if key.startswith(f"{word}_")), "private")
        if array is not None:
            files[f"{split}.npz"][key.removeprefix(f"{split}_")] = array
    for name, held in files.items():
        np.savez(folder / name, **held)
    return folder


@given(order=st.permutations(range(12)), dtype=st.sampled_from(["uint8", "float32", "int32"]))
@settings(max_examples=30, deadline=None)
def test_rows_in_any_order_come_into_one(order: list[int], dtype: str) -> None:
    rows = torch.from_numpy(pictures(12)).to(getattr(torch, dtype))
    mixed = rows[list(order)]
    one, other = rows[data.by_content(rows)], mixed[data.by_content(mixed)]
    assert torch.equal(one, other) and public_set_id(one) == public_set_id(other)
    assert sorted(data.by_content(rows).tolist()) == list(range(12))


def test_equal_rows_do_not_upset_the_order() -> None:
    rows = torch.from_numpy(np.concatenate([pictures(4), pictures(4)]))
    mixed = rows[torch.randperm(8, generator=torch.Generator().manual_seed(1))]
    assert torch.equal(rows[data.by_content(rows)], mixed[data.by_content(mixed)])


def test_a_share_made_elsewhere_is_read_with_names_and_without_its_order(tmp_path: Path) -> None:
    texts = np.array([NAMES[number % 3] for number in range(20)])
    one = data.read_public(write(tmp_path / "one", labels=texts), READING)
    mixed = pictures(12)[np.random.default_rng(3).permutation(12)]
    other = data.read_public(write(tmp_path / "other", public_images=mixed), READING)
    assert torch.equal(one.rows.images, other.rows.images) and one.facts() == other.facts()
    assert one.rows.class_names == NAMES and one.pixels is None
    own, held, test = data.read_private(tmp_path / "one", one, READING)
    assert own.labels.tolist() == [number % 3 for number in range(20)] and len(held) == len(test) == 0
    assert len(data.read_test(tmp_path / "one", one, READING)) == 9


def test_rows_stay_as_they_are_where_the_file_says_so_or_version_0_1_wrote_it(tmp_path: Path) -> None:
    rows = pictures(12)
    given_order = write(tmp_path / "given", public_order="given")
    assert torch.equal(data.read_public(given_order, READING).rows.images, torch.from_numpy(rows))
    sorted_rows = data.read_public(given_order, READING, content=True).rows.images
    assert not torch.equal(sorted_rows, torch.from_numpy(rows))
    old = tmp_path / "old"
    old.mkdir()
    np.savez_compressed(old / "public.npz", images=rows, classes=3, pixels="unit", mean=np.array(()), std=np.array(()))
    found = data.read_public(old, READING)
    assert torch.equal(found.rows.images, torch.from_numpy(rows)) and found.rows.classes == 3


@pytest.mark.parametrize("word", ["series", "frames", "rows"])
def test_shares_may_hold_series_frames_and_rows_of_numbers(tmp_path: Path, word: str) -> None:
    shape = {"series": (5, 2), "frames": (5, 2, 4, 4), "rows": (7,)}[word]
    draw = np.random.default_rng(0)
    told = {
        split + key: array
        for split, count in (("public_", 6), ("", 8), ("test_", 4))
        for key, array in (("images", None), (word, draw.normal(size=(count, *shape)).astype(np.float32)))
    }
    folder = write(tmp_path, **told, labels=np.arange(8) % 3, test_labels=np.arange(4) % 3)
    public = data.read_public(folder, READING)
    own, _, _ = data.read_private(folder, public, READING)
    assert own.values == public.rows.values == "reals"
    assert own.images.shape[1:] == public.rows.images.shape[1:] and (own.steps or 5) == 5


FACTS = facts_of(torch.from_numpy(pictures(12)), 3, NAMES, "unit")
DIFFERENT = {
    "order": (facts_of(torch.from_numpy(pictures(12)[::-1].copy()), 3, NAMES, "unit"), "12 rows in another order"),
    "count": (facts_of(torch.from_numpy(pictures(12)[:9]), 3, NAMES, "unit"), "has 9 rows, the server's 12"),
    "pixels": (facts_of(torch.from_numpy(pictures(12, 5)), 3, NAMES, "unit"), "other pixels in some of them"),
    "shape": (facts_of(torch.zeros(12, 3, 8, 8, dtype=torch.uint8), 3, NAMES, "unit"), "are 3x8x8 uint8"),
    "classes": (dataclasses.replace(FACTS, classes=4), "4 classes, the server's 3"),
    "names": (facts_of(torch.from_numpy(pictures(12)), 3, NAMES[::-1], "unit"), "names other classes"),
    "scale": (dataclasses.replace(FACTS, pixels="standard 0.5 0.1"), "scaled as 'standard 0.5 0.1'"),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_differs_is_said(what: str) -> None:
    own, said = DIFFERENT[what]
    assert said in str(difference(own, FACTS.told()))


def test_nothing_is_said_where_nothing_differs_or_nothing_is_known() -> None:
    unsaid = dataclasses.replace(FACTS, pixels="", names="")
    assert [difference(own, FACTS.told()) for own in (FACTS, unsaid)] == [None, None]
    assert [difference(FACTS, told) for told in ("", "{}", "no JSON", "[1]", '{"id": 3}')] == [None] * 5


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no classes": ({"public_class_names": None}, "nobody knows how many outputs"),
    "one class": ({"public_class_names": np.array(["ant"])}, "at least two"),
    "two counts": ({"public_classes": 5}, "'classes' is 5 and 'class_names' has 3"),
    "unknown mode": ({"public_pixels": "imagenet"}, "pixels = 'imagenet' is no mode"),
    "moments": ({"public_mean": np.array([0.1, 0.2]), "public_std": np.array([0.1, 0.2])}, "1 channels"),
    "unknown label": ({"labels": np.array(["dog"] * 20)}, "label 'dog' is none of the 'class_names'"),
    "label too large": ({"labels": np.arange(20)}, "run from 0 to 19, and public.npz says that there are 3"),
    "no labels": ({"labels": None}, "has no array 'labels'; it has images"),
    "other size": ({"images": pictures(20)[..., :6]}, "its items are 1x8x6 pixels, the public ones 1x8x8 pixels"),
    "no items": ({"images": pictures(0), "labels": np.zeros(0, int)}, "holds no items"),
    "empty test": ({"test_images": pictures(0), "test_labels": np.zeros(0, int)}, "holds no items"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_share_is_one_sentence(tmp_path: Path, what: str) -> None:
    change, said = WRONG[what]
    folder = write(tmp_path, **change)
    with pytest.raises(DataError, match=said):
        public = data.read_public(folder, READING)
        data.read_private(folder, public, READING)
        data.read_test(folder, public, READING)


def test_a_missing_or_torn_file_and_a_clients_share_at_the_server_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"public\.npz is not there"):
        data.read_public(tmp_path, READING)
    folder = write(tmp_path / "one")
    public = data.read_public(folder, READING)
    (folder / "test.npz").unlink()
    with pytest.raises(DataError, match="is a client's share"):
        data.read_test(folder, public, READING)
    (folder / "private.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(DataError, match=r"private\.npz is no NumPy archive"):
        data.read_private(folder, public, READING)
    with pytest.raises(DataError, match="is no folder"):
        data.share_folder("shares:nowhere", tmp_path)


def test_client_folders_are_counted(tmp_path: Path) -> None:
    for name in ("client-0", "client-1", "server"):
        (tmp_path / name).mkdir()
    assert [path.name for path in data.client_folders(tmp_path, 2)] == ["client-0", "client-1"]
    assert data.client_folders(tmp_path / "server", 2) == []
    for clients, said in ((3, "client-2 is missing.*data.clients = 2"), (1, "client-1 is one too many")):
        with pytest.raises(DataError, match=said):
            data.client_folders(tmp_path, clients)


def test_share_folders_are_no_data_set_to_be_dealt_out() -> None:
    with pytest.raises(DataError, match="says who holds what"):
        data.load_sources("shares:somewhere")
