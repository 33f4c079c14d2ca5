"""Public rows that are nobody's: the same everywhere for a seed, of the data's shape, refused where they cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import spikefed
from experiment.conftest import TINY
from spikefed.data import ImageSet, SynthesisPlan, is_made, load, made_public
from spikefed.errors import DataError
from spikefed.experiment import build, from_tree
from spikefed.experiment.synthesis import synthesise_run


def like(shape: tuple[int, int, int] = (1, 8, 8), values: Any = "pixels") -> ImageSet:
    dtype = torch.uint8 if values == "pixels" else torch.float32
    return ImageSet("set", "train", torch.zeros(4, *shape, dtype=dtype), torch.zeros(4).long(), 3, values=values)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.add.outer(np.arange(60), 2 * np.arange(90)).astype(np.uint8)
    Image.fromarray(np.stack([pixels, pixels[::-1], pixels], axis=2)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 12), (2, 1, 1)])
def test_noise_has_edges_and_areas(shape: tuple[int, int, int]) -> None:
    made = made_public("noise", like(shape), 40, seed=1)
    assert made.images.shape == (40, *shape) and made.images.dtype == torch.uint8
    assert torch.equal(made.images, made_public("noise", like(shape), 40, seed=1).images)
    assert not torch.equal(made.images, made_public("noise", like(shape), 40, seed=2).images)
    if shape == (1, 8, 8):
        steps = made.images.float().diff(dim=3).abs().mean(dim=(1, 2, 3))
        assert float(steps.min()) < 20 < 60 < float(steps.max())


@pytest.mark.parametrize("channels", [1, 3])
def test_crops_are_windows_of_the_picture(picture: Path, channels: int) -> None:
    made = made_public(f"crops:{picture}", like((channels, 6, 7)), 30, seed=0)
    assert made.images.shape == (30, channels, 6, 7) and len(made.images.flatten(1).unique(dim=0)) > 25
    assert torch.equal(made.images, made_public(f"crops:{picture}", like((channels, 6, 7)), 30, seed=0).images)


def test_names() -> None:
    assert is_made("noise") and is_made("crops:a.png") and is_made("synthetic:a.safetensors")
    assert not is_made("mnist") and not is_made("module:function") and not is_made("noisy")


@pytest.mark.parametrize(
    ("name", "set_", "said"),
    [
        ("noise", like(values="reals"), "name a set like it"),
        ("crops:nowhere.png", like(), "give the path of one"),
        ("crops:nowhere.png", like((2, 4, 4)), "use public rows of 'noise'"),
        ("synthetic:nowhere.safetensors", like(), "spikefed synthesise"),
    ],
)
def test_what_cannot_be_made(name: str, set_: ImageSet, said: str) -> None:
    with pytest.raises(DataError, match=said):
        made_public(name, set_, 5, seed=0)


def test_a_file_that_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match="need a picture there"):
        made_public(f"crops:{tmp_path / 'text.png'}", like(), 5, seed=0)


def test_methods_that_distil_run_on_them(picture: Path, tmp_path: Path) -> None:
    teacher = spikefed.run({**TINY, "rounds": 1}, out=tmp_path / "teacher")
    path, made = synthesise_run(teacher, SynthesisPlan("statistics", images=30, steps=3))
    ids = set()
    for name in ("noise", f"crops:{picture}", f"synthetic:{path}"):
        tree = {**TINY, "rounds": 1, "data": {**TINY["data"], "public_dataset": name}}
        run = spikefed.run(tree, out=tmp_path / name.partition(":")[0])
        assert (run / "result.json").is_file()
        federation = build(from_tree(tree))
        assert federation.expectations.public_set_id == build(from_tree(tree)).expectations.public_set_id
        ids.add(federation.expectations.public_set_id)
        assert len(federation.split.public_images) == 24
        private = sum(len(c.train) + len(c.validation) for c in federation.split.clients)
        assert private == 80 and len(federation.train) == len(load("digits", "train"))
    assert len(ids) == 3
    with pytest.raises(DataError, match="larger than synthetic"):
        data = {**TINY["data"], "public_dataset": f"synthetic:{path}", "public": 31}
        build(from_tree({**TINY, "data": data}))
    assert len(made) == 30
