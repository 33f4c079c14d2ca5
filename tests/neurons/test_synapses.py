"""Products with the non-zero weights only: the dense product's results, for every shape, instruction set and way."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from neurons.draws import drawn, spikes
from spikefed import networks
from spikefed.neurons import dense_weights, record_paths, spike_conv2d, spike_linear, synapses

pytestmark = pytest.mark.skipif(synapses.library() is None, reason="needs the native library")
WAYS = ("by event", "by weight")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("images", "inputs", "outputs", "kernel", "height", "width"),
    [(3, 5, 7, 3, 6, 5), (20, 40, 33, 3, 8, 8), (1, 16, 16, 1, 4, 9), (35, 3, 20, 5, 7, 7), (2, 70, 64, 3, 1, 1)],
)
def test_it_is_the_dense_convolution(
    level: int, way: synapses.Way, images: int, inputs: int, outputs: int, kernel: int, height: int, width: int
) -> None:
    x = drawn(1, images, inputs, height, width, density=0.2)
    weight = drawn(2, outputs, inputs, kernel, kernel, density=0.1)
    for bias in (None, torch.linspace(-1, 1, outputs)):
        found = synapses.multiply(
            x.contiguous(memory_format=torch.channels_last), synapses.SynapseList.of(weight, way), bias
        )
        wanted = F.conv2d(x.double(), weight.double(), None if bias is None else bias.double(), padding=kernel // 2)
        assert torch.allclose(found.double(), wanted, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("images", [1, 5, 70])
def test_it_is_the_dense_linear_layer_on_maps_of_either_layout(level: int, way: synapses.Way, images: int) -> None:
    x, weight = spikes(1, images, 6, 4, 4, density=0.3), drawn(2, 50, 96, density=0.1)
    wanted = F.linear(x.flatten(1), weight)
    for given in (x, x.contiguous(memory_format=torch.channels_last), x.flatten(1)):
        assert torch.allclose(synapses.linear(given, weight, None, way), wanted, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_results_repeat_on_any_number_of_threads(way: synapses.Way) -> None:
    x, weight = spikes(1, 40, 32, 8, 8, density=0.1), drawn(2, 48, 32, 3, 3, density=0.05)
    ends, before = [], torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        ends.append(synapses.convolution(x, weight, None, way))
    torch.set_num_threads(before)
    assert torch.equal(*ends)


@pytest.mark.parametrize("way", WAYS)
def test_a_weight_of_zeros_gives_the_bias(way: synapses.Way) -> None:
    x, bias = spikes(1, 2, 8, 4, 4, density=1.0), torch.arange(6.0)
    found = synapses.convolution(x, torch.zeros(6, 8, 3, 3), bias, way)
    assert torch.equal(found, bias.view(1, 6, 1, 1).expand(2, 6, 4, 4))


def test_a_list_is_made_anew_when_the_weight_changes() -> None:
    x, weight = spikes(1, 4, 64, 8, 8, density=0.1), drawn(2, 64, 64, 3, 3, density=0.02)
    first = synapses.convolution(x, weight, None, "by event")
    assert torch.equal(first, synapses.convolution(x, weight, None, "by event"))
    kept = synapses.density_of_weight(weight)
    weight[:, :32] = 0
    assert synapses.density_of_weight(weight) < 0.7 * kept
    again = synapses.convolution(x, weight, None, "by event")
    assert torch.allclose(again, F.conv2d(x, weight, padding=1), atol=1e-5) and not torch.allclose(first, again)


def test_training_and_dense_weights_never_take_it() -> None:
    x, weight = spikes(1, 32, 128, 8, 8, density=0.1), drawn(2, 128, 128, 3, 3, density=0.02)
    weight.requires_grad_()

    def path(weight: torch.Tensor) -> str:
        with record_paths() as choices:
            spike_conv2d(x, weight, padding=1)
        return choices[0].path

    assert not path(weight).startswith("synapses")  # its gradient is wanted
    with torch.no_grad():
        assert path(weight).startswith("synapses")
        assert not path(weight + 1).startswith("synapses")
        with dense_weights():
            assert not path(weight).startswith("synapses")
        with record_paths() as choices:
            spike_linear(spikes(3, 64, 2048, density=0.1), drawn(4, 1024, 2048, density=0.02))
    assert choices[0].path.startswith("synapses")


def test_fewer_weights_and_fewer_spikes_never_cost_more() -> None:
    """The choice is monotone: what pays at some densities pays at lower ones."""
    x = torch.empty(64, 128, 8, 8)
    taken = []
    for kept in (0.3, 0.1, 0.03, 0.01, 0.003):
        weight = drawn(5, 128, 128, 3, 3, density=kept)
        taken.append([synapses.choose(x, weight, d) is not None for d in (1.0, 0.3, 0.1, 0.01)])
    for row in taken:
        assert row == sorted(row)
    for column in zip(*taken, strict=True):
        assert list(column) == sorted(column)
    assert not any(taken[0][:1]) and all(taken[-1])


@torch.no_grad()
def test_a_pruned_network_gives_the_same_outputs() -> None:
    net = networks.build(
        "64C3-AP2-128C3-AP2-256FC", input_shape=(3, 16, 16), classes=10, steps=6, norm="bn", seed=0, readout="current"
    )
    net.eval()
    for name, parameter in net.named_parameters():
        if parameter.dim() > 1:
            parameter.mul_(20 * spikes(len(name), *parameter.shape, density=0.03))
    images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with record_paths() as choices:
        sparse = net(images)
    with dense_weights():
        dense = net(images)
    assert sum(choice.path.startswith("synapses") for choice in choices) >= 2
    assert dense.abs().mean() > 0.01 and torch.allclose(sparse, dense, atol=1e-5)


@pytest.mark.parametrize("layer", ["conv", "linear"])
def test_frozen_weights_keep_no_input_and_give_the_same_gradient(layer: str) -> None:
    draws = torch.Generator().manual_seed(0)
    shape = (4, 16, 12, 12) if layer == "conv" else (4, 300)
    spikes = (torch.rand(shape, generator=draws) < 0.2).float()
    weight = torch.randn((16, 16, 3, 3) if layer == "conv" else (20, 300), generator=draws)
    found = []
    for learning in (True, False):
        x = spikes.clone().requires_grad_(True)
        w = weight.clone().requires_grad_(learning)
        kept: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: (kept.append(t.numel()), t)[1], lambda t: t):
            out = spike_conv2d(x, w, None, padding=1) if layer == "conv" else spike_linear(x, w, None)
        out.square().sum().backward()
        assert x.grad is not None
        found.append(x.grad)
        if not learning:
            assert spikes.numel() not in kept
    assert torch.equal(found[0], found[1])
