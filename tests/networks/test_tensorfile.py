"""Tensor files: what is written comes back, sparse ones are as short as they can be, and anybody can read them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as load_numpy
from safetensors.torch import load, save

from spikefed.errors import CheckpointError, ConfigError
from spikefed.networks import build, copy_tensors, read_tensors, write_tensors


def sparse(size: int, density: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Normal numbers, and a random mask of this density that has been applied to them."""
    draws = torch.Generator().manual_seed(seed)
    kept = torch.rand(size, generator=draws) < density
    return torch.randn(size, generator=draws) * kept, kept


def test_without_masks_it_is_a_plain_safetensors_file() -> None:
    tensors = {"w": torch.randn(3, 4), "count": torch.tensor(7), "half": torch.randn(2).half()}
    data = write_tensors(tensors, facts={"b": 1, "a": [2]})
    assert data == save(tensors, {"spikefed": '{"a": [2], "b": 1}'})
    back = read_tensors(data)
    assert back.facts == {"a": [2], "b": 1} and not back.kept
    assert all(torch.equal(back.tensors[name], tensor) for name, tensor in tensors.items())


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 12), max_size=4), st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]), st.integers(0, 99))
def test_round_trip(shape: list[int], density: float, seed: int) -> None:
    flat, kept = sparse(math.prod(shape), density, seed)
    tensor, mask = flat.reshape(shape), kept.reshape(shape)
    back = read_tensors(write_tensors({"a.w": tensor, "b": torch.ones(2)}, {"a.w": mask}))
    assert torch.equal(back.tensors["a.w"], tensor) and back.tensors["a.w"].dtype == tensor.dtype
    assert torch.equal(back.kept["a.w"], mask) and list(back.kept) == ["a.w"]


@pytest.mark.parametrize("gap", [0, 1, 254, 255, 256, 509, 510, 511, 65534, 65535, 65536, 131070])
def test_gaps_at_the_edges_of_their_types(gap: int) -> None:
    kept = torch.zeros(gap + 3, dtype=torch.bool)
    kept[[gap, gap + 1]] = True
    back = read_tensors(write_tensors({"w": kept.float()}, {"w": kept}))
    assert torch.equal(back.kept["w"], kept)


@pytest.mark.parametrize("density", [0.001, 0.0025, 0.01, 0.02, 0.1, 0.125, 0.3, 0.5, 0.8, 0.95])
def test_values_and_positions_are_near_their_entropy(density: float) -> None:
    tensor, kept = sparse(400_000, density)
    share = float(kept.double().mean())
    entropy_bits = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    least = 4 * int(kept.sum()) + 400_000 * entropy_bits / 8
    assert len(write_tensors({"w": tensor}, {"w": kept})) <= 1.2 * least + 256  # and the file's header


@pytest.mark.parametrize("density", [0.005, 0.02, 0.1, 0.5])
def test_a_networks_file_is_near_the_entropy_of_its_weights(density: float) -> None:
    tensors = copy_tensors(build("vgg9-bntt", input_shape=(3, 32, 32), classes=10, steps=2))
    draws = torch.Generator().manual_seed(0)
    kept = {n: torch.rand(t.shape, generator=draws) < density for n, t in tensors.items() if t.dim() > 1}
    pruned = {n: t * kept[n] if n in kept else t for n, t in tensors.items()}
    least = sum(t.nbytes for n, t in tensors.items() if n not in kept)
    for mask in kept.values():
        share = float(mask.double().mean())
        bits = -share * math.log2(share) - (1 - share) * math.log2(1 - share) if 0 < share < 1 else 0.0
        least += 4 * int(mask.sum()) + mask.numel() * bits / 8
    data = write_tensors(pruned, kept, {"network": "vgg9-bntt"})
    assert len(data) <= 1.2 * least
    if density == 0.02:
        assert len(data) <= len(write_tensors(pruned)) / 25


@pytest.mark.parametrize("density", [0.001, 0.02, 0.4])
def test_anybody_reads_it_in_three_lines(density: float) -> None:
    tensor, kept = sparse(30_000, density)
    body = load_numpy(write_tensors({"w": tensor.reshape(100, 300)}, {"w": kept.reshape(100, 300)}))
    values, shape = body["w:values"], body["w:shape"]
    if "w:bitmap" in body:
        places = np.flatnonzero(np.unpackbits(body["w:bitmap"])[: np.prod(shape)])
    else:
        skipped, most = body["w:gaps"].astype(np.int64), np.iinfo(body["w:gaps"].dtype).max
        places = (np.cumsum(skipped + (skipped < most)) - 1)[skipped < most]
    found = np.zeros(np.prod(shape), values.dtype)
    found[places] = values
    assert np.array_equal(found.reshape(shape), tensor.reshape(100, 300).numpy())


def test_masks_that_do_not_fit_are_refused() -> None:
    tensors = {"w": torch.ones(4)}
    cases = {
        "no such tensor": {"v": torch.ones(4, dtype=torch.bool)},
        "of the same shape": {"w": torch.ones(5, dtype=torch.bool)},
        "is not 0 everywhere": {"w": torch.tensor([True, True, False, True])},
    }
    for why, masks in cases.items():
        with pytest.raises(ConfigError, match=why):
            write_tensors(tensors, masks)
    with pytest.raises(ConfigError, match="a mask is a bool tensor"):
        write_tensors(tensors, {"w": torch.ones(4)})


def test_what_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no tensors")
    for source in (tmp_path / "missing", tmp_path / "text", b"", b"no tensors at all"):
        with pytest.raises(CheckpointError, match="cannot be read as a model file"):
            read_tensors(source)


BROKEN = {
    "lacks a part": {"w:values": None},
    "too many": {"w:bitmap": torch.zeros(1000, dtype=torch.uint8)},
    "one too many": {"w": torch.zeros(3)},
    "a shape that is none": {"w:shape": torch.tensor([-1])},
    "more than any network": {"w:shape": torch.tensor([1 << 41])},
    "20 survivors": {"w:shape": torch.tensor([5])},
    "survivors that they stand": {"w:gaps": torch.zeros(3, dtype=torch.uint8)},
    "where a tensor": {"w:gaps": torch.full((20,), 254, dtype=torch.uint8)},
    "has none": {"w:gaps": torch.zeros(20, dtype=torch.float32)},
}


@pytest.mark.parametrize("why", BROKEN)
def test_parts_that_do_not_fit_are_named(why: str) -> None:
    kept = torch.zeros(4000, dtype=torch.bool)
    kept[::200] = True
    body = load(write_tensors({"w": kept.float()}, {"w": kept})) | BROKEN[why]
    with pytest.raises(CheckpointError, match=f"sparse tensor 'w' in these bytes .*{why}"):
        read_tensors(save({name: tensor for name, tensor in body.items() if tensor is not None}))


def test_broken_bytes_never_raise_anything_else() -> None:
    tensor, kept = sparse(500, 0.1)
    data = write_tensors({"w": tensor, "b": torch.ones(3)}, {"w": kept}, {"x": 1})
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        broken = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            broken[at] = rng.integers(256)
        try:
            read_tensors(bytes(broken[: rng.integers(1, len(data) + 1)] if rng.random() < 0.3 else broken))
        except CheckpointError:
            refused += 1
    assert refused > 60  # a cut file at the least
