"""A fleet's client leaves its own network on its machine: what one process would keep, and at no round's cost."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import spikefed
from spikefed.deploy.memory import Memory
from spikefed.deploy.ownmodel import OwnModel
from spikefed.errors import DeployError
from spikefed.experiment import RunFolder, build, load
from spikefed.federated.exchange import Request


@pytest.fixture
def began(tiny: Callable[..., Path], tmp_path: Path) -> Callable[[OwnModel], Memory]:
    """Client 1's memory in its state folder, as its process starts it."""
    config = load(tiny(rounds=1))
    federation = build(config)

    def begin(own: OwnModel) -> Memory:
        make = partial(federation.worker, 1, partial(own.of, federation))
        return Memory(make, tmp_path / "state" / "rounds", config.hash())

    return begin


def own_model(tmp_path: Path, path: Path, every_round: bool, said: list[str]) -> OwnModel:
    return OwnModel(path, tmp_path / "state", every_round, said.append)


def test_the_end_writes_what_one_process_keeps_even_after_a_restart(
    began: Callable[[OwnModel], Memory], tiny: Callable[..., Path], tmp_path: Path
) -> None:
    said: list[str] = []
    path = tmp_path / "mine.safetensors"
    began(own_model(tmp_path, path, False, said)).handle(Request(1, 1, None), "run")
    assert not path.exists() and not said
    own = own_model(tmp_path, path, False, said)
    assert began(own).round == 1  # started again: it need not train to know its network
    own.finish()
    own.finish()  # told twice
    kept = spikefed.run(tiny(rounds=1), overrides=["run.keep_clients=true"], out=tmp_path / "run")
    assert path.read_bytes() == RunFolder(kept).personal(1).read_bytes()
    assert said == [f"its own network is in {path}"]
    assert spikefed.load_model(path).facts.client == 1


def test_after_every_round_it_is_there_at_once(began: Callable[[OwnModel], Memory], tmp_path: Path) -> None:
    path = tmp_path / "state" / "model.safetensors"
    own = own_model(tmp_path, path, True, [])
    began(own).handle(Request(1, 1, None), "run")
    assert spikefed.load_model(path).facts.round == 1
    own.finish()
    assert path.is_file()


def test_a_disk_that_refuses_costs_no_round(began: Callable[[OwnModel], Memory], tmp_path: Path) -> None:
    said: list[str] = []
    own = own_model(tmp_path, tmp_path / "mine.safetensors", False, said)
    memory = began(own)
    (tmp_path / "state" / "newest.safetensors").mkdir(parents=True)
    reply = memory.handle(Request(1, 1, None), "run")
    assert reply.uplink and not reply.error
    assert len(said) == 1 and "could not be written" in said[0] and "goes on without it" in said[0]
    own.finish()
    assert not (tmp_path / "mine.safetensors").exists()


@pytest.mark.parametrize(("name", "what"), [("", "is a folder; name a file"), ("no/where.st", "there is no folder")])
def test_a_place_that_is_none_is_said_before_the_run(name: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(DeployError, match=what):
        own_model(tmp_path, tmp_path / name, False, [])
