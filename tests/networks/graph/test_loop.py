"""Loops on native kernels against the same loops step by step through autograd."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.networks.graph.by_steps import assert_equals_loop, settled

from spikefed.networks import SpikingNetwork, build, explain
from spikefed.networks.cells import CIFAR10, CIFAR100
from spikefed.networks.graph import loop
from spikefed.neurons import steps

pytestmark = pytest.mark.skipif(not steps.available(), reason="the native library was not built")
SIZES = "width=18,hidden=20,vote=1,pool=2,dropout=0"
POOLED = "0123-0040-3002-0110"


def network(cell: object, count: int = 4, norm: str = "bn-step", **more: object) -> SpikingNetwork:
    """With neurons that spike in every layer."""
    options = {"input_shape": (3, 8, 8), "classes": 4, "steps": count, "seed": 3, "norm": norm, **more}
    net = settled(build(f"cell:{cell}:{SIZES}", **options))
    with torch.no_grad():
        net.get_submodule("fc1").weight.mul_(15)
    if norm == "bntt":
        net.get_submodule("stem").norm = None  # before the neurons one step's statistics would be all steps'
    return net


def outcome(net: SpikingNetwork, native: bool, monkeypatch: pytest.MonkeyPatch, autocast: bool = False) -> list:
    """Outputs, gradients by name, buffers; how many loops ran natively."""
    calls: list[int] = []
    run = loop.run_loop
    with monkeypatch.context() as patch:
        patch.setattr(loop, "run_loop", lambda *a: calls.append(1) or run(*a))
        if not native:
            patch.setattr(loop, "takes", lambda *_: False)
        x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = net(x)
        out.float().square().sum().backward()
    grads = {name: p.grad for name, p in net.named_parameters()}
    return [out.detach().float(), {**grads, "image": x.grad}, dict(net.named_buffers()), len(calls)]


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("cell", [CIFAR10, CIFAR100, POOLED], ids=str)
@pytest.mark.parametrize(("norm", "training"), [("bn-step", True), ("bn-step", False), ("bntt", True)])
def test_a_loop_gives_what_its_steps_give(cell, training, count, norm, monkeypatch):
    net, calls, run = network(cell, count, readout="current", norm=norm).train(training), [], loop.run_loop
    monkeypatch.setattr(loop, "run_loop", lambda *a: calls.append(1) or run(*a))
    assert_equals_loop(net)
    assert len(calls) == 2  # in float32


def test_bfloat16_stays_as_near_to_float32_as_step_by_step(monkeypatch):
    net = network(CIFAR10, readout="current")
    exact = outcome(copy.deepcopy(net), True, monkeypatch)
    ours, theirs = (outcome(copy.deepcopy(net), native, monkeypatch, autocast=True) for native in (True, False))
    assert ours[3] == 2
    assert (ours[0] - exact[0]).norm() < 1.2 * (theirs[0] - exact[0]).norm()
    weight = "cell2.op12.weight"
    assert ours[1][weight].isfinite().all() and ours[1][weight].any()


def test_the_graph_can_be_gone_through_twice():
    net = network(CIFAR10)
    out = net(torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))).sum()
    first, second = (torch.autograd.grad(out, list(net.parameters()), retain_graph=True) for _ in range(2))
    assert all(map(torch.equal, first, second))


def test_whoever_looks_at_a_layer_of_the_loop_sees_every_step():
    net, seen = network(CIFAR10), []
    net.get_submodule("cell1.op01").register_forward_hook(lambda *_: seen.append(1))
    net(torch.rand(2, 3, 8, 8))
    assert len(seen) == net.steps
    assert any(path.layer == "cell1.op01" for path in explain(network(CIFAR10), torch.rand(2, 3, 8, 8)))


def test_other_precisions_and_other_kinds_of_nodes_run_step_by_step():
    net = network(CIFAR10)
    part = next(part for part in net.parts if part.stepwise)
    layers = {name: net.get_submodule(name) for name in part.nodes}
    assert loop.takes(part, layers, torch.rand(2, 18, 8, 8))
    assert not loop.takes(part, layers, torch.rand(2, 18, 8, 8).double())
    layers["cell1.op01"].double()
    assert not loop.takes(part, layers, torch.rand(2, 18, 8, 8))
