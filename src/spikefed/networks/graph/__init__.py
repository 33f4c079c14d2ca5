"""Networks that branch: nodes and edges, forward and backward in time, on the same layers as a row of them."""

from spikefed.networks.graph.build import forward_part, rectified_graph, spiking_graph
from spikefed.networks.graph.network import ANNGraphNetwork, GraphNetwork
from spikefed.networks.graph.order import Part, binary, parts
from spikefed.networks.graph.plan import INPUT, Edge, Graph, Node, in_order, sized
from spikefed.networks.graph.run import Value, step_by_step, total

__all__ = [
    "ANNGraphNetwork",
    "Edge",
    "Graph",
    "GraphNetwork",
    "INPUT",
    "Node",
    "Part",
    "Value",
    "binary",
    "forward_part",
    "in_order",
    "parts",
    "rectified_graph",
    "sized",
    "spiking_graph",
    "step_by_step",
    "total",
]
