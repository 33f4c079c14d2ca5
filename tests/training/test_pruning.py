"""Masks of largest scores, and what those scores are."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from spikefed import networks
from spikefed.errors import ConfigError
from spikefed.training import (
    Mask,
    Preprocess,
    density,
    input_activity,
    magnitudes,
    mask_distance,
    mask_of_best,
    random_scores,
    saliencies,
    schedule,
)


def drawn(*shapes: tuple[int, ...], seed: int = 0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {f"t{i}": torch.randn(shape, generator=draw) for i, shape in enumerate(shapes)}


@given(st.floats(0, 1), st.integers(0, 5))
def test_exactly_so_many_stay_even_among_equals(sparsity: float, seed: int) -> None:
    weights = {n: t.round() for n, t in drawn((5, 7), (11,), seed=seed).items()}  # many ties
    scores = magnitudes(weights, weights)
    mask = mask_of_best(scores, sparsity)
    kept = torch.cat([mask.kept[n].reshape(-1) for n in scores])
    flat = torch.cat([s.reshape(-1) for s in scores.values()])
    assert int(kept.sum()) == round((1 - sparsity) * 46)
    assert not kept.any() or kept.all() or flat[kept].min() >= flat[~kept].max()


def test_global_magnitude_is_that_of_torch() -> None:
    net = nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 10))
    pairs = [(net[0], "weight"), (net[1], "weight")]
    weights = {"0.weight": net[0].weight.detach().clone(), "1.weight": net[1].weight.detach().clone()}
    prune.global_unstructured(pairs, pruning_method=prune.L1Unstructured, amount=0.9)
    mask = mask_of_best(magnitudes(weights, weights), 0.9)
    for i in (0, 1):
        assert torch.equal(mask.kept[f"{i}.weight"], net[i].weight_mask.bool())


def test_within_a_mask_levels_nest_and_nothing_comes_back() -> None:
    weights = drawn((40, 50))
    first = mask_of_best(magnitudes(weights, weights), 0.5)
    other = drawn((40, 50), seed=1)
    second = mask_of_best(magnitudes(other, other), 0.75, first)
    assert not (second.kept["t0"] & ~first.kept["t0"]).any()
    assert density(second) == 0.25
    with pytest.raises(ConfigError, match="only 1000 are left"):
        mask_of_best(magnitudes(other, other), 0.4, first)
    with pytest.raises(ConfigError, match="not in"):
        mask_of_best(magnitudes(other, other), 90)


def test_a_live_weight_below_1e_6_stays() -> None:
    """Defect 6 of the released code: it takes |w| < 1e-6 for the mask."""
    weights = {"w": torch.tensor([1.0, 1e-9, 0.0, 2.0])}
    mask = mask_of_best(magnitudes(weights, ["w"]), 0.25)
    assert mask.kept["w"].tolist() == [True, True, False, True]


def test_random_masks_nest() -> None:
    weights = drawn((40, 50))
    scores = random_scores(weights, ["t0"], torch.Generator().manual_seed(3))
    few, many = mask_of_best(scores, 0.9).kept["t0"], mask_of_best(scores, 0.5).kept["t0"]
    assert not (few & ~many).any() and int(few.sum()) == 200


def test_saliency_is_size_times_gradient() -> None:
    found = saliencies({"w": torch.tensor([2.0, -3.0]), "b": torch.ones(1)}, {"w": torch.tensor([-1.0, 0.5])})
    assert found.keys() == {"w"} and found["w"].tolist() == [2.0, 1.5]


def test_distance_of_masks() -> None:
    one = Mask({"a": torch.tensor([True, True, False, False]), "b": torch.tensor([True])})
    other = Mask({"a": torch.tensor([True, False, True, False]), "b": torch.tensor([True])})
    assert mask_distance(one, one) == 0 and mask_distance(one, other) == mask_distance(other, one) == 0.4


def test_the_published_schedule() -> None:
    published = [25.04, 43.71, 57.76, 68.30, 76.20, 82.13, 86.58, 89.91, 92.41, 94.29, 95.69, 96.75, 97.54, 98.13]
    assert [100 * s for s in schedule(0.25, 14)] == pytest.approx(published, abs=0.15)


def test_input_activity_is_the_rate_of_every_input() -> None:
    net = networks.build("4C3-AP2-12FC", input_shape=(1, 8, 8), classes=3, steps=4, norm="bn")
    images = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    seen = []
    handle = net.get_submodule("fc1").register_forward_pre_hook(lambda _, args: seen.append(args[0].flatten(1)))
    names = ["conv1.weight", "fc1.weight"]
    found = input_activity(net, names, images, Preprocess("unit"), torch.Generator())
    handle.remove()
    assert found["fc1.weight"].shape == (1, 4 * 16) and found["conv1.weight"].shape == (1, 1, 1, 1)
    assert torch.allclose(found["fc1.weight"][0], torch.cat(seen).mean(0), atol=1e-6)
    assert float(found["conv1.weight"]) == pytest.approx(float((images / 255.0).mean()), rel=1e-5)
