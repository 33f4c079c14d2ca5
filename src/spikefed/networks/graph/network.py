"""Networks as graphs: the spiking one, layer by layer over all time steps, and its ANN twin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from spikefed.networks.graph.order import binary, parts
from spikefed.networks.graph.plan import INPUT, Graph, in_order
from spikefed.networks.graph.run import Value, run
from spikefed.networks.layers import PassLayer, PlannedLayer, ReLULayer, ReLUPass, SpikingLayer
from spikefed.networks.network import ANNNetwork, Readout, SpikingNetwork
from spikefed.neurons import Direct, Encoder
from spikefed.neurons.encoding import encode_input


class GraphNetwork(SpikingNetwork):
    """A spiking network whose layers branch, join, skip and feed back; it keeps no state between calls.

    Everything runs layer by layer over all T steps, as in a row of layers; only loops that an edge backward in time
    closes run step by step (`spikefed.networks.graph.parts`).

    Attributes:
        graph: nodes and edges.
        steps, encoder, readout, precision: as in `SpikingNetwork`.
    """

    def __init__(
        self,
        name: str,
        input_shape: tuple[int, ...],
        graph: Graph,
        layers: Mapping[str, SpikingLayer | PassLayer],
        *,
        steps: int,
        encoder: Encoder,
    ) -> None:
        super().__init__(name, input_shape, [], steps=steps, encoder=encoder)
        self.graph = graph
        self.parts = parts(graph)
        self._names = place(self, graph, layers)

    @property
    def readout(self) -> Readout:
        """``spike`` when the output node has neurons, else ``current``."""
        return "spike" if self.graph.node(self.graph.output).neuron else "current"

    @property
    def classes(self) -> int:
        """Number of outputs."""
        return _planned(self, self.graph.output).plan.out_shape[0]

    def takes_spikes(self, name: str) -> bool:
        """Whether spikes (or means or sums of spikes) enter a node, and no real numbers."""
        gives = binary(self.graph, coded=not isinstance(self.encoder, Direct))
        return all(gives[edge.source] for edge in self.graph.into(name))

    def charges(self, name: str) -> str | None:
        """The node whose weights charge a node's neurons: itself, or the nearest before it, of equals the first drawn.

        None where only the image enters.
        """
        seen = {INPUT}
        waiting = [name]
        while waiting:
            at = waiting.pop(0)
            if at != INPUT and self.graph.node(at).weights != "pass":
                return at
            seen.add(at)
            waiting += [edge.source for edge in self.graph.into(at) if edge.source not in seen]
        return None

    def once(self, name: str) -> bool:
        """Whether what enters a node is the same at every step, so that its weights are applied once."""
        still = {INPUT: isinstance(self.encoder, Direct)}
        for node in in_order(self.graph):
            enters = all(not edge.back and still[edge.source] for edge in self.graph.into(node.name))
            if node.name == name:
                return enters
            still[node.name] = cast(SpikingLayer | PassLayer, self.get_submodule(node.name)).keeps_still(enters)
        return False

    def stepwise(self, name: str) -> bool:
        """Whether a node lies in a loop, and so runs once for each time step."""
        return any(part.stepwise and name in part.nodes for part in self.parts)

    def source(self, x: Tensor, generator: torch.Generator | None) -> Value:
        """The coded images ``x`` (``[B, C, H, W]``, or with steps of their own), as they enter the graph."""
        return Value(*encode_input(self.encoder, x, self.steps, generator, self.has_time(x)))

    def _outputs(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        source = self.source(x, generator)
        layers = {name: self.get_submodule(name) for part in self.parts for name in part.nodes}
        y = run(self.parts, layers, source, self.graph.output, self.steps, generator)
        return y.unflatten(0, (self.steps, -1)).to(x.dtype)


class ANNGraphNetwork(ANNNetwork):
    """The ANN twin of a `GraphNetwork`: the same weights and tensor names, ReLU for the neurons, one pass.

    One pass has no step before it, so edges backward in time bring nothing, and what only they lead to is left out.
    """

    def __init__(
        self, name: str, input_shape: tuple[int, ...], graph: Graph, layers: Mapping[str, ReLULayer | ReLUPass]
    ) -> None:
        super().__init__(name, input_shape, [])
        self.graph = graph
        self._order = [node.name for node in in_order(graph)]
        self._names = place(self, graph, layers)

    @property
    def classes(self) -> int:
        """Number of outputs."""
        return _planned(self, self.graph.output).plan.out_shape[0]

    def _logits(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        values = {INPUT: x}
        for name in self._order:
            first, *rest = [values[edge.source] for edge in self.graph.into(name)]
            for other in rest:
                first = first + other
            values[name] = self.get_submodule(name)(first, generator)
        return values[self.graph.output]


def place(net: nn.Module, graph: Graph, layers: Mapping[str, nn.Module]) -> list[str]:
    """Register the module of every node under its name, dots as folders; gives the names in order."""
    for node in graph.nodes:
        *folders, last = node.name.split(".")
        at = net
        for folder in folders:
            if not hasattr(at, folder):
                at.add_module(folder, nn.Module())
            at = at.get_submodule(folder)
        at.add_module(last, layers[node.name])
    return [node.name for node in graph.nodes]


def _planned(net: nn.Module, name: str) -> PlannedLayer:
    return cast(PlannedLayer, net.get_submodule(name))
