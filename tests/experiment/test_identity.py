"""A resumed run has the data and the network it began with, or says which it has not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spikefed
from experiment.runs import fingerprint
from spikefed.errors import CheckpointError
from spikefed.experiment import RunFolder

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, steps, wide={wide}):
        super().__init__()
        self.one, self.two, self.steps = nn.Linear(64, wide), nn.Linear(wide, classes), steps

    def forward(self, x):
        h = torch.{act}(self.one(x.flatten(1)))
        return self.two(h).expand(self.steps, -1, -1)
"""


def tables(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "own",
        "rounds": 1,
        "data": {"dataset": f"npz:{folder / 'set.npz'}", "clients": 2, "public": 20, "private_per_client": 20},
        "network": {"name": "4C3-AP2", "steps": 4},
        "training": {"local_epochs": 1, "local_batch": 10},
        "method": {"name": "fedavg"},
        "run": {"threads": 1},
    } | changes


def write(folder: Path, *, test: int = 0, public: int = 0) -> None:
    """A data set with a test part, and another for public rows; other seeds give other pixels."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (90, 8, 8), dtype=np.uint8), np.arange(90) % 3
    shown = np.random.default_rng(test + 7).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    np.savez(
        folder / "set.npz", train_images=images, train_labels=labels, test_images=shown, test_labels=np.arange(30) % 3
    )
    other = np.random.default_rng(public + 70).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.savez(folder / "public.npz", images=other, labels=np.arange(40) % 3)


def resumed(tables: dict[str, Any], out: Path) -> Path:
    return spikefed.run(tables | {"rounds": 2}, out=out, resume=True)


def test_other_test_images_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    spikefed.run(tables(tmp_path), out=tmp_path / "run")
    write(tmp_path, test=1)
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match="the test images or labels of 'npz:.*' are not those that the run in"):
        resumed(tables(tmp_path), tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
    write(tmp_path)
    whole = spikefed.run(tables(tmp_path, rounds=2), out=tmp_path / "whole")
    assert fingerprint(resumed(tables(tmp_path), tmp_path / "run")) == fingerprint(whole)


def test_another_public_source_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    given = tables(tmp_path, method={"name": "fsd", "distil_epochs": 1, "server_epochs": 1})
    given["data"]["public_dataset"] = f"npz:{tmp_path / 'public.npz'}"
    spikefed.run(given, out=tmp_path / "run")
    write(tmp_path, public=1)
    with pytest.raises(CheckpointError, match="the public images of 'npz:.*public.npz' are not those"):
        resumed(given, tmp_path / "run")


@pytest.mark.parametrize(("act", "wide"), [("sigmoid", 16), ("relu", 17)], ids=["another forward", "another width"])
def test_another_forward_or_width_of_an_own_network_is_refused(
    act: str, wide: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    given = tables(tmp_path, network={"name": "identitynet:Net", "steps": 4, "readout": "current"})
    (tmp_path / "identitynet.py").write_text(NET.format(act="relu", wide=16))
    spikefed.run(given, out=tmp_path / "run")
    assert "network_outputs" in RunFolder(tmp_path / "run").read_json(tmp_path / "run" / "provenance.json")
    sys.modules.pop("identitynet")
    resumed(given | {"rounds": 1}, tmp_path / "run")  # the same code: fine
    (tmp_path / "identitynet.py").write_text(NET.format(act=act, wide=wide))
    sys.modules.pop("identitynet", None)
    with pytest.raises(CheckpointError, match="network 'identitynet:Net' does not compute what it did") as caught:
        resumed(given, tmp_path / "run")
    assert "\n" not in str(caught.value)
    sys.modules.pop("identitynet")
