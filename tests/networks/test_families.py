"""VGGs and residual networks: the sizes that their papers imply, and plain loops over time on the same weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tests.networks.graph.by_steps import assert_equals_loop, by_layers, by_steps, fired, settled
from torch import Tensor

from spikefed.errors import ConfigError
from spikefed.networks import GraphNetwork, ann_twin, build, describe, network_info, roles, state_bytes

CIFAR, GREY, DIGITS = (3, 32, 32), (1, 28, 28), (1, 8, 8)
SMALL = ("vgg-small", "resnet-small")
LARGE = ("vgg5", "vgg11", "vgg16", "resnet19", "resnet19-wide")


def count(net: torch.nn.Module, *, kind: str = "") -> int:
    """Weights and biases; of convolutions (4 axes), linear layers (2) or biases (1) alone."""
    axes = {"conv": 4, "linear": 2, "bias": 1}.get(kind)
    role_of = roles(net)
    tensors = (t for name, t in net.state_dict().items() if role_of[name] == "weight")
    return sum(t.numel() for t in tensors if axes in (None, t.dim()))


@pytest.mark.parametrize(
    ("name", "conv", "linear", "bias", "channels"),
    [
        ("vgg5", 222_912, 8_398_848, 0, 0),  # 8,621,760 [spec 1, 7.2]
        ("vgg11", 9_217_728, 2_138_112, 0, 0),
        ("vgg16", 14_710_464, 5_120, 4_224 + 10, 4_224),  # 14.7 M convolution weights
        ("resnet19", 12_486_336, 133_632, 256 + 10, 5_312),  # 12.6 M
        ("resnet19-wide", 26_086_784, 5_120, 10, 8_064),  # 26.1 M
    ],
)
def test_weights_and_bytes_are_those_of_the_papers(name, conv, linear, bias, channels):
    net = build(name, input_shape=CIFAR, classes=10, steps=5, readout="current", norm="bn" if channels else "none")
    assert [count(net, kind=k) for k in ("conv", "linear", "bias")] == [conv, linear, bias]
    norms = sum(1 for layer in net.places if layer.norm is not None)
    # float32 weights, scale, shift, mean and variance; an int64 counter for each norm, as torch's BatchNorm has it
    assert state_bytes(net) == 4 * (conv + linear + bias) + 16 * channels + 8 * norms
    table = describe(net)
    assert table.weights == conv + linear + bias and table.parameters == table.weights + 2 * channels
    assert table.state_bytes == state_bytes(net)


def test_vgg5_with_100_classes_has_the_weights_of_its_paper():
    assert count(build("vgg5", input_shape=CIFAR, classes=100, steps=5)) == 8_713_920


@pytest.mark.parametrize("shape", [DIGITS, (3, 16, 16), GREY, CIFAR])
@pytest.mark.parametrize("name", SMALL)
def test_the_small_siblings_stay_under_300_k_weights(name, shape):
    for classes in (10, 100):
        for pooling in ("average", "stride"):
            net = build(name, input_shape=shape, classes=classes, steps=4, pooling=pooling)
            assert count(net) < 300_000
            assert net(torch.rand(2, *shape)).shape == (4, 2, classes)


@pytest.mark.parametrize("steps", [1, 4, 5, 13])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("norm", ["bn", "bn-step"])
@pytest.mark.parametrize("name", SMALL)
def test_small_siblings_equal_a_plain_loop_over_time(name, norm, training, steps):
    net = settled(build(name, input_shape=(2, 8, 8), classes=3, steps=steps, norm=norm))
    assert_equals_loop(net.train(training), by_steps if norm == "bn-step" else by_layers, batch=6)


@pytest.mark.parametrize("pooling", ["max", "stride"])
@pytest.mark.parametrize("name", ["small", *SMALL])
def test_the_other_ways_to_make_maps_smaller_equal_it_too(name, pooling):
    net = settled(build(name, input_shape=(2, 9, 7), classes=3, steps=4, pooling=pooling, norm="bn"))
    assert_equals_loop(net.eval(), batch=2)
    with torch.no_grad():
        assert all(layer.plan.window.kind == "max" or not layer.plan.pool for layer in net.layers)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 4, 5, 13])
@pytest.mark.parametrize("name", LARGE)
def test_the_papers_networks_equal_a_plain_loop_over_time(name, steps):
    norm = {"vgg5": "none", "vgg11": "bntt"}.get(name, "bn")
    neuron = replace(network_info(name).neuron, v_threshold=0.3)  # so that spikes reach the end in a single step
    settings = {"input_shape": (3, 8, 8), "classes": 4, "steps": steps, "norm": norm, "neuron": neuron}
    net = settled(build(name, **settings, coding="direct", readout="current"))
    batch = 3 + 6 // steps  # the deepest maps have one pixel, and statistics of two values have no gradient
    assert_equals_loop(net, by_steps if norm == "bntt" else by_layers, batch, exact=True)
    for layer in net.places:  # running statistics of the data, or the deepest layers would be silent in eval mode
        if layer.norm is not None:
            layer.norm.momentum = 1.0
    net(torch.rand(9, 3, 8, 8))
    assert_equals_loop(net.eval(), batch=2, exact=True)


def resnet_by_hand(net: GraphNetwork, x: Tensor, blocks: dict[str, int], hidden: bool) -> Tensor:
    """A residual network in eval mode as its papers draw it: neurons behind every sum, means of the last map."""
    state, neuron = dict(net.named_parameters()) | dict(net.named_buffers()), net.stem.neuron
    potentials: dict[str, Tensor] = {}

    def conv(name: str, y: Tensor, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        y = F.conv2d(y, weight, stride=stride, padding=weight.shape[2] // 2)
        norm = (state[f"{name}.norm.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(y, *norm)

    def fire(name: str, y: Tensor) -> Tensor:
        spikes, potentials[name] = fired(neuron, y, potentials.get(name), [])
        return spikes

    outputs = []
    for _ in range(net.steps):
        y = fire("stem", conv("stem", x))
        for stage, number in blocks.items():
            for block in range(1, number + 1):
                name = f"{stage}.block{block}"
                stride = net.get_submodule(f"{name}.conv1").plan.stride
                branch = conv(f"{name}.conv2", fire(f"{name}.conv1", conv(f"{name}.conv1", y, stride)))
                shortcut = conv(f"{name}.shortcut", y, stride) if f"{name}.shortcut.weight" in state else y
                y = fire(name, branch + shortcut)
        y = y.mean((2, 3))
        if hidden:
            y = fire("fc1", F.linear(y, state["fc1.weight"], state["fc1.bias"]))
        last = "fc2" if hidden else "fc1"
        outputs.append(F.linear(y, state[f"{last}.weight"], state[f"{last}.bias"]))
    return torch.stack(outputs)


@pytest.mark.parametrize(
    ("name", "blocks", "hidden"),
    [("resnet19", (3, 3, 2), True), ("resnet19-wide", (3, 3, 2), False), ("resnet-small", (2, 2, 2), False)],
)
def test_blocks_are_wired_as_the_papers_draw_them(name, blocks, hidden):
    net = build(name, input_shape=(3, 8, 8), classes=4, steps=3, readout="current")
    net = settled(net).double().eval()
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    by_hand = resnet_by_hand(net, x, {f"stage{i}": n for i, n in enumerate(blocks, 1)}, hidden)
    torch.testing.assert_close(net(x), by_hand)
    assert by_hand.abs().sum() > 0


def test_resnet19_halves_the_map_in_every_stage():
    net = build("resnet19", input_shape=CIFAR, classes=10, steps=5)
    sizes = [net.get_submodule(f"stage{i}.block1.sum").plan.map_shape for i in (1, 2, 3)]
    assert sizes == [(128, 16, 16), (256, 8, 8), (512, 4, 4)]


def test_strides_take_the_place_of_pools_and_nothing_is_pooled():
    for name in ("small", "vgg16", "vgg-small", "8C3-AP2-12FC"):
        net = build(name, input_shape=GREY, classes=10, steps=2, pooling="stride")
        pooled = build(name, input_shape=GREY, classes=10, steps=2)
        assert [layer.plan.stride == 2 for layer in net.layers] == [layer.plan.pool for layer in pooled.layers]
        assert not any(layer.plan.pool for layer in net.layers), name
    for name in ("resnet19", "resnet-small", "vgg11"):
        net = build(name, input_shape=GREY, classes=10, steps=2, pooling="stride")
        assert not any(place.plan.pool for place in net.places), name


def test_a_pooling_that_does_not_exist_is_refused():
    for name in ("small", "resnet-small"):
        with pytest.raises(ConfigError, match="network.pooling 'mean' is not known; use one of average, max, stride"):
            build(name, input_shape=GREY, classes=10, steps=2, pooling="mean")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="at least 2 classes"):
            build(name, input_shape=GREY, classes=1, steps=2)


@pytest.mark.parametrize("name", [*LARGE, *SMALL])
def test_ann_twins_have_the_same_weights_under_the_same_names(name):
    net = build(name, input_shape=(1, 16, 16), classes=5, steps=2, readout="current", seed=4)
    twin = ann_twin(name, input_shape=(1, 16, 16), classes=5, seed=4)
    mine, other = net.state_dict(), twin.state_dict()
    for tensor, role in roles(net).items():
        if role == "weight":
            assert torch.equal(mine[tensor], other[tensor]), tensor
    assert twin(torch.rand(2, 1, 16, 16)).shape == (1, 2, 5)


def test_the_residual_twin_is_conv_norm_relu_and_a_sum():
    twin = ann_twin("resnet-small", input_shape=(1, 8, 8), classes=3).double().eval()
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    seen = {}
    for name in ("stage2.block1.conv2", "stage2.block1.shortcut", "stage2.block1.sum"):
        twin.get_submodule(name).register_forward_hook(lambda m, i, out, name=name: seen.update({name: out}))
    twin(x)
    branch, shortcut, out = seen.values()
    assert torch.equal(out, F.relu(branch + shortcut)) and branch.min() < 0
