"""A convolution, a norm of each step and means over 2x2 at once: as one after the other."""

from __future__ import annotations

import pytest
import torch

from spikefed.neurons import dense_library, halves_suit, normalise, normalised_halves, spike_conv2d

OPTIONS = {
    "norm": "bn-step", "training": True, "momentum": 0.1, "eps": 1e-5, "running_mean": None, "running_var": None
}  # fmt: skip


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.skipif(dense_library() is None, reason="this instruction set has no such kernel")
@pytest.mark.parametrize(("channels", "features", "side"), [(16, 32, 28), (17, 20, 6), (32, 16, 10)])
@torch.no_grad()
def test_the_means_of_the_normalised_map(channels: int, features: int, side: int) -> None:
    x = (draw(6, channels, side, side + 2) > 0.8).float().contiguous(memory_format=torch.channels_last)
    weight = draw(features, channels, 3, 3, seed=1)
    options = {**OPTIONS, "weight": draw(features, seed=2), "bias": draw(features, seed=3)}
    assert halves_suit(x, weight, None, options)
    whole = normalise(spike_conv2d(x, weight, None, padding=1), steps=3, **options)
    wanted = torch.nn.functional.avg_pool2d(whole, 2)
    torch.testing.assert_close(normalised_halves(x, weight, 3, options), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"x": torch.zeros(3, 16, 7, 8)},
        {"x": torch.zeros(3, 16, 8, 8, dtype=torch.float64)},
        {"weight": torch.zeros(16, 16, 1, 1)},
        {"bias": torch.zeros(16)},
        {"options": {**OPTIONS, "norm": "bn"}},
    ],
    ids=["odd", "float64", "1x1", "bias", "another norm"],
)
@torch.no_grad()
def test_what_is_left_to_others(change: dict[str, object]) -> None:
    plain = {"x": torch.zeros(3, 16, 8, 8), "weight": torch.zeros(16, 16, 3, 3), "bias": None, "options": OPTIONS}
    assert not halves_suit(**{**plain, **change})  # type: ignore[arg-type]


def test_a_gradient_is_left_to_others() -> None:
    assert not halves_suit(torch.zeros(3, 16, 8, 8), torch.zeros(16, 16, 3, 3), None, OPTIONS)
