"""Adapters: they begin as nothing, learn through the fused kernels what the eager loop learns, and freeze the rest."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikefed import networks
from spikefed.errors import ConfigError
from spikefed.networks.roles import FROZEN, task
from spikefed.neurons import LIFParameters
from spikefed.neurons.functional import spike
from spikefed.neurons.surrogates import surrogate

KINDS: dict[str, list[networks.Adapter]] = {
    "thresholds": ["thresholds"],
    "bn": ["bn"],
    "head": ["head"],
    "low-rank": ["low-rank"],
    "all": ["thresholds", "bn", "head", "low-rank"],
}


def net_of(name: str = "8C3-AP2-16FC", norm: str = "bn", **changes: Any) -> nn.Module:
    net = networks.build(name, input_shape=(1, 8, 8), classes=4, steps=4, norm=norm, seed=1, **changes)
    net.train()
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for _ in range(3):  # running statistics that are no longer the first ones
            net(torch.rand(16, 1, 8, 8, generator=draws))
    return net.eval()


def images(count: int = 6) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("norm", ["bn", "tdbn", "bntt", "bn-step"])
@pytest.mark.parametrize("kinds", KINDS)
def test_parts_begin_as_they_change_nothing_to_the_bit(norm: str, kinds: str) -> None:
    net = net_of(norm=norm)
    before = net(images())
    twin = networks.adapt(copy.deepcopy(net), KINDS[kinds], tasks=2)
    for number in (0, 1):
        networks.select_task(twin, number)
        assert torch.equal(twin(images()), before)


@pytest.mark.parametrize("norm", ["none", "bn"])
def test_a_parent_that_learnt_its_own_thresholds_keeps_them(norm: str) -> None:
    net = networks.learn_thresholds(net_of(norm=norm), "channel")
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "log_threshold" in name:
                parameter.uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(len(name)))
    before = net(images())
    assert torch.equal(networks.adapt(net, ["thresholds", "head"])(images()), before)
    assert set(networks.roles(net).values()) == {FROZEN, task(0)}


def eager(x: Tensor, theta: Tensor, p: LIFParameters) -> Tensor:
    """LIF over ``[T, B, C]`` with a threshold a channel, step by step, thresholds where the equations have them."""
    v = torch.zeros_like(x[0])
    spikes = []
    for current in x:
        u = p.decay * v + current
        if p.kind == "soft":
            o = spike(u / theta - 1, p)
            v = u - theta * (o.detach() if p.detach_reset else o)
        else:
            o = spike((u - theta) * (p.v_threshold / theta), p)
            v = u * (1 - (o.detach() if p.detach_reset else o))
        spikes.append(o)
    return torch.stack(spikes)


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("shape", ["rectangle:width=1.0", "triangle", "atan"])
@pytest.mark.parametrize("detach", [False, True])
def test_thresholds_learn_through_the_fused_kernels_what_the_eager_loop_learns(
    kind: Any, shape: str, detach: bool
) -> None:
    neuron = LIFParameters(
        kind=kind, decay=0.5, v_threshold=0.5, strict=True, surrogate=surrogate(shape), detach_reset=detach
    )
    net = networks.build("6FC-5FC", input_shape=(1, 8, 8), classes=4, steps=4, norm="none", neuron=neuron, seed=1)
    networks.adapt(net, ["thresholds"])
    layer: Any = net.layers[0]  # type: ignore[union-attr]
    rho = layer.parts[0].log_threshold
    with torch.no_grad():
        rho.copy_(torch.linspace(-0.5, 0.5, len(rho)))
    x = images(5).flatten(1) * 3
    weights = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(6))
    fused = layer(x, 4, repeat=True).unflatten(0, (4, -1))
    (fused * weights).sum().backward()
    theta = (neuron.v_threshold * torch.exp(rho.detach())).requires_grad_(True)
    currents = (x @ layer.weight.t() + (0 if layer.bias is None else layer.bias)).detach()
    plain = eager(currents.expand(4, -1, -1), theta, neuron)
    (plain * weights).sum().backward()
    assert torch.equal(fused, plain) and 0 < float(fused.detach().mean()) < 1
    assert theta.grad is not None and float(theta.grad.abs().sum()) > 0
    # dL/drho = dL/dtheta * theta
    torch.testing.assert_close(rho.grad, theta.grad * theta.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("per", ["layer", "channel", "neuron"])
def test_one_threshold_a_layer_channel_or_neuron_is_counted_so(per: networks.Per) -> None:
    net = networks.adapt(net_of("4C3-AP2"), ["thresholds"], tasks=3, per=per)
    rows = {row.kind: row for row in networks.adapter_rows(net)}
    # a map of 4 x 8 x 8 neurons, and 4 outputs
    assert rows["thresholds"].values == {"layer": 2, "channel": 4 + 4, "neuron": 4 * 64 + 4}[per]
    assert rows["thresholds"].bytes == 4 * rows["thresholds"].values
    assert sum(row.values for row in rows.values()) < sum(t.numel() for t in networks.state_tensors(net).values())


def test_roles_are_frozen_or_of_a_task() -> None:
    net = networks.adapt(net_of(), KINDS["all"], tasks=2)
    found = networks.roles(net)
    kinds = networks.kinds_of(net)
    assert set(found.values()) == {FROZEN, task(0), task(1)}
    assert {name for name, role in found.items() if role != FROZEN} == set(kinds)
    assert networks.tasks_of(net) == 2


@pytest.mark.parametrize("kinds", KINDS)
def test_training_one_task_leaves_the_frozen_and_the_other_task_to_the_bit(kinds: str) -> None:
    net = networks.adapt(net_of(), KINDS[kinds], tasks=2, outputs=[[0, 1], [2, 3]])
    networks.select_task(net, 1)
    before = networks.copy_tensors(net)
    optim = torch.optim.AdamW(net.parameters(), lr=0.05, weight_decay=0.1)
    net.train()
    for _ in range(3):
        optim.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(net(images()).mean(dim=0), torch.tensor([2, 3, 2, 3, 2, 3]))
        loss.backward()
        optim.step()
    after = networks.copy_tensors(net)
    found = networks.roles(net)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed and {found[name] for name in changed} == {task(1)}
    networks.check_frozen(net, after, before)
    stray = {**after, "conv1.running_mean": after["conv1.weight"]}
    name = next(n for n, role in found.items() if role == FROZEN)
    stray[name] = stray[name] + 1
    with pytest.raises(ConfigError, match="frozen tensor .* has changed in training"):
        networks.check_frozen(net, stray, before)


def test_a_tasks_head_has_its_own_outputs_and_no_others() -> None:
    net = networks.adapt(net_of(), ["head"], tasks=2, outputs=[[0, 3], [1, 2]])
    part: Any = net.layers[-1].parts[1]  # type: ignore[union-attr]
    assert part.head_weight.shape[0] == 2
    with torch.no_grad():
        part.head_weight.fill_(1.0)
    networks.select_task(net, 0)
    first = net(images())
    with torch.no_grad():
        part.head_weight.fill_(-1.0)
    assert torch.equal(net(images()), first)  # of another task


def test_what_cannot_be_adapted_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="no kind of adapter is named"):
        networks.adapt(net_of(), [])
    with pytest.raises(ConfigError, match="has no normalisation to adapt"):
        networks.adapt(net_of(norm="none"), ["bn"])
    with pytest.raises(ConfigError, match="not for Linear"):
        networks.adapt(nn.Linear(2, 2), ["head"])
    net = networks.adapt(net_of(), ["head"], tasks=2)
    with pytest.raises(ConfigError, match="parts for tasks 0 to 1, not for task 2"):
        networks.select_task(net, 2)


@pytest.mark.parametrize("name", ["resnet19"])
def test_networks_that_branch_are_adapted_too(name: str) -> None:
    net = networks.build(name, input_shape=(3, 8, 8), classes=4, steps=2, seed=1).eval()
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    before = net(x)
    networks.adapt(net, ["thresholds", "head"])
    assert torch.equal(net(x), before)
    net(x).sum().backward()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)
