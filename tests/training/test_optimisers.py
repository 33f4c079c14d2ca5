"""The native optimisers against torch's own: the same steps, the same state, the same hooks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from spikefed.errors import ConfigError
from spikefed.neurons import dense_library
from spikefed.training import optimiser, optimisers

pytestmark = pytest.mark.skipif(dense_library() is None, reason="no native kernels on this processor")
CASES: list[tuple[Any, Any, dict[str, float]]] = [
    (optimisers.Adam, torch.optim.Adam, {"lr": 3e-3}),
    (optimisers.Adam, torch.optim.Adam, {"lr": 3e-3, "weight_decay": 0.1}),
    (optimisers.AdamW, torch.optim.AdamW, {"lr": 3e-3, "weight_decay": 0.1}),
    (optimisers.SGD, torch.optim.SGD, {"lr": 0.1}),
    (optimisers.SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(37, 19), nn.Linear(19, 3, bias=False))


def trained(kind: Any, options: dict[str, float], steps: int = 6) -> tuple[list[torch.Tensor], Any]:
    net = network()
    optim = kind(net.parameters(), **options)
    for step in range(steps):
        optim.zero_grad()
        draw = torch.Generator().manual_seed(step)
        net(torch.randn(8, 37, generator=draw)).square().sum().backward()
        optim.step()
    return [p.detach() for p in net.parameters()], optim


@pytest.mark.parametrize(("ours", "theirs", "options"), CASES)
def test_steps_and_state_are_torchs(ours, theirs, options) -> None:
    (got, optim), (wanted, other) = trained(ours, options), trained(theirs, options)
    exact = ours is optimisers.SGD
    for a, b in zip(got, wanted, strict=True):
        assert torch.equal(a, b) if exact else torch.allclose(a, b, rtol=1e-5, atol=1e-7)
    state, expected = optim.state_dict()["state"], other.state_dict()["state"]
    assert state.keys() == expected.keys()
    for i in state:
        for key in (key for key, value in expected[i].items() if value is not None):
            torch.testing.assert_close(state[i][key], expected[i][key], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("ours", "theirs", "options"), CASES)
def test_a_state_loaded_goes_on_to_the_bit(ours, theirs, options) -> None:
    whole, _ = trained(ours, options, steps=4)
    net = network()
    first = ours(net.parameters(), **options)
    for step in range(4):
        if step == 2:
            again = ours(net.parameters(), **options)
            again.load_state_dict(first.state_dict())
            first = again
        first.zero_grad()
        net(torch.randn(8, 37, generator=torch.Generator().manual_seed(step))).square().sum().backward()
        first.step()
    assert all(map(torch.equal, whole, net.parameters()))


def test_parameters_without_a_gradient_stay_and_others_move() -> None:
    net = network()
    before = [p.detach().clone() for p in net.parameters()]
    optim = optimiser(net, "adam", 0.1)
    net[1].weight.grad = torch.ones_like(net[1].weight).t().contiguous().t()  # another memory layout too
    optim.step()
    after = list(net.parameters())
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])
    torch.testing.assert_close(after[2].detach(), before[2] - 0.1)


def test_hooks_and_closures_are_called_once() -> None:
    net, calls = network(), []
    optim = optimiser(net, "sgd", 0.1)
    optim.register_step_pre_hook(lambda *_: calls.append("before"))
    optim.register_step_post_hook(lambda *_: calls.append("after"))
    assert optim.step(lambda: calls.append("closure") or torch.tensor(2.0)) == 2.0
    assert calls == ["before", "closure", "after"]


def test_a_graph_from_before_the_step_is_refused() -> None:
    net = network()
    loss = net(torch.randn(4, 37)).square().sum()
    loss.backward(retain_graph=True)
    optimiser(net, "sgd", 0.1).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_other_tensors_take_torchs_own_and_other_names_are_refused() -> None:
    assert type(optimiser(network().double(), "adam", 0.1)) is torch.optim.Adam
    assert type(optimiser(network(), "adamw", 0.1)) is optimisers.AdamW
    with pytest.raises(ConfigError, match="optimiser 'lion' is not known; use adam, adamw or sgd"):
        optimiser(network(), "lion", 0.1)


@pytest.mark.parametrize("kind", [optimisers.Adam, optimisers.SGD])
def test_gradients_are_dropped_or_set_to_zero_as_torch_does(kind) -> None:
    net = network()
    optim = kind(net.parameters(), lr=0.1)
    net(torch.ones(2, 37)).sum().backward()
    optim.zero_grad(set_to_none=False)
    assert all(p.grad is not None and not p.grad.any() for p in net.parameters())
    optim.zero_grad()
    assert all(p.grad is None for p in net.parameters())
