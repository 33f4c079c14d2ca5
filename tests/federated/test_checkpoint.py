"""Checkpoints: round trip, atomicity, and refusal of everything that is not one of ours."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from spikefed.errors import CheckpointError
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


def test_two_are_kept(tmp_path: Path) -> None:
    for number in range(1, 6):
        checkpoint.save_round(tmp_path, number, {"round": number}, "hash")
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["round-00004.safetensors", "round-00005.safetensors"]
    assert checkpoint.latest(tmp_path, "hash", pytest.fail) == {"round": 5}


def test_latest_of_nothing(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path / "none", "hash", pytest.fail) is None


@pytest.mark.parametrize("where", [0.05, 0.3, 0.7, 0.999])
def test_any_flipped_or_missing_byte_falls_back_on_the_one_before(tmp_path: Path, where: float) -> None:
    tree = {"round": 1, "w": torch.rand(100, generator=torch.Generator().manual_seed(0))}
    checkpoint.save_round(tmp_path, 1, tree, "hash")
    path = checkpoint.save_round(tmp_path, 2, tree | {"round": 2}, "hash")
    whole = path.read_bytes()
    position = int(where * len(whole))
    for damaged in (whole[:position], whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :]):
        path.write_bytes(damaged)
        warnings: list[str] = []
        try:
            found = checkpoint.latest(tmp_path, "hash", warnings.append)
        except CheckpointError as error:  # the flip hit the version or the config hash: refused, never misread
            assert re.search("version|config|damaged", str(error))
            continue
        assert found is not None and found["round"] == 1 and len(warnings) == 1


def test_foreign_version_and_config(tmp_path: Path) -> None:
    path = tmp_path / "round-00001.safetensors"
    save_file({"x": torch.zeros(1)}, path, {"spikefed-checkpoint": '{"version": 99}'})
    with pytest.raises(CheckpointError, match="version 99, this spikefed reads version 1"):
        checkpoint.latest(tmp_path, "hash", pytest.fail)
    checkpoint.write(path, TREE, "hash")
    with pytest.raises(CheckpointError, match="another config"):
        checkpoint.latest(tmp_path, "other", pytest.fail)


def test_full_disk_leaves_the_old_checkpoint_and_no_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save_round(tmp_path, 1, {"round": 1}, "hash")

    def refuse(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(CheckpointError, match="No space left on device.*--resume"):
        checkpoint.save_round(tmp_path, 2, {"round": 2}, "hash")
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["round-00001.safetensors"]
    assert checkpoint.latest(tmp_path, "hash", pytest.fail) == {"round": 1}
