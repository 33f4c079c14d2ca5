"""Networks that share a beginning run it once: what a node gave is remembered by all that led to it.

Two cells that agree in their first edges compute the same up to the first difference, given the same images and the
same weights in the same places. So weights belong to places: each is drawn from a seed and the node's name
(`spikefed.networks.initialise_by_place`), and a node's result is known by its own plan and by what enters it
(`Memory`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from spikefed.networks import GraphNetwork, PassLayer, SpikingLayer
from spikefed.networks.cells import Cell, cell_ops
from spikefed.networks.graph import INPUT, in_order
from spikefed.networks.layers import Moment
from spikefed.neurons import normalise_pooled
from spikefed.search.kernels import Evidence, evidence

Result = tuple[Tensor, Evidence | None]
Told = list[tuple[str, Evidence]]
"""What spiking layers told, each by its node's name, step by step in a loop."""


class Memory:
    """Results of nodes that were asked for more than once, the least used thrown away first.

    What is asked for a first time is only noted: most results of a second cell never come again, and would push out
    those of a first one that do.

    Args:
        limit_bytes: of all tensors that are kept.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held: OrderedDict[Hashable, Result] = OrderedDict()
        self._bytes = 0
        self._keys: dict[Hashable, int] = {}
        self._asked: set[Hashable] = set()
        self.hits = 0
        self.misses = 0

    def key(self, structure: Hashable) -> int:
        """A number for a structure, the same whenever it comes again."""
        return self._keys.setdefault(structure, len(self._keys))

    def get(self, key: Hashable) -> Result | None:
        """What is remembered under a key, or None."""
        found = self._held.get(key)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._held.move_to_end(key)
        return found

    def put(self, key: Hashable, result: Result) -> None:
        """Remember a result, if it was asked for before."""
        size = _size(result)
        if key not in self._asked or size > self._limit:
            self._asked.add(key)
            return
        self._held[key] = result
        self._bytes += size
        while self._bytes > self._limit:
            _, old = self._held.popitem(last=False)
            self._bytes -= _size(old)


def _size(result: Result) -> int:
    tensor, told = result
    return tensor.nbytes + (0 if told is None else 2 * told.agree.nbytes)


class Watching:
    """What the layers of one network share while it is shown batches of images.

    Args:
        memory: of networks that see the same batches, with the same weights in the same places.

    Attributes:
        batch: number of the batch that is shown.
        told: what spiking layers said of it.
    """

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.batch = 0
        self.told: Told = []

    def show(self, batch: int) -> None:
        """Begin with a batch."""
        self.batch = batch
        self.told = []


class Watched(nn.Module):
    """Stands where a layer stood: takes its result from the memory if it is there, and its spikes' evidence.

    Args:
        layer: what stood here.
        watching: shared with the network's other layers.
        key: of its result; None in a loop, whose steps are not remembered.
        times: how often its spikes count as a call.
    """

    def __init__(self, layer: SpikingLayer | PassLayer, watching: Watching, key: int | None, times: int) -> None:
        super().__init__()
        self.layer = layer
        self.plan = layer.plan
        self.keeps_still = layer.keeps_still
        self._watching = watching
        self._key = key
        self._times = times
        self._fires = layer.neuron is not None
        self._pool = layer.plan.window if self._fires and layer.plan.pool else None
        if self._pool is not None:
            layer.plan = replace(layer.plan, pool=False)

    def forward(
        self,
        x: Tensor,
        steps: int,
        repeat: bool = False,
        generator: torch.Generator | None = None,
        moment: Moment | None = None,
    ) -> Tensor | tuple[Tensor, Tensor | None]:
        """As the layer's.

        Args:
            x: input of the layer, time folded into the batch.
            steps: T.
            repeat: whether every step sees the same input.
            generator: draws of the layer.
            moment: the step, where a graph runs step by step.
        """
        if moment is not None:
            return self._one_step(x, steps, moment)
        memory = self._watching.memory
        key = (self._key, self._watching.batch)
        found = None if self._key is None else memory.get(key)
        if found is None:
            given = self._given(x, steps, repeat, generator)
            seen = evidence(_codes(given, steps)) if self._fires else None
            found = (given if self._pool is None else self._pool(given), seen)
            if self._key is not None:
                memory.put(key, found)
        given, seen = found
        if seen is not None:
            self._watching.told.append((self.plan.name, seen.times(self._times)))
        return given

    def _given(self, x: Tensor, steps: int, repeat: bool, generator: torch.Generator | None) -> Tensor:
        """The layer's result; of a norm with a mean pool behind it by way of the smaller map."""
        layer = self.layer
        norm = layer.norm
        pool = layer.plan.window
        means = layer.plan.pool and pool.kind == "average" and not pool.padding
        if not means or norm is None or self._fires or layer.tap is not None or layer.part() is not None or repeat:
            return layer(x, steps, repeat, generator).detach()  # event lists pay in training: they serve a gradient too
        options = norm.options(steps)
        return normalise_pooled(layer.currents(x), pool, steps=steps, scale=norm.scale(), **options)

    def _one_step(self, x: Tensor, steps: int, moment: Moment) -> tuple[Tensor, Tensor | None]:
        given, potential = self.layer(x, steps, moment=moment)
        if self._fires:
            self._watching.told.append((self.plan.name, evidence(given.flatten(1)[None]).times(self._times)))
        return given if self._pool is None else self._pool(given), potential


def _codes(spikes: Tensor, steps: int) -> Tensor:
    """Spikes ``[T*B, ...]`` as ``[T, B, N]``, the neurons in the order of memory: no distance depends on it."""
    if spikes.dim() == 4 and not spikes.is_contiguous():
        spikes = spikes.permute(0, 2, 3, 1)
    return spikes.reshape(steps, -1, spikes[0].numel())


def watch(net: GraphNetwork, cell: Cell | None, memory: Memory) -> Watching:
    """Put `Watched` in the place of every layer; gives what they share.

    Args:
        net: of ``cell``; changed in place. Its weights must be those of their places.
        cell: tells how many operations with neurons leave a node: the public code gives each neurons of its own, ours
            share them, and they count as often as there. None for a network of no cell, whose neurons count once.
        memory: see `Watching`.
    """
    watching = Watching(memory)
    keys: dict[str, int] = {INPUT: memory.key(INPUT)}
    for node in in_order(net.graph):
        layer = net.get_submodule(node.name)
        assert isinstance(layer, SpikingLayer | PassLayer)
        key = None if net.stepwise(node.name) else _key(net, node.name, keys, memory)
        if key is not None:
            keys[node.name] = key
        net.set_submodule(node.name, Watched(layer, watching, key, _times(node.name, cell)))
    return watching


def _key(net: GraphNetwork, name: str, keys: Mapping[str, int], memory: Memory) -> int | None:
    """Of a node by its plan and all that enters it; None behind a loop."""
    entering = [(keys.get(edge.source), edge.back) for edge in net.graph.into(name)]
    if any(source is None for source, _ in entering):
        return None
    return memory.key((net.graph.node(name), tuple(entering)))


def _times(name: str, cell: Cell | None) -> int:
    """Calls that the public code counts for a node's neurons."""
    if cell is None:
        return 1
    part, _, place = name.partition(".fire")
    if not part.startswith("cell") or not place:
        return 1
    firing = {op.code for op in cell_ops() if op.spiking}
    return sum(code in firing for code in cell.canonical.rows[int(place)])
