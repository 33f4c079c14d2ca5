"""``data.pooled``: any method on everybody's data in one hand."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import spikefed
from experiment.parents import adapted
from experiment.runs import fingerprint
from experiment.test_every_method import IN_A_SUPERNET, WHOLE_SEARCH
from spikefed.errors import ConfigError
from spikefed.experiment import build
from spikefed.experiment import config as configs
from spikefed.federated import METHODS


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_runs_pooled(tiny: dict[str, Any], tmp_path: Path, name: str) -> None:
    tiny["data"]["pooled"] = True
    tiny |= {"method": WHOLE_SEARCH if name == "tickets" else {"name": name}, "rounds": 2}
    tiny["network"]["name"] = "4C3-AP2-8FC"  # hdsfl takes its hint from a hidden layer without a pool
    tiny |= IN_A_SUPERNET if name == "dc-nas" else {}
    tiny |= {"network": adapted("4C3-AP2-8FC")} if name == "adapters" else {}
    run = spikefed.run(tiny, out=tmp_path / "run")
    lines, _, _ = fingerprint(run)
    assert [line["participants"] for line in lines] == [[0], [0]] and all(line["merged"] for line in lines)


def test_one_client_holds_what_all_held(tiny: dict[str, Any]) -> None:
    apart = build(configs.from_tree(tiny)).split
    tiny["data"]["pooled"] = True
    (whole,) = build(configs.from_tree(tiny)).split.clients
    assert torch.equal(whole.train, torch.cat([client.train for client in apart.clients]))
    assert torch.equal(whole.validation, torch.cat([client.validation for client in apart.clients]))


def test_pooled_local_training_is_central(tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny["method"] = {"name": "central"}
    central = spikefed.load_model(spikefed.run(tiny, out=tmp_path / "central")).network.state_dict()
    tiny["method"], tiny["data"]["pooled"] = {"name": "local"}, True
    pooled = spikefed.load_model(spikefed.run(tiny, out=tmp_path / "pooled")).network.state_dict()
    assert all(torch.equal(tensor, central[name]) for name, tensor in pooled.items())


def test_stopped_and_resumed_is_uninterrupted(tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny["data"]["pooled"], tiny["method"] = True, {"name": "fedavgm"}
    whole = fingerprint(spikefed.run(tiny, out=tmp_path / "whole"))
    part = spikefed.run(tiny | {"rounds": 1}, out=tmp_path / "part")
    shutil.move(part, tmp_path / "moved")
    assert fingerprint(spikefed.run(tiny, out=tmp_path / "moved", resume=True)) == whole


def test_the_key_leaves_older_experiments_their_hash(tiny: dict[str, Any]) -> None:
    plain = configs.from_tree(tiny).hash()
    tiny["data"]["pooled"] = False
    assert configs.from_tree(tiny).hash() == plain
    tiny["data"]["pooled"] = True
    assert configs.from_tree(tiny).hash() != plain


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("participation.quorum=2", r"can never be reached by 1 client \(data.pooled makes one of all\)"),
        ("attack.clients=[1]", "'attack.clients' names client 1, but there are clients 0 to 0"),
        ("privacy.secure=true", "sums the votes of at least two clients"),
    ],
)
def test_what_needs_several_clients_is_refused(tiny: dict[str, Any], tmp_path: Path, override: str, text: str) -> None:
    tiny["data"]["pooled"] = True
    with pytest.raises(ConfigError, match=text):
        spikefed.run(tiny, overrides=[override], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
