"""Masks: exact zeros after every step of every optimiser, moments included, and survivors that train as if alone."""

from __future__ import annotations

import copy
import doctest
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks import build
from spikefed.training import Mask, density, held, masks, optimiser, rate_cross_entropy, released

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
    "sgd nesterov": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1),
    "adam amsgrad": lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1, amsgrad=True),
    "adam fused": lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.1, weight_decay=0.1, initial_accumulator_value=0.5),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9, centered=True, weight_decay=0.1),
    "nadam": lambda p: torch.optim.NAdam(p, 0.01, weight_decay=0.1),
    "radam": lambda p: torch.optim.RAdam(p, 0.01, weight_decay=0.1),
    "adamax": lambda p: torch.optim.Adamax(p, 0.01, weight_decay=0.1),
    "adadelta": lambda p: torch.optim.Adadelta(p, 1.0, weight_decay=0.1),
    "asgd": lambda p: torch.optim.ASGD(p, 0.01, weight_decay=0.1),
    "rprop": lambda p: torch.optim.Rprop(p, 0.01),
}


class Gated(nn.Module):
    """A linear layer whose weights are multiplied by a mask: what a mask means, without any optimiser's help."""

    def __init__(self, layer: nn.Linear, kept: Tensor) -> None:
        super().__init__()
        self.layer, self.kept = layer, kept

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.layer.weight * self.kept, self.layer.bias)


def problem() -> tuple[nn.Linear, Tensor, Tensor, Tensor]:
    """A layer, a mask of its weights, inputs and targets."""
    draws = torch.Generator().manual_seed(3)
    layer = nn.Linear(7, 5)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(5, 7, generator=draws))
        layer.bias.zero_()
    kept = torch.rand(5, 7, generator=draws) < 0.4
    return layer, kept, torch.randn(16, 7, generator=draws), torch.randn(16, 5, generator=draws)


def step(net: nn.Module, optim: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    optim.zero_grad()
    (net(x) - y).square().mean().backward()
    optim.step()


def all_zero(values: Tensor) -> bool:
    """+0 to the bit."""
    return not values.contiguous().view(torch.uint8).any()


@pytest.mark.parametrize("name", OPTIMISERS)
def test_masked_entries_and_moments_are_exactly_0_after_100_steps(name: str) -> None:
    layer, kept, x, y = problem()
    start = layer.weight.detach().clone()
    optim = held(OPTIMISERS[name](layer.parameters()), Mask({"weight": kept}).on(layer))
    for _ in range(100):
        step(layer, optim, x, y)
        assert all_zero(layer.weight[~kept])
        assert all(all_zero(v[~kept]) for v in optim.state[layer.weight].values() if v.shape == kept.shape)
    moved = (layer.weight != start)[kept]
    assert moved.all() and torch.isfinite(layer.weight).all()


@pytest.mark.parametrize("name", OPTIMISERS)
def test_survivors_train_as_in_a_network_that_multiplies_by_the_mask(name: str) -> None:
    ends = []
    for gated in (True, False):
        layer, kept, x, y = problem()
        net: nn.Module = Gated(layer, kept) if gated else layer
        optim = OPTIMISERS[name](layer.parameters())
        if not gated:
            held(optim, Mask({"weight": kept}).on(layer))
        for _ in range(20):
            step(net, optim, x, y)
        ends.append((layer.weight[kept], layer.bias))
    assert torch.equal(ends[0][0], ends[1][0]) and torch.equal(ends[0][1], ends[1][1])


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_our_optimisers_on_a_spiking_network(kind: str) -> None:
    net = build("4C3-AP2-12FC", input_shape=(1, 8, 8), classes=3, steps=3)
    draws = torch.Generator().manual_seed(0)
    weights = {n: t.clone() for n, t in net.state_dict().items() if t.dim() > 1}
    mask = Mask({name: torch.rand(t.shape, generator=draws) < 0.2 for name, t in weights.items()})
    optim = held(optimiser(net, kind, 0.01, weight_decay=0.1), mask.on(net))
    for _ in range(10):
        x, y = torch.rand(8, 1, 8, 8, generator=draws), torch.randint(0, 3, (8,), generator=draws)
        optim.zero_grad()
        rate_cross_entropy(net(x), y, 1.0).backward()
        optim.step()
    after = net.state_dict()
    assert all(all_zero(after[name][~kept]) for name, kept in mask.kept.items())
    assert any((after[name] != weights[name])[kept].any() for name, kept in mask.kept.items())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), -0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_not_even_a_gradient_that_is_no_number_gets_through(bad: float, dtype: torch.dtype) -> None:
    weight = nn.Parameter(torch.ones(4, dtype=dtype))
    kept = torch.tensor([True, False, True, False])
    optim = held(torch.optim.SGD([weight], 0.1, momentum=0.9), {weight: kept})
    weight.grad = torch.tensor([1.0, bad, 1.0, bad], dtype=dtype)
    optim.step()
    assert all_zero(weight[~kept]) and all_zero(optim.state[weight]["momentum_buffer"][~kept])
    assert torch.equal(weight[kept], torch.full((2,), 0.9, dtype=dtype))


def test_another_mask_takes_the_place_of_the_first_and_can_be_taken_off() -> None:
    layer, kept, x, y = problem()
    optim = OPTIMISERS["adam"](layer.parameters())
    held(optim, Mask({"weight": kept}).on(layer))
    step(layer, optim, x, y)
    fewer = kept & (torch.arange(7) < 3)
    assert held(optim, Mask({"weight": fewer}).on(layer)) is optim
    assert all_zero(layer.weight[~fewer]) and all_zero(optim.state[layer.weight]["exp_avg"][~fewer])
    step(layer, optim, x, y)
    assert all_zero(layer.weight[~fewer])
    released(optim)
    step(layer, optim, x, y)
    assert (layer.weight != 0).all()


def test_an_optimiser_that_is_saved_and_held_again_goes_on_as_if_nothing_had_happened() -> None:
    layer, kept, x, y = problem()
    mask = Mask({"weight": kept})
    optim = held(OPTIMISERS["adam"](layer.parameters()), mask.on(layer))
    for _ in range(3):
        step(layer, optim, x, y)
    other = copy.deepcopy(layer)
    again = OPTIMISERS["adam"](other.parameters())
    again.load_state_dict(copy.deepcopy(optim.state_dict()))
    held(again, mask.on(other))
    for _ in range(3):
        step(layer, optim, x, y)
        step(other, again, x, y)
    assert torch.equal(layer.weight, other.weight)


def test_a_scalar_under_a_mask_and_an_empty_tensor() -> None:
    scale, none = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.zeros(0, 3))
    kept = {scale: torch.tensor(False), none: torch.ones(0, 3, dtype=torch.bool)}
    optim = held(torch.optim.Adam([scale, none]), kept)
    scale.grad, none.grad = torch.tensor(1.0), torch.zeros(0, 3)
    optim.step()
    optim.step()
    assert float(scale.detach()) == 0 and float(optim.state[scale]["step"]) == 2


def test_masks_as_values() -> None:
    tensors = {"w": torch.tensor([[1.0, 0.0], [-0.0, 2.0]]), "b": torch.tensor([3.0])}
    mask = Mask.of_nonzero(tensors)
    assert mask.kept["w"].tolist() == [[True, False], [False, True]] and density(mask) == 3 / 5
    assert density(Mask({})) == 1.0
    both = mask & Mask({"w": torch.tensor([[False, True], [True, True]])})
    assert both.kept["w"].tolist() == [[False, False], [False, True]] and both.kept["b"].tolist() == [True]
    applied = Mask({"w": torch.tensor([[False, True], [False, True]])}).applied(tensors)
    assert all_zero(applied["w"][:, 0]) and applied["b"] is tensors["b"]
    assert tensors["w"][0, 0] == 1.0  # not in place


def test_masks_that_do_not_fit_are_refused() -> None:
    layer = nn.Linear(3, 2)
    with pytest.raises(ConfigError, match="is torch.float32; give a bool tensor"):
        Mask({"weight": torch.ones(2, 3)})
    with pytest.raises(ConfigError, match="is list; give a bool tensor"):
        Mask({"weight": [True]})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="mask for 'weigth', which is no tensor"):
        Mask({"weigth": torch.ones(2, 3, dtype=torch.bool)}).on(layer)
    with pytest.raises(ConfigError, match=r"'weight' is \[3, 2\], the tensor \[2, 3\]"):
        Mask({"weight": torch.ones(3, 2, dtype=torch.bool)}).on(layer)


def test_the_examples_in_the_docstrings() -> None:
    found = doctest.testmod(masks)
    assert found.attempted > 5 and found.failed == 0
