"""FSD+ with the keys of `reliability` and of rehearsal: runs that are cut off and resumed end as whole ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import spikefed
from experiment.killing import check_killed_is_whole
from experiment.runs import Told, fingerprint
from spikefed.errors import ConfigError
from spikefed.experiment import RunFolder, from_tree

KEYS: dict[str, dict[str, Any]] = {
    "reliability": {"reliability": 2},
    "reliability_from": {"reliability": 2, "reliability_from": 3},
    "balance": {"balance": 0.8},
    "rehearse_batch": {"rehearse_batch": 4},
    "rehearse_every": {"rehearse_every": 2, "rehearse_batch": 8},
    "rehearse_steps": {"rehearse_steps": 2},
    "all": {
        "reliability": 1,
        "reliability_from": 2,
        "balance": 1.0,
        "rehearse_every": 3,
        "rehearse_batch": 5,
        "rehearse_steps": 3,
        "row_share": 0.5,
    },
}


def config(what: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": "rehearsed",
        "rounds": 3,
        "data": {"clients": 3, "private_per_client": 40, "public": 30, "test_limit": 30, "partition": "dirichlet"},
        "network": {"name": "4C3-AP2-12FC", "steps": 4},
        "training": {"local_epochs": 1, "local_batch": 8, "lr": 1e-2},
        "method": {"name": "fsd+", **KEYS.get(what, {})},
        "run": {"threads": 1},
        **changes,
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return RunFolder(spikefed.run(config("nothing"), out=tmp_path_factory.mktemp("plain") / "run"))


@pytest.mark.parametrize("what", KEYS)
def test_stopped_resumed_and_over_processes_it_ends_where_it_would_have(
    what: str, plain: RunFolder, tmp_path: Path
) -> None:
    whole = fingerprint(spikefed.run(config(what), out=tmp_path / "whole"))
    assert whole[2] != plain.model.read_bytes(), "the key does something"
    for rounds in (1, 2, 3):
        run = {"threads": 1, "workers": 1 + rounds % 2}
        spikefed.run(config(what, rounds=rounds, run=run), out=tmp_path / "parts", resume=True)
    assert fingerprint(tmp_path / "parts") == whole


def test_the_beginning_of_reliability_is_counted_over_sittings(plain: RunFolder, tmp_path: Path) -> None:
    """Rounds before `reliability_from` are those of a run without it, also where a sitting ends between them."""
    for rounds in (1, 2, 3):
        spikefed.run(config("reliability_from", rounds=rounds), out=tmp_path / "run", resume=True)
    folder = RunFolder(tmp_path / "run")
    before, after = ([line["server_loss"] for line in each.read_lines(each.metrics)] for each in (plain, folder))
    assert [x == y for x, y in zip(before, after, strict=True)] == [True, True, False]


@pytest.mark.parametrize(("rounds", "told"), [(2, True), (3, False)])
def test_it_is_said_where_reliability_would_begin_after_the_last_round(rounds: int, told: bool, tmp_path: Path) -> None:
    listener = Told()
    spikefed.run(config("reliability_from", rounds=rounds), out=tmp_path / "run", progress=listener)
    said = [note for note in listener.said if "it begins in round 3 (method.reliability_from), and there are 2" in note]
    assert len(said) == told
    assert from_tree(config("reliability", rounds=1)).hyper().unused(1) == ()


@pytest.mark.slow
def test_killed_in_a_client_s_step_and_resumed_it_is_whole(tmp_path: Path) -> None:
    check_killed_is_whole(tmp_path, config("all"), "spikefed.federated.methods.fsdplus:FsdPlus", round=3)


def test_the_keys_at_their_defaults_leave_older_experiments_their_hash() -> None:
    told = {"reliability": 0, "reliability_from": 1, "balance": 0.0}
    told |= {"rehearse_every": 1, "rehearse_batch": 0, "rehearse_steps": 0}
    tables = config("nothing")
    hashes = [from_tree({**tables, "method": {"name": "fsd+", **more}}).hash() for more in ({}, told)]
    assert hashes[0] == hashes[1] != from_tree(config("rehearse_batch")).hash()


def test_more_steps_than_the_network_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rehearse_steps = 5 is more than network.steps = 4"):
        spikefed.run(config("", method={"name": "fsd+", "rehearse_steps": 5}), out=tmp_path / "run")
