"""Networks that are a row of layers, drawn as graphs on the same tensors: two code paths, one result to the bit."""

from __future__ import annotations

import pytest
import torch
from tests.networks.graph.by_steps import settled

from spikefed.networks import GraphNetwork, build, networks
from spikefed.networks.graph import INPUT, Graph, Node, spiking_graph
from spikefed.networks.graph.draw import Drawing
from spikefed.networks.network import SpikingNetwork

ROWS = [info.name for info in networks() if info.layout is not None and not info.ann]
LARGE = ("cifarnet", "vgg5", "vgg9-bntt")
NORMS = ("own", "none", "bn", "tdbn", "bntt", "bn-step")
CASES = [(name, norm) for name in ROWS if name not in ("vgg11", "vgg16") for norm in NORMS[: 1 if name in LARGE else 6]]
SMALL_ENOUGH = {"vgg9-bntt": (1, 8, 8), "cifarnet": (1, 8, 8), "vgg5": (1, 8, 8), "small-1d": (6, 1, 1)}
SMALL_ENOUGH["conv-1d"] = (6, 1, 10)


def row_of(net: SpikingNetwork) -> Graph:
    """The layers one behind the other, with all that a node says."""
    drawing, at = Drawing(), INPUT
    for layer in net.layers:
        plan = layer.plan
        node = Node(
            name=plan.name,
            weights=plan.kind,  # type: ignore[arg-type]
            features=plan.map_shape[0],
            kernel=plan.kernel or 3,
            stride=plan.stride,
            bias=layer.bias is not None,
            norm=layer.norm is not None,
            neuron=layer.neuron is not None,
            pool=plan.window if plan.pool else None,
            line=plan.line,
        )
        at = drawing.add(node, at)
    return drawing.graph(at)


def drawn(row: SpikingNetwork, norm: str) -> GraphNetwork:
    """The row as a graph, with the same tensors under the same names."""
    neuron = next(layer.neuron for layer in row.layers if layer.neuron is not None)
    graph = spiking_graph(
        row.name,
        row_of(row),
        row.input_shape,
        norm=norm,
        neuron=neuron,
        steps=row.steps,
        encoder=row.encoder,
    )
    assert list(graph.state_dict()) == list(row.state_dict())
    graph.load_state_dict(row.state_dict())
    for mine, theirs in zip(graph.places, row.places, strict=True):
        if mine.norm is not None and theirs.norm is not None:
            mine.norm.warm_up = theirs.norm.warm_up
    return graph


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_a_row_and_its_graph_give_the_same_bits(name: str, norm: str) -> None:
    shape = SMALL_ENOUGH.get(name, (2, 9, 8))
    given = None if norm == "own" else norm
    row = settled(build(name, input_shape=shape, classes=3, steps=4, norm=given, coding="direct"))
    kind = norm if given else next(i.norm for i in networks() if i.name == name)
    graph = drawn(row, kind)
    x = torch.rand(5, *shape, generator=torch.Generator().manual_seed(0))
    for training in (False, True):
        results = []
        for net in (row, graph):
            net.train(training)
            net.zero_grad()
            out = net(x, generator=torch.Generator().manual_seed(1))
            out.square().mean().backward()
            results.append((out.detach(), {n: p.grad for n, p in net.named_parameters()}))
        (one, grads), (other, others) = results
        assert torch.equal(one, other)
        for parameter, grad in grads.items():
            assert grad is not None and torch.equal(grad, others[parameter]), (training, parameter)
    assert all(torch.equal(a, b) for a, b in zip(row.buffers(), graph.buffers(), strict=True))
