"""Networks that share a beginning run it once: what a node gave is remembered by all that led to it.

Two cells that agree in their first edges compute the same up to the first difference, given the same images and the
same weights in the same places. So weights belong to places: each is drawn from a seed and the node's name
(`spikefed.networks.initialise_by_place`), and a node's result is known by its own plan and by what enters it
(`Memory`). A score needs no more than what spikes told, so that a node runs only where that, or something behind it, is
not known (`Watching`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import replace
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from spikefed.networks import GraphNetwork, PassLayer, SpikingLayer
from spikefed.networks.cells import Cell, cell_ops
from spikefed.networks.graph import INPUT, Edge, Node, Part, Value, step_by_step, total
from spikefed.networks.layers import Moment
from spikefed.networks.pools import TWO_BY_TWO
from spikefed.neurons import halves_suit, normalise_each, normalised_halves, pair, same_padding
from spikefed.search.kernels import Evidence, evidence

Told = list[tuple[str, Evidence]]
"""What spiking layers told, each by its node's name, step by step in a loop."""


class Memory:
    """What nodes gave and what their spikes told, the least used thrown away first.

    A tensor that is kept a first time is only noted: most of a second cell never come again, and would push out those
    of a first one that do. Evidence is small and kept at once.

    Args:
        limit_bytes: of all tensors, and an eighth of it for evidence.

    Attributes:
        hits: nodes that did not have to run.
        misses: nodes that had to.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.given = Shelf(limit_bytes, twice=True)
        self.told = Shelf(limit_bytes // 8, twice=False)
        self._keys: dict[Hashable, int] = {}
        self.hits = 0
        self.misses = 0

    def key(self, structure: Hashable) -> int:
        """A number for a structure, the same whenever it comes again."""
        return self._keys.setdefault(structure, len(self._keys))


class Shelf:
    """Things by key, the least used thrown away first.

    Args:
        limit_bytes: of all that is kept.
        twice: only what is put a second time is kept.
    """

    def __init__(self, limit_bytes: int, *, twice: bool) -> None:
        self._limit = limit_bytes
        self._twice = twice
        self._seen: set[Hashable] = set()
        self._held: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable) -> Any:
        """What lies under a key, or None."""
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key][0]

    def put(self, key: Hashable, thing: object, size: int) -> None:
        """Keep a thing of so many bytes."""
        first = self._twice and key not in self._seen
        self._seen.add(key)
        if first or size > self._limit or key in self._held:
            return
        self._held[key] = (thing, size)
        self._bytes += size
        while self._bytes > self._limit:
            _, (_, freed) = self._held.popitem(last=False)
            self._bytes -= freed


class Watched(nn.Module):
    """Stands where a layer stood, and looks at its spikes.

    Args:
        layer: what stood here.

    Attributes:
        fires: whether it has neurons.
        heard: what the spikes of a loop's steps told.
    """

    def __init__(self, layer: SpikingLayer | PassLayer) -> None:
        super().__init__()
        self.layer = layer
        self.plan = layer.plan
        self.fires = layer.neuron is not None
        self.heard: list[Evidence] = []
        self._pool = layer.plan.window if self.fires and layer.plan.pool else None
        if self._pool is not None:
            layer.plan = replace(layer.plan, pool=False)

    def shown(self, x: Value, steps: int, generator: torch.Generator | None) -> tuple[Value, Evidence | None]:
        """What the layer gives over all steps, and what its spikes tell.

        Args:
            x: its input.
            steps: T.
            generator: draws of the layer.
        """
        given = self._given(x.tensor, steps, x.still, generator)
        told = evidence(_codes(given, steps)) if self.fires else None
        return Value(given if self._pool is None else self._pool(given), self.layer.keeps_still(x.still)), told

    def forward(self, x: Tensor, steps: int, *, moment: Moment) -> tuple[Tensor, Tensor | None]:
        """One step of a loop, on ``x [B, ...]``."""
        given, potential = self.layer(x, steps, moment=moment)
        if self.fires:
            self.heard.append(evidence(given.flatten(1)[None]))
        return given if self._pool is None else self._pool(given), potential

    def _given(self, x: Tensor, steps: int, repeat: bool, generator: torch.Generator | None) -> Tensor:
        """The layer's result; of a norm with statistics of each step one step after another."""
        layer = self.layer
        norm = layer.norm
        pool = layer.plan.window
        if norm is None or self.fires or layer.tap is not None or layer.part() is not None or repeat:
            return layer(x, steps, repeat, generator).detach()  # event lists pay in training: they serve a gradient too
        options = norm.options(steps)
        if _halving(layer) and halves_suit(x, layer.weight, layer.bias, options):
            return normalised_halves(x, layer.weight, steps, options)
        means = layer.plan.pool and pool.kind == "average" and not pool.padding
        behind = pool if means else None
        told = normalise_each(layer.currents, x, behind, steps=steps, scale=norm.scale(), **options)
        return told if means else layer.pooled(told)


def _halving(layer: SpikingLayer | PassLayer) -> TypeGuard[SpikingLayer]:
    """Whether a layer is a plain convolution with means over 2x2 behind it."""
    plan = layer.plan
    if not isinstance(layer, SpikingLayer) or plan.kind != "conv" or layer.product is not None:
        return False
    same = pair(plan.strides) == (1, 1) and plan.padding == same_padding(layer.weight)
    return same and plan.pool and plan.window == TWO_BY_TWO


def _codes(spikes: Tensor, steps: int) -> Tensor:
    """Spikes ``[T*B, ...]`` as ``[T, B, N]``, the neurons in the order of memory: no distance depends on it."""
    if spikes.dim() == 4 and not spikes.is_contiguous():
        spikes = spikes.permute(0, 2, 3, 1)
    return spikes.reshape(steps, -1, spikes[0].numel())


class Watching:
    """A network whose nodes run only where nobody knows what they would give.

    Args:
        net: of ``cell``; changed in place. Its weights must be those of their places.
        cell: tells how many operations with neurons leave a node: the public code gives each neurons of its own, ours
            share them, and they count as often as there. None for a network of no cell, whose neurons count once.
        memory: of networks that see the same batches.
    """

    def __init__(self, net: GraphNetwork, cell: Cell | None, memory: Memory) -> None:
        self._net = net
        self._memory = memory
        self._layers: dict[str, Watched] = {}
        self._keys: dict[str, int] = {INPUT: memory.key(INPUT)}
        self._first: dict[str, str] = {INPUT: INPUT}  # of the nodes that give the same
        self._parts: list[Part] = []
        self._times = {node.name: _times(node.name, cell) for node in net.graph.nodes}
        nodes = {node.name: node for node in net.graph.nodes}
        known: dict[int, str] = {}
        for part in net.parts:
            entering = {name: tuple(self._from_first(e) for e in edges) for name, edges in part.entering.items()}
            self._parts.append(replace(part, entering=entering))
            for name in part.nodes:
                layer = net.get_submodule(name)
                assert isinstance(layer, SpikingLayer | PassLayer)
                self._layers[name] = Watched(layer)
                key = None if part.stepwise else self._key(nodes[name], entering[name])
                if key is not None:
                    self._keys[name] = key
                self._first[name] = name if key is None else known.setdefault(key, name)
        readers = {edge.source: part for part in self._parts for edges in part.entering.values() for edge in edges}
        self._last = {name: part.nodes[0] for name, part in readers.items()}

    def _from_first(self, edge: Edge) -> Edge:
        return replace(edge, source=self._first[edge.source])

    def _key(self, node: Node, entering: tuple[Edge, ...]) -> int | None:
        """Of a node by its plan and all that enters it, and by its place if it has tensors; None behind a loop."""
        if any(edge.source not in self._keys for edge in entering):
            return None
        if node == Node(name=node.name) and len(entering) == 1 and not entering[0].back:
            return self._keys[entering[0].source]
        bare = replace(node, name="") if node.weights == "pass" and not node.norm else node
        return self._memory.key((bare, tuple((self._keys[edge.source], edge.back) for edge in entering)))

    def show(self, batch: int, x: Tensor, generator: torch.Generator) -> Told:
        """What the spiking layers tell of a batch.

        Args:
            batch: its number.
            x: preprocessed images ``[B, C, H, W]``.
            generator: draws of the network.
        """
        values = {INPUT: self._net.source(x, generator)}
        told: dict[str, Evidence] = {}
        running = self._running(batch, values, told)
        heard: Told = []
        for part in self._parts:
            name = part.nodes[0]
            if part.stepwise:
                values |= step_by_step(part, self._layers, values, self._net.steps)
                heard += self._heard(part)
            elif name in running:
                self._run(part, batch, values, told, generator)
            for source in {edge.source for edges in part.entering.values() for edge in edges}:
                if self._last[source] == name:  # memory: what nobody needs any more is free
                    values.pop(source, None)
        neurons = [name for name, layer in self._layers.items() if layer.fires and self._first[name] in told]
        return [(name, told[self._first[name]].times(self._times[name])) for name in neurons] + heard

    def _running(self, batch: int, values: dict[str, Value], told: dict[str, Evidence]) -> set[str]:
        """Nodes that have to run; what the others gave and told is taken from the memory, as far as it is needed."""
        wanted: set[str] = set()
        running: set[str] = set()
        for part in reversed(self._parts):
            name = part.nodes[0]
            sources = {edge.source for edges in part.entering.values() for edge in edges}
            if part.stepwise:
                wanted |= sources
            elif self._first[name] == name:
                key = (self._keys.get(name), batch)
                given = self._memory.given.get(key) if name in wanted else None
                seen = self._memory.told.get(key) if self._layers[name].fires else None
                if (name in wanted and given is None) or (self._layers[name].fires and seen is None):
                    running.add(name)
                    wanted |= sources
                    continue
                self._memory.hits += 1
                if given is not None:
                    values[name] = given
                if seen is not None:
                    told[name] = seen
        return running

    def _run(
        self,
        part: Part,
        batch: int,
        values: dict[str, Value],
        told: dict[str, Evidence],
        generator: torch.Generator,
    ) -> None:
        (name,) = part.nodes
        steps = self._net.steps
        given, seen = self._layers[name].shown(total(part.entering[name], values, steps), steps, generator)
        self._memory.misses += 1
        values[name] = given
        if seen is not None:
            told[name] = seen
        if name in self._keys:
            key = (self._keys[name], batch)
            self._memory.given.put(key, given, given.tensor.nbytes)
            if seen is not None:
                self._memory.told.put(key, seen, 2 * seen.agree.nbytes)

    def _heard(self, part: Part) -> Told:
        """What a loop's neurons told, step by step."""
        found = []
        for name in part.nodes:
            layer = self._layers[name]
            found += [(name, seen.times(self._times[name])) for seen in layer.heard]
            layer.heard = []
        return found


def _times(name: str, cell: Cell | None) -> int:
    """Calls that the public code counts for a node's neurons."""
    if cell is None:
        return 1
    part, _, place = name.partition(".fire")
    if not part.startswith("cell") or not place:
        return 1
    firing = {op.code for op in cell_ops() if op.spiking}
    return sum(code in firing for code in cell.canonical.rows[int(place)])
