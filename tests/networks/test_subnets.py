"""Supernets and their parts: a masked supernet computes what the small network does, and names spell both."""

from __future__ import annotations

import pytest
import torch

from spikefed.errors import ConfigError
from spikefed.networks import (
    Choice,
    Space,
    ann_twin,
    build,
    copy_tensors,
    describe,
    load_tensors,
    put_back,
    slimmed,
    state_tensors,
    subnet,
)
from spikefed.networks.layers import PlannedLayer
from spikefed.objects import is_own
from spikefed.training import Mask

SHAPE = (1, 8, 8)
NAME = "supernet:12334-1334-124:width=8"
KINDS = {
    "bn": {"norm": "bn", "readout": "spike"},
    "tdbn": {"norm": "tdbn", "readout": "current"},
    "bntt": {"norm": "bntt", "readout": "current"},
    "max": {"pooling": "max", "readout": "spike"},
    "ann": {},
}


def made(kind: str, name: str = NAME, seed: int = 0):
    common = {"input_shape": SHAPE, "classes": 10, "seed": seed}
    return ann_twin(name, **common) if kind == "ann" else build(name, steps=3, **common, **KINDS[kind])


def drawn(space: Space, seed: int, channels: float = 0.7) -> Choice:
    g = torch.Generator().manual_seed(seed)
    while True:
        gates = (torch.rand(sum(space.blocks), generator=g) < 0.5).tolist()
        kept = (torch.rand(space.sizes.width, generator=g) < channels).tolist()
        starts = [sum(space.blocks[:b]) for b in range(len(space.blocks))]
        if any(kept) and all(any(gates[s : s + n]) for s, n in zip(starts, space.blocks, strict=True)):
            return Choice(tuple(gates), tuple(kept))


def trained(kind: str, seed: int = 0):
    """A network whose norms have seen something and whose affine maps are not the identity."""
    net = made(kind, seed=seed)
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, PlannedLayer) and module.norm is not None:
                module.norm.weight.uniform_(0.5, 1.5, generator=g)
                if module.norm.bias is not None:
                    module.norm.bias.uniform_(-0.3, 0.3, generator=g)
        net.train()
        net(torch.rand(16, *SHAPE, generator=g))
    return net


@pytest.mark.parametrize("kind", KINDS)
def test_a_masked_supernet_computes_what_the_small_network_does(kind):
    for seed in range(3):
        net = trained(kind, seed)
        space = Space.of(net)
        choice = drawn(space, seed)
        small = subnet(net, choice)
        masked = made(kind)
        load_tensors(masked, Mask(space.kept(state_tensors(net), choice)).applied(copy_tensors(net)))
        x = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(seed))
        for training in (False, True):
            ends = []
            for each in (small, masked):
                each.train(training)
                y = each(x)
                y.square().sum().backward()
                ends.append((y, each.stem.weight.grad))
            assert torch.allclose(ends[0][0], ends[1][0], atol=1e-5), (kind, seed, training)
            kept = torch.tensor(choice.channels)
            assert torch.allclose(ends[0][1], ends[1][1][kept], atol=1e-4)
        assert ends[0][0].abs().sum() > 0


@pytest.mark.parametrize("kind", ["bn", "bntt", "ann"])
def test_cut_out_and_put_back_is_the_identity_and_touches_nothing_else(kind):
    net = trained(kind)
    space = Space.of(net)
    choice = drawn(space, 5)
    before = copy_tensors(net)
    small = subnet(net, choice)
    put_back(net, small, choice)
    assert all(torch.equal(t, before[n]) for n, t in copy_tensors(net).items())
    with torch.no_grad():
        for tensor in state_tensors(small).values():
            tensor.add_(1)
    put_back(net, small, choice)
    kept = space.kept(before, choice)
    for name, tensor in copy_tensors(net).items():
        assert torch.equal(tensor, torch.where(kept[name], before[name] + 1, before[name])), name
    assert sum(int(mask.sum()) for mask in kept.values()) == sum(t.numel() for t in state_tensors(small).values())


def test_a_choice_is_found_in_its_masks_and_in_the_zeros_of_a_network():
    net = trained("bn")
    space = Space.of(net)
    for seed in range(10):
        choice = drawn(space, seed)
        kept = space.kept(state_tensors(net), choice)
        assert space.choice(kept) == choice
        again = made("bn")
        load_tensors(again, Mask(kept).applied(copy_tensors(net)))
        assert slimmed(again).name == space.name(choice)
    assert subnet(net, space.everything) is net


def test_the_small_network_is_one_that_its_name_builds():
    net = trained("bn")
    choice = drawn(Space.of(net), 3)
    small = subnet(net, choice)
    built = build(small.name, input_shape=SHAPE, classes=10, steps=3)
    load_tensors(built, copy_tensors(small))
    x = torch.rand(8, *SHAPE)
    assert torch.equal(built.eval()(x), small.eval()(x))
    assert describe(built).parameters == describe(small).parameters


def test_a_quarter_of_the_channels_less_is_a_third_of_the_parameters_less():
    net = made("bn", "supernet:12334-12334-12334:width=16")
    whole = describe(net).parameters
    choice = Choice((True,) * 15, tuple(c % 4 != 3 for c in range(16)))
    assert describe(subnet(net, choice)).parameters <= 0.7 * whole


def test_names_are_no_modules_of_the_user():
    assert not is_own("supernet:12334-12334") and not is_own("supernet:123") and is_own("supernet:Net")


def test_what_a_newcomer_would_type_wrong():
    for name, why in (
        ("supernet:12334-000", "block 2 of network.name 'supernet:12334-000' has no branch"),
        ("supernet:12334-", "block 2 of network.name"),
        ("supernet:129", "'9' in network.name 'supernet:129' stands for no operation; use 0 none, 1 skip"),
        ("supernet:12:size=3", "'size' in network.name 'supernet:12:size=3' is not known; use width, stem"),
        ("supernet:12:width=x", "needs a whole number, as in width=2"),
        ("supernet:12:width=0", "'width' = 0 of a supernet is out of range"),
    ):
        with pytest.raises(ConfigError, match=why):
            build(name, input_shape=SHAPE, classes=10, steps=2)
    with pytest.raises(ConfigError, match=r"set network.pooling = 'average' or 'max'"):
        build(NAME, input_shape=SHAPE, classes=10, steps=2, pooling="stride")


def test_what_has_no_subnets_says_so():
    for name, settings, why in (
        ("small", {}, "network 'small' has no branches to choose from; set network.name"),
        ("supernet:102-12", {}, "leaves branches out already"),
        ("supernet:12-12", {"norm": "none"}, "set network.norm = 'bn'"),
    ):
        with pytest.raises(ConfigError, match=why):
            Space.of(build(name, input_shape=SHAPE, classes=10, steps=2, **settings))
    net = made("bn")
    everything = Space.of(net).everything
    for choice, why in (
        (Choice((False,) * 12, everything.channels), "block 1 has no branch left"),
        (Choice(everything.gates, (False,) * 8), "no channel is left"),
        (Choice((True,) * 3, everything.channels), "a choice of 3 branches and 8 channels does not fit"),
    ):
        with pytest.raises(ConfigError, match=why):
            subnet(net, choice)
