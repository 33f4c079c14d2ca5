"""Targets of synthetic images, and the file that holds them: what went wrong in the released code of PrivateSNN."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.distributions import Dirichlet

from spikefed.data import SyntheticSet, similarity, soft_targets
from spikefed.data.sheet import sheet
from spikefed.errors import CheckpointError, DataError
from spikefed.networks import write_tensors


def weight(classes: int = 12, features: int = 7) -> torch.Tensor:
    return torch.randn(classes, features, generator=torch.Generator().manual_seed(0))


def test_concentrations_are_above_0_where_a_row_has_its_least() -> None:
    alike = similarity(weight())
    assert torch.equal(alike.amin(dim=1), torch.full((12,), 1e-3)) and torch.equal(alike.diag(), torch.ones(12))
    Dirichlet(alike)  # which refuses a 0
    assert torch.equal(similarity(torch.ones(3, 2)), torch.full((3, 3), 1e-3))  # classes that nothing tells apart


@pytest.mark.parametrize("scale", [1e-4, 0.1, 1.0, 50.0])
def test_shares_are_above_0_and_sum_to_1(scale: float) -> None:
    classes = torch.arange(600) % 12
    shares = soft_targets(similarity(weight()), classes, scale, seed=3)
    assert bool((shares > 0).all()) and torch.allclose(shares.sum(dim=1), torch.ones(600))
    assert torch.equal(shares, soft_targets(similarity(weight()), classes, scale, seed=3))
    if scale == 1e-4:  # nearly one class each, and no row that is even for want of numbers
        assert float(shares.amax(dim=1).min()) > 0.9


def test_means_are_those_of_the_distribution() -> None:
    alike = similarity(weight(4))
    shares = soft_targets(alike, torch.full((20_000,), 2), 3.0, seed=0)
    assert torch.allclose(shares.mean(dim=0), alike[2] / alike[2].sum(), atol=0.01)


def test_a_draw_may_favour_another_class_than_it_was_made_for() -> None:
    classes = torch.arange(2400) % 12
    shares = soft_targets(similarity(weight()), classes, 1.0, seed=0)
    right = float((shares.argmax(dim=1) == classes).double().mean())
    assert right < 0.8  # so the class it was made for is no label


def tiny(count: int = 24, classes: int = 12) -> SyntheticSet:
    draw = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 1, 4, 4), dtype=torch.uint8, generator=draw)
    targets = torch.eye(classes)[torch.arange(count) % classes]
    outputs = torch.randn(count, classes, generator=draw)
    return SyntheticSet(images, targets, outputs, {"kind": "impressions", "seed": 1})


def test_labels_are_what_the_network_says_beyond_ten_classes_too(tmp_path: Path) -> None:
    made = tiny()
    made.save(tmp_path / "new" / "set.safetensors")
    back = SyntheticSet.load(tmp_path / "new" / "set.safetensors")
    assert torch.equal(back.labels, made.outputs.argmax(dim=1)) and torch.equal(back.images, made.images)
    assert torch.equal(back.targets.argmax(dim=1), torch.arange(24) % 12)  # 2 is behind 1, not behind 11
    assert back.provenance == {"kind": "impressions", "seed": 1}
    before = (tmp_path / "new" / "set.safetensors").read_bytes()
    back.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == before
    assert len(back.first(5)) == 5


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="make them with 'spikefed synthesise'"):
        SyntheticSet.load(tmp_path / "absent.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"\x08\x00")
    with pytest.raises(CheckpointError):
        SyntheticSet.load(tmp_path / "cut.safetensors")
    made = tiny()
    odd = {"images": made.images, "targets": made.targets[:3].clone(), "outputs": made.outputs}
    (tmp_path / "odd.safetensors").write_bytes(write_tensors(odd))
    with pytest.raises(DataError, match="holds no synthetic images"):
        SyntheticSet.load(tmp_path / "odd.safetensors")


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_sheet_has_a_row_for_every_class(channels: int) -> None:
    images = torch.randint(1, 255, (30, channels, 8, 8), dtype=torch.uint8)
    page = Image.open(io.BytesIO(sheet(images, torch.arange(30) % 3, classes=4)))
    assert page.size == (10 * 50 + 2, 4 * 50 + 2) and page.mode == ("RGB" if channels == 3 else "L")
    grey = page.convert("L")
    assert grey.crop((2, 152, 500, 200)).getextrema() == (255, 255)  # nothing is of the last class
    assert grey.crop((2, 2, 50, 50)).getextrema() != (255, 255)
