"""Checkpoints: round trip, atomicity, and refusal of everything that is not one of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from spikefed.errors import CheckpointError, DamagedCheckpointError
from spikefed.federated import checkpoint

TREE = {
    "round": 3,
    "weights": {"conv.weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor(5), "empty": torch.zeros(0, 4)},
    "spikes": np.array([[[1, 0], [0, 1]]], dtype=np.uint8),
    "strided": torch.arange(12).reshape(3, 4).T,
    "bf16": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "nothing": None,
    "nested": {"7": {"a": [1, 2.5, "x", True, None]}, "bytes": b"\x00\xff", "@": "at", "plain": {}},
    "scalar": np.float64(0.1),
}


def equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) in (type(b), np.float64) and a == b


def test_round_trip(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "c.safetensors", TREE, "hash")
    assert equal(TREE, checkpoint.read(tmp_path / "c.safetensors", "hash"))


def test_same_state_same_bytes(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "a", TREE, "hash")
    checkpoint.write(tmp_path / "b", TREE, "hash")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot hold a set"):
        checkpoint.write(tmp_path / "c", {"x": {1, 2}}, "hash")
    assert not list(tmp_path.iterdir())


def test_foreign_version_and_config(tmp_path: Path) -> None:
    path = tmp_path / "round-00001.safetensors"
    save_file({"x": torch.zeros(1)}, path, {"spikefed-checkpoint": '{"version": 99}'})
    with pytest.raises(CheckpointError, match="version 99, this spikefed reads versions up to 2") as caught:
        checkpoint.read(path, "hash")
    assert not isinstance(caught.value, DamagedCheckpointError)
    checkpoint.write(path, TREE, "hash")
    with pytest.raises(CheckpointError, match="another config") as caught:
        checkpoint.read(path, "other")
    assert not isinstance(caught.value, DamagedCheckpointError)


def test_a_foreign_file_whose_name_says_damaged_is_still_foreign(tmp_path: Path) -> None:
    path = tmp_path / "damaged cannot be read.safetensors"
    checkpoint.write(path, TREE, "hash")
    with pytest.raises(CheckpointError, match="another config") as caught:
        checkpoint.read(path, "other")
    assert not isinstance(caught.value, DamagedCheckpointError)


def test_equal_tensors_are_stored_once_and_read_back_apart(tmp_path: Path) -> None:
    table = np.arange(4096, dtype=np.uint16)
    one, four = tmp_path / "one", tmp_path / "four"
    checkpoint.write(one, {"0": table}, "h")
    checkpoint.write(four, {str(c): table.copy() for c in range(3)} | {"3": torch.from_numpy(table.copy())}, "h")
    assert four.stat().st_size < one.stat().st_size + 1024
    back = checkpoint.read(four, "h")
    back["0"] += 1
    assert all(np.array_equal(np.asarray(back[key]), table) for key in "123")
    assert isinstance(back["3"], torch.Tensor)


def test_one_small_tensor_may_stand_in_two_places_and_views_may_overlap(tmp_path: Path) -> None:
    small, wide = torch.ones(3), torch.arange(3000.0)
    checkpoint.write(tmp_path / "c", {"a": small, "b": small, "head": wide[:2000], "tail": wide[1000:]}, "h")
    back = checkpoint.read(tmp_path / "c", "h")
    assert torch.equal(back["a"], small) and torch.equal(back["b"], small)
    assert torch.equal(back["head"], wide[:2000]) and torch.equal(back["tail"], wide[1000:])


def test_equal_bytes_of_another_type_or_shape_stay_apart(tmp_path: Path) -> None:
    values = {"a": torch.zeros(1024), "b": torch.zeros(32, 32), "c": torch.zeros(1024, dtype=torch.int32)}
    checkpoint.write(tmp_path / "c", values, "h")
    back = checkpoint.read(tmp_path / "c", "h")
    assert all(back[key].dtype == v.dtype and torch.equal(back[key], v) for key, v in values.items())
