"""Augmentations that do not suit the images are refused or said before the first round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import spikefed
from experiment.runs import Told
from spikefed.errors import ConfigError
from spikefed.experiment import build
from spikefed.experiment import config as configs
from spikefed.experiment.augments import augment_notes
from spikefed.training import AUGMENTATIONS, REACH


def tables(**method: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "rounds": 1,
        "data": {"clients": 2, "private_per_client": 40, "public": 20, "test_limit": 40},
        "network": {"name": "4C3-AP2-8FC", "steps": 2, "norm": "bn"},
        "training": {"local_epochs": 1},
        "method": {"name": "fsd+", "server_epochs": 1, **method},
        "run": {"threads": 1},
    }


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_reach_is_the_furthest_that_a_pixel_moves(name: str) -> None:
    change = AUGMENTATIONS[name]
    dot = torch.zeros(2000, 1, 21, 21)
    dot[:, :, 10, 10] = 1.0
    moved = dot if change is None else change(dot, torch.Generator().manual_seed(0))
    places = moved.nonzero()[:, 2:]
    assert len(places) == 2000 and int((places - 10).abs().max()) == REACH[name]


@pytest.mark.parametrize(
    ("key", "value", "side", "warned"),
    [
        ("method.server_augment", "shift", 8, True),  # 2 of 8 is a quarter
        ("method.server_augment", "shift-flip", 15, True),
        ("method.server_augment", "shift", 16, False),  # just an eighth
        ("method.server_augment", "flip", 2, False),
        ("method.distil_augment", "crop", 28, True),
        ("method.distil_augment", "crop", 32, False),  # the usual crop of CIFAR-10
        ("training.augment", "crop-flip", 28, True),
        ("training.augment", "crop-flip", 32, False),
    ],
)
def test_a_note_names_the_key_where_images_move_by_more_than_an_eighth(
    key: str, value: str, side: int, warned: bool
) -> None:
    config = configs.from_tree(tables(), [f"{key}={value}"])
    notes = augment_notes(config, (1, side, 40))
    assert len(notes) == warned
    assert all(f"{key} = '{value}' moves images of {side}x40 by up to {REACH[value]} pixels" in note for note in notes)


def test_it_is_said_once_before_the_first_round_and_by_nobody_without(tmp_path: Path) -> None:
    shifted, plain, again = Told(), Told(), Told()
    folder = spikefed.run(tables(server_augment="shift"), out=tmp_path / "shifted", progress=shifted)
    spikefed.run(tables(), out=tmp_path / "plain", progress=plain)
    assert not [note for note in plain.said if "moves images" in note]
    said = [note for note in shifted.said if "moves images" in note]
    assert len(said) == 1
    assert said[0].startswith("method.server_augment = 'shift' moves images of 8x8 by up to 2 pixels")
    spikefed.run(folder / "config.toml", out=folder, resume=True, progress=again)
    assert not [note for note in again.said if "moves images" in note]


@pytest.mark.parametrize("key", ["training.augment", "method.server_augment", "method.distil_augment"])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation_can_be_asked_for_by_clients_and_server(key: str, name: str) -> None:
    hyper = configs.from_tree(tables(), [f"{key}={name}"]).hyper()
    assert getattr(hyper, key.split(".")[1]) == name


@pytest.mark.parametrize("key", ["training.augment", "method.server_augment", "method.distil_augment"])
def test_series_are_not_moved_as_pictures(key: str) -> None:
    series = np.random.default_rng(0).random((240, 10, 3), dtype=np.float32), np.arange(240) % 2
    tree = tables()
    tree["data"] |= {"kind": "series"}
    tree["network"]["name"] = "8FC"
    with pytest.raises(ConfigError, match=f"{key} = 'crop' moves pictures, and the data are series"):
        build(configs.from_tree(tree, [f"{key}=crop"]), series)
