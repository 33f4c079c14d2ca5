"""Batches of one that an own network cannot be trained on are one sentence before anything begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import spikefed
from spikefed.errors import ConfigError
from spikefed.experiment import RunFolder

IMAGES = np.random.default_rng(0).integers(0, 256, (120, 1, 8, 8), dtype=np.uint8)
DATA = (IMAGES, np.arange(120) % 3)


class Normed(nn.Module):
    """A norm over the batch on features without a map."""

    def __init__(self, classes: int, steps: int) -> None:
        super().__init__()
        self.hidden, self.norm, self.head = nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, classes)
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(self.hidden(x.flatten(1))))).expand(self.steps, -1, -1)


class Mapped(nn.Module):
    """A norm over the batch and a map: one item is enough."""

    def __init__(self, classes: int, steps: int) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, classes)
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3))).expand(self.steps, -1, -1)


def tables(**training: Any) -> dict[str, Any]:
    return {
        "name": "own",
        "rounds": 1,
        "data": {"clients": 2, "public": 20, "private_per_client": 20},
        "network": {"steps": 4, "readout": "current"},
        "training": {"local_epochs": 1, "local_batch": 10} | training,
        "method": {"name": "fedavg"},
        "run": {"threads": 1},
    }


def test_a_batch_of_one_names_client_samples_and_batch(tmp_path: Path) -> None:
    said = "client 0 has 18 training items and training.local_batch is 1; give it more"
    with pytest.raises(ConfigError, match=said):
        spikefed.run(tables(local_batch=1), dataset=DATA, network=Normed, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_client_with_one_item_is_named(tmp_path: Path) -> None:
    given = tables()
    given["data"] |= {"sizes": [20, 1], "private_per_client": None, "validation": 0.0}
    with pytest.raises(ConfigError, match="client 1 has 1 training item and training.local_batch is 10"):
        spikefed.run(given, dataset=DATA, network=Normed, out=tmp_path / "run")


@pytest.mark.parametrize(("network", "batch"), [(Mapped, 1), (Normed, 10)])
def test_what_works_is_left_alone(network: type[nn.Module], batch: int, tmp_path: Path) -> None:
    run = spikefed.run(tables(local_batch=batch), dataset=DATA, network=network, out=tmp_path / "run")
    assert RunFolder(run).finished()
