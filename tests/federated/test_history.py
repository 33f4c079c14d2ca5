"""The checkpoints of a run: whatever was saved comes back, clients that sit out cost nothing, damage is survived."""

from __future__ import annotations

import errno
import os
import random
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spikefed.errors import CheckpointError, DamagedCheckpointError
from spikefed.federated import checkpoint
from spikefed.federated.history import History, round_of


class World:
    """A server and clients whose states tell the round of their last change."""

    def __init__(self, clients: int) -> None:
        self.round, self.last, self.clients = 0, dict[int, int](), clients

    def step(self, changed: Collection[int]) -> None:
        self.round += 1
        self.last |= dict.fromkeys(changed, self.round)

    def server(self, only: Collection[int] | None = None) -> dict[str, Any]:
        mine = [c for c in sorted(self.last) if only is None or c in only]
        link: dict[str, Any] = {"up": "x", "clients": np.array([-1, *mine], dtype=np.int64), "-1.all": self.round}
        return {"round": self.round, "link": link | {f"{c}.at": self.last[c] for c in mine}}

    def states(self, only: Collection[int] | None = None) -> dict[str, Any]:
        chosen = [c for c in sorted(self.last) if only is None or c in only]
        return {str(c): {"w": torch.tensor([c, self.last[c]])} for c in chosen}

    def save(self, history: History, changed: Collection[int]) -> Path:
        self.step(changed)
        return history.save(self.round, changed, self.server, self.states)

    def check(self, found: dict[str, Any] | None) -> None:
        assert found is not None and found["server"]["round"] == self.round
        link = self.server()["link"]
        assert sorted(found["server"]["link"]) == sorted(link)
        assert found["server"]["link"]["clients"].tolist() == link["clients"].tolist()
        assert all(found["server"]["link"][f"{c}.at"] == r for c, r in self.last.items())
        assert {c: s["w"].tolist() for c, s in found["clients"].items()} == {
            c: s["w"].tolist() for c, s in self.states().items()
        }


@pytest.mark.parametrize("seed", range(3))
def test_whatever_was_saved_comes_back_and_the_disk_stays_bounded(tmp_path: Path, seed: int) -> None:
    rng, world, history, written = random.Random(seed), World(40), History(tmp_path, "hash"), 0
    rounds = 60
    for _ in range(rounds):
        path = world.save(history, rng.sample(range(40), 4))
        written += len(checkpoint.read(path)["clients"])
        fresh = History(tmp_path, "hash")
        world.check(fresh.latest(pytest.fail))
        if rng.random() < 0.3:
            history = fresh  # as after a restart
        stored = sum(len(checkpoint.read(p)["clients"]) for p in tmp_path.iterdir())
        assert stored <= 3 * len(world.last) + 8
    assert written <= 2.5 * 4 * rounds  # a state is written about twice over its life, whatever the number of clients


def test_clients_that_sit_out_cost_nothing(tmp_path: Path) -> None:
    sizes = []
    for clients in (20, 200):
        world, history = World(clients), History(tmp_path / str(clients), "hash")
        world.save(history, range(clients))
        sizes.append(len(checkpoint.read(world.save(history, [3, 5]))["clients"]))
    assert sizes == [2, 2]


def test_where_all_take_part_the_newest_two_are_kept(tmp_path: Path) -> None:
    world, history = World(3), History(tmp_path, "hash")
    for _ in range(5):
        world.save(history, range(3))
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["round-00004.safetensors", "round-00005.safetensors"]


def test_latest_of_nothing(tmp_path: Path) -> None:
    assert History(tmp_path / "none", "hash").latest(pytest.fail) is None


def test_a_file_of_version_1_held_every_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(3)
    world.step(range(3))
    monkeypatch.setattr(checkpoint, "VERSION", 1)
    tree = {"server": world.server(), "clients": world.states()}
    checkpoint.write(tmp_path / "round-00001.safetensors", tree, "hash")
    monkeypatch.undo()
    history = History(tmp_path, "hash")
    world.check(history.latest(pytest.fail))
    world.save(history, [1])
    world.check(History(tmp_path, "hash").latest(pytest.fail))


@pytest.mark.parametrize("where", [0.05, 0.3, 0.7, 0.999])
def test_any_flipped_or_missing_byte_falls_back_on_the_one_before(tmp_path: Path, where: float) -> None:
    world, history = World(4), History(tmp_path, "hash")
    world.save(history, [0, 1, 2])
    path = world.save(history, [3])
    whole = path.read_bytes()
    position = int(where * len(whole))
    for damaged in (whole[:position], whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :]):
        path.write_bytes(damaged)
        warnings: list[str] = []
        try:
            found = History(tmp_path, "hash").latest(warnings.append)
        except CheckpointError as error:  # the flip hit the version or the config hash: refused, never misread
            assert re.search("version|config|damaged", str(error))
            continue
        assert found is not None and found["server"]["round"] == 1 and len(warnings) == 1


def test_after_a_fall_back_the_round_is_written_anew(tmp_path: Path) -> None:
    world, history = World(4), History(tmp_path, "hash")
    for changed in ([0, 1, 2, 3], [0], [1]):
        path = world.save(history, changed)
    path.write_bytes(b"torn")
    restored = History(tmp_path, "hash")
    found = restored.latest(lambda text: None)
    assert found is not None and found["server"]["round"] == 2
    world.round, world.last[1] = 2, 1
    world.save(restored, [1, 2])
    world.check(History(tmp_path, "hash").latest(pytest.fail))


def test_a_file_that_others_need_is_missing(tmp_path: Path) -> None:
    world, history = World(4), History(tmp_path, "hash")
    first = world.save(history, [0, 1, 2, 3])
    world.save(history, [0])
    first.unlink()
    with pytest.raises(DamagedCheckpointError, match="needs round-00001.safetensors, which is missing"):
        History(tmp_path, "hash").latest(lambda text: None)


def test_another_config_is_refused_at_once(tmp_path: Path) -> None:
    world = World(1)
    world.save(History(tmp_path, "hash"), [0])
    with pytest.raises(CheckpointError, match="another config"):
        History(tmp_path, "other").latest(pytest.fail)


def test_full_disk_leaves_the_old_checkpoint_and_no_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, history = World(2), History(tmp_path, "hash")
    world.save(history, [0, 1])

    def refuse(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(CheckpointError, match="No space left on device.*--resume"):
        world.save(history, [0])
    monkeypatch.undo()
    assert [round_of(p) for p in tmp_path.iterdir()] == [1]
    found = History(tmp_path, "hash").latest(pytest.fail)
    assert found is not None and found["server"]["round"] == 1
