"""NetTailor's proxies: soft choices, expected complexity against all subsets, and students without what was dropped."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikefed import networks
from spikefed.errors import ConfigError
from spikefed.networks.proxies import DROPPED, Proxies
from spikefed.networks.roles import FROZEN, task

FOUR_BLOCKS = "4C3-AP2-6C3-6C3-AP2-5C3-5C3"


def tailored(layout: str = FOUR_BLOCKS, *, ann: bool = False, tasks: int = 1, **changes: Any) -> nn.Module:
    shape: dict[str, Any] = {"input_shape": (1, 12, 12), "classes": 4, "seed": 1, "norm": "bn"}
    net = networks.ann_twin(layout, **shape) if ann else networks.build(layout, steps=4, **shape)
    net.train()
    with torch.no_grad():
        net(torch.rand(16, 1, 12, 12, generator=torch.Generator().manual_seed(3)))
    networks.adapt(net.eval(), ["proxy1x1", "head"], tasks=tasks, **changes)
    for number in range(tasks):
        networks.select_task(net, number)
        for own in blocks(net):
            drawn = torch.Generator().manual_seed(own.place)
            with torch.no_grad():
                own.choice.normal_(0, 1, generator=drawn)
    networks.select_task(net, 0)
    return net


def blocks(net: nn.Module) -> list[Proxies]:
    return [m for m in net.modules() if isinstance(m, Proxies) and m.number == 0]


def images(count: int = 5) -> Tensor:
    return torch.rand(count, 1, 12, 12, generator=torch.Generator().manual_seed(4))


def test_soft_choices_sum_to_one_and_begin_with_the_frozen_block() -> None:
    net = networks.build(FOUR_BLOCKS, input_shape=(1, 12, 12), classes=4, steps=2, norm="bn", seed=1)
    networks.adapt(net, ["proxy1x1"])
    found = blocks(net)
    assert [len(own.choice) for own in found] == [2, 3, 4, 4]  # x_0 is the first layer; three blocks back at most
    for own in found:
        alphas = own.alphas().detach()
        torch.testing.assert_close(alphas.sum(), torch.ones(()))
        assert bool((alphas > 0).all()) and float(alphas[0]) > 0.9
        with torch.no_grad():
            own.choice[1:] = DROPPED
        assert own.alphas().tolist() == [1.0] + [0.0] * (len(alphas) - 1)


def enumerated(choices: list[networks.Way]) -> float:
    """Mean cost over all subsets of the choices of what lies on a way from node 0 to the last."""
    last = max(way.target for way in choices)
    mean = 0.0
    for there in product((False, True), repeat=len(choices)):
        chance = 1.0
        for way, stays in zip(choices, there, strict=True):
            chance *= way.alpha.item() if stays else 1 - way.alpha.item()
        present = [way for way, stays in zip(choices, there, strict=True) if stays]
        begun = {0}
        for way in sorted(present, key=lambda w: w.source):
            begun |= {way.target} if way.source in begun else set()
        ending = {last}
        for way in sorted(present, key=lambda w: -w.target):
            ending |= {way.source} if way.target in ending else set()
        mean += chance * sum(way.share for way in present if way.source in begun and way.target in ending)
    return mean


def test_expected_complexity_is_the_mean_over_all_subsets_on_four_blocks() -> None:
    net = tailored(skips=2)
    choices = networks.ways(net)
    assert len(choices) == 2 + 3 + 3 + 3
    found = networks.expected_complexity(choices)
    assert found.item() == pytest.approx(enumerated(choices), abs=1e-6)
    gradients = torch.autograd.grad(found, [own.choice for own in blocks(net)])
    assert all(float(g.abs().sum()) > 0 for g in gradients)
    paper = networks.expected_complexity(choices, paper=True)
    assert paper.item() < found.item()  # what is lost twice is taken off twice


def test_of_a_network_that_keeps_all_frozen_blocks_the_complexity_is_one() -> None:
    net = tailored()
    for own in blocks(net):
        with torch.no_grad():
            own.choice.fill_(DROPPED)
            own.choice[0] = 0.0
    assert networks.expected_complexity(networks.ways(net)).item() == pytest.approx(1.0)


@pytest.mark.parametrize("ann", [False, True])
@pytest.mark.parametrize("blocks_gone", [0, 2, 4])
def test_the_pruned_student_is_the_whole_one_with_those_alphas_at_zero(
    ann: bool, blocks_gone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = tailored(ann=ann)
    tensors = networks.copy_tensors(net)
    choices = {name: t for name, t in tensors.items() if name.endswith("choice")}
    left = networks.dropped(choices, below=0.2, blocks=blocks_gone)
    assert sum(int((t == DROPPED).sum()) for t in left.values()) > blocks_gone
    assert [bool(t[0] == DROPPED) for t in left.values()].count(True) == blocks_gone
    assert all(bool((t != DROPPED).any()) for t in left.values())
    networks.load_tensors(net, tensors | left)
    calls: list[Any] = []
    hooks = [m.register_forward_hook(lambda *_: calls.append(1)) for m in net.modules() if type(m).__name__ == "Proxy"]
    pruned = net(images())
    after = len(calls)
    monkeypatch.setattr(Proxies, "kept", lambda self: [True] * len(self.choice))  # nothing is left out
    whole = net(images())
    assert len(calls) - after == len(hooks) > after
    assert torch.equal(pruned, whole) and bool(pruned.any())


def test_sizes_count_what_is_left() -> None:
    net = tailored()
    before = networks.task_size(net)
    states = networks.state_tensors(net)
    head = 4 * 5 * 9
    assert before.numbers == sum(t.numel() for t in states.values()) - head  # the head of the task is in its place
    choices = {name: t for name, t in states.items() if name.endswith("choice")}
    networks.load_tensors(net, networks.copy_tensors(net) | networks.dropped(choices, below=0.2, blocks=3))
    after = networks.task_size(net)
    assert after.numbers < before.numbers and after.frozen < before.frozen and after.macs < before.macs
    gone = [own for own in blocks(net) if not own.kept()[0]]
    weights = sum(own.plan.in_shape[0] * own.plan.map_shape[0] * 9 for own in gone)
    assert before.frozen - after.frozen >= weights


@pytest.mark.parametrize("layout", ["4C3-AP2-6C3-AP2-6C3-AP2", "4C3-6C5-AP2"])
@pytest.mark.parametrize("norm", ["none", "bn", "tdbn", "bntt", "bn-step"])
def test_maps_of_odd_sizes_and_every_norm_go_through(layout: str, norm: str) -> None:
    net = networks.build(layout, input_shape=(2, 9, 13), classes=3, steps=2, norm=norm, seed=1)
    networks.adapt(net, ["proxy1x1", "thresholds"], tasks=2)
    net.train()
    networks.select_task(net, 1)
    out = net(torch.rand(4, 2, 9, 13, generator=torch.Generator().manual_seed(1)))
    out.sum().backward()
    found = networks.roles(net)
    assert set(found.values()) == {FROZEN, task(0), task(1)}
    learned = {n for n, p in net.named_parameters() if p.grad is not None}
    assert learned and all(found[name] == task(1) for name in learned)


def test_networks_without_blocks_in_a_row_are_one_sentence() -> None:
    flat = networks.build("8C3-AP2-8FC", input_shape=(1, 8, 8), classes=4, steps=2, seed=1)
    with pytest.raises(ConfigError, match="fewer than two convolutions with neurons"):
        networks.adapt(flat, ["proxy1x1"])
    branched = networks.build("resnet19", input_shape=(3, 8, 8), classes=4, steps=2, seed=1)
    with pytest.raises(ConfigError, match="network resnet19 branches; take one in a row"):
        networks.adapt(branched, ["proxy1x1"])
