"""From a drawn graph to modules with tensors: the spiking network, or its ANN twin."""

from __future__ import annotations

from math import sqrt

from spikefed.networks.graph.network import ANNGraphNetwork, GraphNetwork
from spikefed.networks.graph.plan import INPUT, Graph, Node, sized
from spikefed.networks.layers import PassLayer, ReLULayer, ReLUPass, SpikingLayer
from spikefed.networks.layout import LayerPlan
from spikefed.networks.norms import Norm, make_norm
from spikefed.networks.size import check_memory
from spikefed.neurons import Encoder, LIFParameters


def spiking_graph(
    name: str,
    graph: Graph,
    input_shape: tuple[int, ...],
    *,
    norm: str,
    neuron: LIFParameters,
    steps: int,
    encoder: Encoder,
) -> GraphNetwork:
    """The graph as a spiking network; weights are 0 until somebody draws them.

    Args:
        name: what the network is called.
        graph: its nodes and edges.
        input_shape: ``(C, H, W)``.
        norm: of every node that has one. ``tdbn`` shares the threshold among branches that meet: alpha = 1 / sqrt(2)
            for two (Zheng et al. 2021, eq. 9).
        neuron: of every node that has neurons.
        steps: T.
        encoder: pixels to input.

    Raises:
        ConfigError: a graph that does not fit the input, or weights that this machine's memory does not hold.
    """
    plans = sized(graph, (input_shape[0] * encoder.widens, *input_shape[1:]))
    check_memory(name, plans.values(), norm, steps)
    layers = {}
    for node in graph.nodes:
        plan = plans[node.name]
        lif = neuron if node.neuron else None
        made = _norm(graph, node, plan, norm, steps, neuron.v_threshold)
        if node.weights == "pass":
            layers[node.name] = PassLayer(plan, norm=made, neuron=lif, dropout=node.dropout)
        else:
            biased = _biased(node, made)
            layers[node.name] = SpikingLayer(plan, bias=biased, norm=made, neuron=lif, dropout=node.dropout)
    return GraphNetwork(name, input_shape, graph, layers, steps=steps, encoder=encoder)


def rectified_graph(name: str, graph: Graph, input_shape: tuple[int, ...], *, norm: str) -> ANNGraphNetwork:
    """The graph as an ANN: ReLU for neurons, ordinary batch norm for any norm but ``none``; weights are 0.

    Edges backward in time are left out, and with them what no forward edge leads to.

    Args:
        name: of the network, for descriptions.
        graph: nodes and edges.
        input_shape: ``(C, H, W)``.
        norm: as of the spiking network.

    Raises:
        ConfigError: a graph that does not fit the input, or weights that this machine's memory does not hold.
    """
    plans = sized(graph, input_shape)
    check_memory(name, plans.values(), norm, 1)
    graph = forward_part(graph)
    layers = {}
    for node in graph.nodes:
        plan = plans[node.name]
        made = _norm(graph, node, plan, "none" if norm == "none" else "bn", 1, 1.0)
        if node.weights == "pass":
            layers[node.name] = ReLUPass(plan, norm=made, rectify=node.neuron, dropout=node.dropout)
        else:
            biased = _biased(node, made)
            layers[node.name] = ReLULayer(plan, bias=biased, norm=made, rectify=node.neuron, dropout=node.dropout)
    return ANNGraphNetwork(name, input_shape, graph, layers)


def forward_part(graph: Graph) -> Graph:
    """The graph without edges backward in time, and without nodes that then lie on no way from input to output."""
    edges = [edge for edge in graph.edges if not edge.back]
    changed = True
    while changed:
        fed = {INPUT} | {edge.target for edge in edges}
        read = {graph.output} | {edge.source for edge in edges}
        kept = [edge for edge in edges if edge.source in fed and edge.target in read]
        changed = len(kept) < len(edges)
        edges = kept
    names = {edge.target for edge in edges}
    return Graph(tuple(node for node in graph.nodes if node.name in names), tuple(edges), graph.output)


def _norm(graph: Graph, node: Node, plan: LayerPlan, norm: str, steps: int, theta: float) -> Norm | None:
    if not node.norm:
        return None
    meeting = max((len(graph.into(e.target)) for e in graph.edges if e.source == node.name), default=1)
    alpha = 1.0 if node.neuron else 1 / sqrt(meeting)
    return make_norm(norm, plan.map_shape[0], steps=steps, alpha=alpha, theta=theta)


def _biased(node: Node, norm: Norm | None) -> bool:
    return norm is None if node.bias is None else node.bias
