"""What a graph network is drawn as: places (nodes) and ways between them (edges), sized before a weight exists."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Literal

from spikefed.errors import ConfigError
from spikefed.networks.layout import LayerPlan, convolved
from spikefed.networks.pools import TWO_BY_TWO, Pool

INPUT = "input"
"""Name of the place where the coded image enters; every other place is a `Node`."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One place. What comes over its edges is added up, then goes through its parts in this order; each may be absent.

    Attributes:
        name: prefix of its tensors in the state dict; dots make folders (``stage1.block2.conv1``).
        weights: ``conv``, ``linear``, or ``pass`` for none.
        features: output channels or features of the weights; of a ``pass`` with fewer than enter, each is the mean of
            as many neighbours (a vote); None for as many as enter.
        kernel: odd width of the convolution.
        stride: of the convolution.
        bias: biases beside the weights; None for those that no norm follows.
        norm: a normalisation; which one is the network's choice.
        neuron: spiking neurons.
        pool: a pool behind them, or None.
        dropout: probability that an output is set to 0 in training, the same for all time steps.
        line: the convolution goes along the width alone (1-d): its kernel has one row, its stride is that of columns.
    """

    name: str
    weights: Literal["conv", "linear", "pass"] = "pass"
    features: int | None = None
    kernel: int = 3
    stride: int = 1
    bias: bool | None = None
    norm: bool = False
    neuron: bool = False
    pool: Pool | None = None
    dropout: float = 0.0
    line: bool = False

    def plan(self, in_shape: tuple[int, ...]) -> LayerPlan:
        """Sizes for what enters.

        Raises:
            ConfigError: weights that do not fit the shape, or a map smaller than the pool.
        """
        kernel, stride = (self.kernel, self.stride) if self.weights == "conv" else (0, 1)
        out = self._map_shape(in_shape)
        pool = self.pool is not None
        window = self.pool or TWO_BY_TWO
        made = LayerPlan(self.name, self.weights, in_shape, out, kernel, pool, stride, window, self.line)
        if pool and len(out) != 3:
            raise ConfigError(f"node '{self.name}' cannot pool features of shape {out}; pools need channels and a map")
        made.out_shape  # noqa: B018  (refuses a map that is too small for the pool)
        return made

    def _map_shape(self, in_shape: tuple[int, ...]) -> tuple[int, ...]:
        features = in_shape[0] if self.features is None else self.features
        if self.weights == "linear":
            return (features,)
        if self.weights == "conv":
            if len(in_shape) != 3 or self.kernel % 2 == 0:
                raise ConfigError(
                    f"node '{self.name}' is a convolution of width {self.kernel} on an input of shape {in_shape}; it "
                    "needs channels x height x width and an odd width"
                )
            return convolved(features, in_shape, self.stride, self.line)
        if features == in_shape[0]:
            return in_shape
        if prod(in_shape) % features or len(in_shape) != 1:
            raise ConfigError(
                f"node '{self.name}' cannot take {features} means of an input of shape {in_shape}; let a multiple of "
                f"{features} features enter"
            )
        return (features,)


@dataclass(frozen=True)
class Edge:
    """A way from one place to another.

    Attributes:
        source: name of a node, or `INPUT`.
        target: name of a node.
        back: backward in time: what the source gave at step t - 1 arrives at step t, and nothing (0) at the first.
    """

    source: str
    target: str
    back: bool = False


@dataclass(frozen=True)
class Graph:
    """Nodes and edges; frozen, hashable, without a tensor.

    Attributes:
        nodes: in the order in which they were drawn, which is that of the state dict.
        edges: any number between two nodes; what several bring is added up.
        output: the node that gives the network's outputs.

    Raises:
        ConfigError: names that are double or missing, a circle of forward edges, a node that nothing enters.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    output: str

    def __post_init__(self) -> None:
        double = [name for name, count in Counter(node.name for node in self.nodes).items() if count > 1]
        if double or any(node.name == INPUT for node in self.nodes):
            raise ConfigError(f"two nodes are called '{(double or [INPUT])[0]}'; every node needs a name of its own")
        names = {node.name for node in self.nodes}
        for edge in self.edges:
            if edge.target not in names or edge.source not in names | {INPUT}:
                stranger = edge.source if edge.target in names else edge.target
                raise ConfigError(f"an edge names '{stranger}', which is no node of the graph; draw the node too")
        if self.output not in names:
            raise ConfigError(f"the output '{self.output}' is no node of the graph; name one of its nodes")
        lonely = names - {edge.target for edge in self.edges}
        if lonely:
            raise ConfigError(f"no edge leads to node '{min(lonely)}'; draw one, or leave the node out")
        in_order(self)

    def node(self, name: str) -> Node:
        """The node of that name."""
        return next(node for node in self.nodes if node.name == name)

    def into(self, name: str) -> list[Edge]:
        """Edges that lead to a node, as drawn."""
        return list(self._arriving.get(name, ()))

    @cached_property
    def _arriving(self) -> dict[str, list[Edge]]:
        found: dict[str, list[Edge]] = {}
        for edge in self.edges:
            found.setdefault(edge.target, []).append(edge)
        return found


def in_order(graph: Graph) -> list[Node]:
    """The nodes so that every forward edge leads onwards; of equals the one drawn first comes first.

    Raises:
        ConfigError: forward edges form a circle.
    """
    waiting = list(graph.nodes)
    done = {INPUT}
    order = []
    while waiting:
        ready = next((n for n in waiting if all(e.source in done or e.back for e in graph.into(n.name))), None)
        if ready is None:
            names = ", ".join(f"'{node.name}'" for node in waiting)
            raise ConfigError(f"forward edges form a circle among {names}; make one of them go backward in time")
        waiting.remove(ready)
        done.add(ready.name)
        order.append(ready)
    return order


def sized(graph: Graph, input_shape: tuple[int, ...]) -> dict[str, LayerPlan]:
    """Sizes of every node by name, in the order of the graph.

    Raises:
        ConfigError: edges that bring different shapes to one node, or a node that does not fit what enters.
    """
    shapes: dict[str, tuple[int, ...]] = {INPUT: tuple(input_shape)}
    plans: dict[str, LayerPlan] = {}
    waiting = in_order(graph)
    while waiting:
        # A node takes the shape of the first source that has one, be it over an edge backward in time.
        known = [(node, edge) for node in waiting for edge in graph.into(node.name) if edge.source in shapes]
        if not known:
            raise ConfigError(f"no way leads from the input to node '{waiting[0].name}'; draw an edge, or leave it out")
        node, edge = known[0]
        waiting.remove(node)
        plans[node.name] = node.plan(shapes[edge.source])
        shapes[node.name] = plans[node.name].out_shape
    for edge in graph.edges:
        if shapes[edge.source] != plans[edge.target].in_shape:
            raise ConfigError(
                f"the edge from '{edge.source}' to '{edge.target}' brings shape {shapes[edge.source]}, another one "
                f"{plans[edge.target].in_shape}; what is added up must be alike"
            )
    return {node.name: plans[node.name] for node in graph.nodes}
