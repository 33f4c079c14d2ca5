"""Counting operations and spikes in networks that branch: every neuron once, every event at the stride it meets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spikefed.hardware import count_operations, energy_report
from spikefed.networks import (
    Edge,
    Graph,
    GraphNetwork,
    Node,
    Pool,
    SpikingLayer,
    ann_twin,
    build,
    describe,
    explain,
    firing_rates,
)
from spikefed.networks.graph import INPUT, spiking_graph
from spikefed.neurons import Direct, LIFParameters

ALWAYS = LIFParameters(decay=0.0, v_threshold=0.5, gain=1.0)


def fires_where_positive(edges: tuple[Edge, ...], *nodes: Node, shape: tuple[int, ...] = (1, 4, 4)) -> GraphNetwork:
    net = spiking_graph("g", Graph(nodes, edges, nodes[-1].name), shape, norm="none", neuron=ALWAYS, steps=3,
                        encoder=Direct())  # fmt: skip
    with torch.no_grad():
        for layer in net.layers:
            layer.weight.fill_(1.0)
            if layer.bias is not None:
                layer.bias.zero_()
    return net


def one_spike() -> Tensor:
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 1, 1] = 1.0
    return image


def test_neurons_behind_a_sum_are_charged_once_to_the_first_branch():
    a = Node(name="a", weights="conv", features=1, kernel=1)
    b = Node(name="b", weights="conv", features=1, kernel=1, stride=1)
    fire, out = Node(name="sum", neuron=True), Node(name="out", weights="linear", features=2)
    edges = (Edge(INPUT, "a"), Edge(INPUT, "b"), Edge("a", "sum"), Edge("b", "sum"), Edge("sum", "out"))
    net = fires_where_positive(edges, a, b, fire, out)
    first, second, last = count_operations(net, one_spike())
    assert (first.input, first.constant, first.passes, second.passes) == ("real", True, 1.0, 1.0)
    assert (first.neurons, first.updates, first.spikes) == (16, 48, 3)
    assert (second.neurons, second.spikes) == (0, 0)
    assert (last.input, last.active, last.events, last.neurons) == ("spikes", 3.0, 6.0, 0)
    assert firing_rates(net, one_spike()) == {"sum": 1 / 16}


def test_events_meet_a_stride_of_two_in_fewer_windows():
    fire = Node(name="fire", neuron=True)
    conv = Node(name="conv", weights="conv", features=2, stride=2, neuron=True)
    out = Node(name="out", weights="linear", features=2)
    net = fires_where_positive((Edge(INPUT, "fire"), Edge("fire", "conv"), Edge("conv", "out")), fire, conv, out)
    first, _ = count_operations(net, one_spike())
    # outputs at rows and columns 0 and 2: all four windows hold the pixel (1, 1)
    assert (first.input, first.stride, first.events, first.macs) == ("spikes", (2, 2), 3 * 4 * 2, 2 * 4 * 9)
    assert first.spikes == 3 * 8 and first.neurons == 8  # those that encode the image belong to no layer


def test_real_numbers_that_skip_the_neurons_are_charged_as_such_in_every_step():
    conv = Node(name="conv", weights="conv", features=1, kernel=1)
    fire, join = Node(name="fire", neuron=True), Node(name="join")
    out = Node(name="out", weights="linear", features=2)
    edges = (Edge(INPUT, "conv"), Edge("conv", "fire"), Edge("fire", "join"), Edge("conv", "join"), Edge("join", "out"))
    _, last = count_operations(fires_where_positive(edges, conv, fire, join, out), one_spike())
    assert (last.input, last.constant, last.passes) == ("real", False, 3.0)


def test_spikes_are_counted_before_a_pool_that_takes_the_largest():
    for kind in ("max", "average"):
        fire = Node(name="fire", neuron=True, pool=Pool(kind))
        out = Node(name="out", weights="linear", features=2)
        net = fires_where_positive((Edge(INPUT, "fire"), Edge("fire", "out")), fire, out)
        assert firing_rates(net, one_spike()) == {"fire": 1 / 16}
        assert count_operations(net, one_spike())[0].active == 3.0  # one pooled value in each step


@pytest.mark.parametrize("name", ["resnet-small", "vgg-small"])
@pytest.mark.parametrize("pooling", ["average", "max", "stride"])
@pytest.mark.parametrize("coding", ["direct", "bernoulli"])
def test_counts_agree_with_the_description(name, pooling, coding):
    net = build(name, input_shape=(1, 8, 8), classes=5, steps=3, pooling=pooling, coding=coding)
    layers = count_operations(net, torch.rand(4, 1, 8, 8), torch.Generator().manual_seed(1))
    rows = {row.name: row for row in describe(net).rows}
    assert [layer.name for layer in layers] == [layer.plan.name for layer in net.layers]
    for layer in layers:
        row = rows[layer.name]
        assert (layer.macs, layer.passes, layer.parameters) == (row.macs, row.times, row.weights)
    neurons = sum(torch.Size(place.plan.map_shape).numel() for place in net.places if place.neuron is not None)
    assert sum(layer.neurons for layer in layers) == neurons
    assert [layer.input == "real" for layer in layers] == [coding == "direct"] + [False] * (len(layers) - 1)


def test_energy_paths_and_twin_of_a_branching_network():
    net = build("resnet-small", input_shape=(1, 8, 8), classes=5, steps=4)
    report = energy_report(net, torch.rand(4, 1, 8, 8))
    assert report.steps == 4 and len(report.layers) == len(net.layers)
    twin = energy_report(ann_twin("resnet-small", input_shape=(1, 8, 8), classes=5), torch.rand(4, 1, 8, 8))
    assert {layer.counts.input for layer in twin.layers} == {"real"}
    paths = {path.layer: path for path in explain(net)}
    assert list(paths) == [p.plan.name for p in net.places]
    assert "once for all" in paths["stem"].weights and "once" not in paths["stage1.block1.conv1"].weights
    assert paths["stage1.block1.sum"].weights == "none" and "currents" in paths["stage1.block1.conv2"].neurons


@pytest.mark.parametrize("name", ["conv-1d", "resnet-1d"])
def test_1d_convolutions_are_counted_by_torchs_own(name: str) -> None:
    """Operations of the spikes that enter: as many as a Conv1d of ones adds up, border included."""
    net = build(name, input_shape=(3, 1, 11), classes=5, steps=4, seed=1)
    x = torch.randn(6, 4, 3, 1, 11, generator=torch.Generator().manual_seed(0))
    seen: dict[str, list[torch.Tensor]] = {}
    convs: dict[str, SpikingLayer] = {
        n: layer for n, layer in net.named_modules() if isinstance(layer, SpikingLayer) and layer.plan.line
    }

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, args: seen.setdefault(name, []).append(args[0].detach())

    hooks = [layer.register_forward_pre_hook(note(name)) for name, layer in convs.items()]
    counted = count_operations(net, x)
    for hook in hooks:
        hook.remove()
    rows = {row.name: row for row in counted}
    assert len(convs) >= 2
    for layer_name, layer in convs.items():
        active = torch.cat(seen[layer_name]) != 0
        size = layer.weight.shape[3]
        ones = torch.ones(1, 1, size)
        spread = torch.nn.functional.conv1d(
            active.sum(1).float(), ones, stride=layer.plan.stride, padding=size // 2
        )  # fmt: skip
        wanted = float(spread.sum()) * layer.weight.shape[0] / len(x)
        assert rows[layer_name].events == pytest.approx(wanted)
        assert rows[layer_name].kernel == (1, size)
