"""Noisy and rounded weights around a step: where, how much, and that nothing of it stays."""

from __future__ import annotations

import pytest
import torch

from spikefed.networks import build
from spikefed.training.noise import NoisyWeights, products


def net():
    return build("4C3-AP2-12FC", input_shape=(1, 8, 8), classes=3, steps=2, norm="bn")


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_weights_of_products_are_disturbed_and_come_back_to_the_bit() -> None:
    made = net()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    with NoisyWeights(relative=0.1).around(made, draws()):
        moved = {name for name, value in made.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"conv1.weight", "fc1.weight", "fc2.weight"}
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert len(products(made)) == 3


def test_weights_come_back_after_an_error_too() -> None:
    made = net()
    before = made.conv1.weight.detach().clone()
    with pytest.raises(RuntimeError, match="stop"), NoisyWeights(absolute=0.1).around(made, draws()):
        raise RuntimeError("stop")
    assert torch.equal(made.conv1.weight, before)


def test_noise_has_the_deviation_that_was_asked_for() -> None:
    weight = torch.randn(400, 400, generator=draws(1))
    relative = NoisyWeights(relative=0.2).disturbed(weight, draws()) / weight - 1
    assert float(relative.std()) == pytest.approx(0.2, rel=0.02)
    absolute = NoisyWeights(absolute=0.05).disturbed(weight, draws()) - weight
    assert float(absolute.std()) == pytest.approx(0.05 * float(weight.abs().max()), rel=0.02)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_rounding_gives_its_levels(bits) -> None:
    weight = torch.randn(50, 50, generator=draws(1))
    rounded = NoisyWeights(bits=bits).disturbed(weight, draws())
    step = float(weight.abs().max()) / (2 ** (bits - 1) - 1)
    assert torch.allclose((rounded / step).round() * step, rounded, atol=1e-6)
    assert float((rounded - weight).abs().max()) <= step / 2 + 1e-6
    assert not NoisyWeights(bits=bits).disturbed(torch.zeros(3, 3), draws()).any()


def test_the_gradient_is_that_at_the_disturbed_weights() -> None:
    made = net()
    x = torch.rand(6, 1, 8, 8, generator=draws(2))
    hook = NoisyWeights(relative=0.3, bits=4)
    with hook.around(made, draws(5)):
        made(x).sum().backward()
    found = made.fc1.weight.grad.clone()
    made.zero_grad()
    stream = draws(5)
    with torch.no_grad():
        for parameter in products(made):
            parameter.copy_(hook.disturbed(parameter, stream))
    made(x).sum().backward()
    assert torch.equal(found, made.fc1.weight.grad)
