"""Sizes that the papers imply, and errors for networks that cannot be built."""

from __future__ import annotations

import pytest
import torch

from spikefed.errors import ConfigError
from spikefed.networks import ann_twin, build, networks, roles, state_bytes
from spikefed.networks.layout import parse_layout
from spikefed.neurons import LIFParameters

CIFAR, GREY = (3, 32, 32), (1, 28, 28)
NAMES = [info.name for info in networks() if not info.ann and info.name not in ("conv-1d", "resnet-1d")]
"""Of networks for pictures; those for series stand in test_line.py."""


def count(net: torch.nn.Module, role: str) -> int:
    role_of = roles(net)
    return sum(t.numel() for name, t in net.state_dict().items() if role_of[name] == role)


@pytest.mark.parametrize(("shape", "weights"), [(CIFAR, 45_003_018), (GREY, 37_136_394)])
def test_cifarnet_has_the_weights_that_fsd_table_1_implies(shape, weights):
    net = build("cifarnet", input_shape=shape, classes=10, steps=8)
    assert count(net, "weight") == weights
    assert state_bytes(net) == 4 * weights


@pytest.mark.parametrize(("shape", "weights", "state"), [(CIFAR, 5_938_880, 23_964_928), (GREY, 4_102_720, 16_620_288)])
def test_vgg9_has_the_weights_scales_and_bytes_that_fsd_table_2_implies(shape, weights, state):
    net = build("vgg9-bntt", input_shape=shape, classes=10, steps=8)
    assert count(net, "weight") == weights
    assert count(net, "bn_affine") == 17_408
    assert state_bytes(net) == state
    assert state_bytes(net, "weight", "bn_affine") == 4 * (weights + 17_408)


def test_vgg9_with_100_classes_has_the_weights_of_the_v_snn_paper():
    assert count(build("vgg9-bntt", input_shape=CIFAR, classes=100, steps=2), "weight") == 6_031_040


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16), GREY, CIFAR, (3, 29, 29), (3, 64, 64)])
def test_small_stays_under_300_k_weights(shape):
    for classes in (10, 100):
        assert count(build("small", input_shape=shape, classes=classes, steps=8), "weight") < 300_000


def test_the_ann_twin_has_the_same_weights_under_the_same_names():
    for name in ("vgg9-bntt", "small"):
        net = build(name, input_shape=GREY, classes=10, steps=4, seed=3)
        twin = ann_twin(name, input_shape=GREY, classes=10, seed=3)
        other = twin.state_dict()
        for tensor, role in roles(net).items():
            if role == "weight" and tensor in other:
                assert torch.equal(net.state_dict()[tensor], other[tensor])
        assert count(net, "weight") == count(twin, "weight") - (0 if name == "vgg9-bntt" else twin_readout_bias(net))
        assert twin(torch.rand(2, *GREY)).shape == (1, 2, 10)


def test_the_labs_ann_has_the_parameters_of_the_public_code():
    net = ann_twin("vgg9-lab-ann", input_shape=CIFAR, classes=10)
    assert count(net, "weight") + count(net, "bn_affine") == 22_749_120
    assert [layer.plan.out_shape for layer in net.layers[:7]] == [
        (64, 16, 16), (64, 16, 16), (128, 8, 8), (128, 8, 8), (256, 4, 4), (256, 2, 2), (256, 2, 2),
    ]  # fmt: skip
    # Dropout stands where no pool follows: the public code lets a pool take its place.
    assert [layer.dropout for layer in net.layers] == [0, 0.3, 0, 0.3, 0, 0, 0.3, 0.5, 0.5, 0]
    deviations = [layer.weight.std().item() for layer in net.layers]
    assert deviations[1] == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.03)
    assert deviations[7:9] == pytest.approx([0.01, 0.01], rel=0.01)
    with pytest.raises(ConfigError, match="network.twin = 'ann'"):
        build("vgg9-lab-ann", input_shape=CIFAR, classes=10, steps=4)


def test_dropout_draws_from_the_generator_keeps_the_mean_and_rests_in_eval_mode():
    net = ann_twin("vgg9-lab-ann", input_shape=(1, 16, 16), classes=4)
    hidden = net.layers[7]  # 256 to 4096, dropout 0.5
    x = torch.rand(8, 256, 1, 1)
    hidden.eval()
    clean = hidden(x)
    hidden.train()
    one, two, other = (hidden(x, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)
    kept = one != 0
    assert torch.allclose(one[kept], 2 * clean[kept])
    fraction = kept.sum() / (clean != 0).sum()
    assert abs(fraction.item() - 0.5) < 4 * 0.5 / int((clean != 0).sum()) ** 0.5
    assert torch.equal(net.eval()(x := torch.rand(2, 1, 16, 16)), net(x))


def twin_readout_bias(net: torch.nn.Module) -> int:
    """The logits keep a bias where the spiking readout has a norm with a shift instead."""
    return 10 if net.layers[-1].bias is None else 0


@pytest.mark.parametrize("norm", ["none", "bn", "tdbn", "bntt"])
@pytest.mark.parametrize("readout", ["spike", "current"])
def test_every_norm_and_readout_builds_and_has_its_output_shape(norm, readout):
    net = build("small", input_shape=(2, 9, 11), classes=7, steps=3, norm=norm, readout=readout)
    out = net(torch.rand(5, 2, 9, 11), generator=torch.Generator().manual_seed(0))
    assert out.shape == (3, 5, 7)
    assert net.readout == readout
    assert (readout == "spike") == bool(((out == 0) | (out == 1)).all())


def test_readout_spikes_have_a_gradient_and_currents_are_not_rounded():
    net = build("small", input_shape=(1, 8, 8), classes=10, steps=4, readout="current")
    out = net(torch.rand(8, 1, 8, 8))
    assert out.unique().numel() > 2 and out.requires_grad


def test_same_seed_same_weights_and_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    first = build("small", input_shape=GREY, classes=10, steps=8, seed=5).state_dict()
    torch.manual_seed(99)
    second = build(
        "small", input_shape=GREY, classes=10, steps=8, generator=torch.Generator().manual_seed(5)
    ).state_dict()
    other = build("small", input_shape=GREY, classes=10, steps=8, seed=6).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    torch.set_rng_state(state)
    build("vgg9-bntt", input_shape=(1, 8, 8), classes=10, steps=2)
    ann_twin("small", input_shape=GREY, classes=10)
    assert torch.equal(torch.get_rng_state(), state)


def test_initial_weights_have_the_spread_their_sources_state():
    vgg = build("vgg9-bntt", input_shape=(1, 8, 8), classes=10, steps=2)
    bound = 2 * (6 / (9 * 128 + 9 * 128)) ** 0.5  # Xavier uniform, gain 2, conv4: 128 to 128 channels
    weight = vgg.layers[3].weight
    assert 0.98 * bound < weight.abs().max().item() <= bound
    assert weight.mean().abs().item() < 0.01 * bound
    cifarnet = build("cifarnet", input_shape=(1, 4, 4), classes=10, steps=2)
    bound = (9 * 128) ** -0.5
    assert 0.98 * bound < cifarnet.layers[1].weight.abs().max().item() <= bound
    assert cifarnet.layers[1].bias.abs().max().item() > 0.9 * bound


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "cifar-net"}, "did you mean 'cifarnet'"),
        ({"name": "8C3-QQ"}, "'QQ' in layout"),
        ({"name": "AP2"}, "not known"),
        ({"name": "8C3-4FC-AP2"}, "must follow a convolution"),
        ({"name": "4FC-8C3"}, "come before FC"),
        ({"name": "8C4"}, "odd width"),
        ({"norm": "batch"}, "network.norm 'batch'"),
        ({"coding": "rate"}, "unknown input coding"),
        ({"readout": "vote"}, "network.readout 'vote'"),
        ({"steps": 0}, "at least 1 time step"),
        ({"classes": 1}, "at least 2 classes"),
        ({"input_shape": (28, 28)}, "channels x height x width"),
        ({"name": "vgg9-bntt", "input_shape": (3, 7, 32)}, "at least 3x8x8"),
        ({"name": "cifarnet", "input_shape": (1, 3, 3)}, "at least 1x4x4"),
        ({"name": "8C3-AP2", "input_shape": (1, 1, 1)}, "at least 1x2x2"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_sentence(arguments, message):
    settings = {"name": "small", "input_shape": (1, 8, 8), "classes": 10, "steps": 8} | arguments
    with pytest.raises(ConfigError, match=message):
        build(**settings)


@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_input_that_errors_name_does_build(name):
    sides = [side for side in range(1, 10) if _builds(name, side)]
    assert sides == list(range(sides[0], 10))
    if sides[0] == 1:  # any image will do
        return
    with pytest.raises(ConfigError, match=f"at least 1x{sides[0]}x{sides[0]}"):
        build(name, input_shape=(1, sides[0] - 1, sides[0] - 1), classes=2, steps=1)


def _builds(name: str, side: int) -> bool:
    try:
        build(name, input_shape=(1, side, side), classes=2, steps=1)
    except ConfigError:
        return False
    return True


def test_layouts_size_their_layers():
    plans = parse_layout("8C3-AP2-16C5-AP-32FC", (3, 13, 10), 4)
    assert [(p.name, p.in_shape, p.out_shape) for p in plans] == [
        ("conv1", (3, 13, 10), (8, 6, 5)),
        ("conv2", (8, 6, 5), (16, 3, 2)),
        ("fc1", (16, 3, 2), (32,)),
        ("fc2", (32,), (4,)),
    ]
    assert [p.macs for p in plans] == [8 * 130 * 27, 16 * 30 * 200, 96 * 32, 128]


def test_a_neuron_given_by_the_user_reaches_every_layer():
    neuron = LIFParameters(kind="soft", decay=0.7, v_threshold=0.5)
    net = build("4C3-8FC", input_shape=(1, 6, 6), classes=3, steps=2, neuron=neuron)
    assert {layer.neuron for layer in net.layers} == {neuron}
