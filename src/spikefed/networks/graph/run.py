"""How values pass through a graph: sums over edges, delays, and the loop over time where a part needs one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from spikefed.networks.graph import loop
from spikefed.networks.graph.order import Part
from spikefed.networks.graph.plan import Edge
from spikefed.networks.layers import Moment, PassLayer, SpikingLayer, watched
from spikefed.neurons import Branch, join_lif, joins, normalise, recording


class Value(NamedTuple):
    """What a node gave: ``[T*B, ...]``, or ``[B, ...]`` with ``still``: the same at every step.

    ``norm``: arguments of `normalise` that are still to be applied, by the neurons behind the sum; None for a value.
    """

    tensor: Tensor
    still: bool
    norm: dict[str, Any] | None = None


def run(
    parts: Sequence[Part],
    layers: Mapping[str, nn.Module],
    source: Value,
    output: str,
    steps: int,
    generator: torch.Generator | None,
) -> Tensor:
    """The output node's values, ``[T*B, ...]``.

    Args:
        parts: of the graph, in order.
        layers: module of every node.
        source: the coded images.
        output: name of the node that is asked for.
        steps: T.
        generator: source of dropout.
    """
    values: dict[str, Value] = {"input": source}
    joining, bare = joined_sums(parts, layers)
    for part in parts:
        if part.stepwise:
            values |= step_by_step(part, layers, values, steps)
        else:
            (name,) = part.nodes
            arriving = part.entering[name]
            if name in joining:
                values[name] = _joined(cast(PassLayer, layers[name]), [values[e.source] for e in arriving], steps)
            else:
                x = total(arriving, values, steps)
                values[name] = _at_once(cast(SpikingLayer, layers[name]), x, steps, generator, name in bare)
                del x  # memory: what a layer does not save for backward is free as soon as nobody needs it
        for name in part.done:
            values.pop(name, None)
    return in_time(values[output], steps)


def _at_once(
    layer: SpikingLayer | PassLayer, x: Value, steps: int, generator: torch.Generator | None, bare: bool
) -> Value:
    """A node over all steps; ``bare``: its norm is left to the neurons behind the sum that it enters."""
    if bare and not x.still and layer.norm is not None:
        return Value(layer.currents(x.tensor), False, {**layer.norm.options(steps), "scale": layer.norm.scale()})
    return Value(layer(x.tensor, steps, x.still, generator), layer.keeps_still(x.still))


def joined_sums(parts: Sequence[Part], layers: Mapping[str, nn.Module]) -> tuple[set[str], set[str]]:
    """Nodes whose neurons take the norms of the branches before their sum, and the nodes whose norms they take.

    A residual sum: a node that only adds and fires, and weights with a norm that lead there and nowhere else. None
    while somebody looks at the nodes one by one.
    """
    if recording():
        return set(), set()
    edges = [edge for part in parts for edge in chain(*part.entering.values(), *part.inside.values())]
    targets: dict[str, list[Edge]] = {}
    for edge in edges:
        targets.setdefault(edge.source, []).append(edge)
    kept = {name for part in parts if part.stepwise for name in part.nodes}
    bare = {
        name
        for name, layer in layers.items()
        if name not in kept and _only_normed(layer) and len(targets.get(name, ())) == 1 and not targets[name][0].back
    }
    joining = set()
    for part in parts:
        name = part.nodes[0]
        arriving = part.entering[part.nodes[0]]
        sums = not part.stepwise and len(arriving) > 1 and not any(edge.back for edge in arriving)
        if sums and _only_fires(layers[name]) and any(edge.source in bare for edge in arriving):
            joining.add(name)
    return joining, {name for name in bare if targets[name][0].target in joining}


def _only_normed(layer: nn.Module) -> bool:
    if type(layer) is not SpikingLayer or watched(layer) or layer.norm is None:
        return False
    return layer.neuron is None and not layer.plan.pool and not layer.dropout


def _only_fires(layer: nn.Module) -> bool:
    if type(layer) is not PassLayer or watched(layer) or layer.neuron is None or layer.thresholds:
        return False
    if layer.neuron.start:  # the kernel of joined branches begins at 0
        return False
    return layer.norm is None and layer.plan.map_shape == layer.plan.in_shape and not layer.dropout


def _joined(layer: PassLayer, values: Sequence[Value], steps: int) -> Value:
    """Sum, neurons and pool, of branches some of whose norms are still to be applied."""
    p = layer.neuron
    assert p is not None
    branches = [Branch(in_time(value, steps), value.norm) for value in values]
    if joins(branches):
        return Value(layer.pooled(join_lif(branches, p, count=steps)), False)
    plain = [b.x if b.norm is None else normalise(b.x, steps=steps, **b.norm) for b in branches]
    return Value(layer(_sum(plain), steps), False)


def total(edges: Sequence[Edge], values: Mapping[str, Value], steps: int) -> Value:
    """The sum over edges whose sources have run over all time steps; of one forward edge the value itself."""
    brought = [_delayed(values[e.source], steps) if e.back else values[e.source] for e in edges]
    if all(value.still for value in brought) or not any(value.still for value in brought):
        return Value(_sum([value.tensor for value in brought]), brought[0].still)
    moving = _sum([value.tensor for value in brought if not value.still])
    still = _sum([value.tensor for value in brought if value.still])
    return Value((moving.unflatten(0, (steps, -1)) + still).flatten(0, 1), False)


def in_time(value: Value, steps: int) -> Tensor:
    """``[T*B, ...]``, whatever the value."""
    if not value.still:
        return value.tensor
    return value.tensor.expand(steps, *value.tensor.shape).flatten(0, 1)


def _sum(tensors: Sequence[Tensor]) -> Tensor:
    first, *rest = tensors
    for tensor in rest:
        first = first + tensor
    return first


def _delayed(value: Value, steps: int) -> Value:
    """One step later; nothing at the first."""
    moved = in_time(value, steps).unflatten(0, (steps, -1))
    return Value(torch.cat([torch.zeros_like(moved[:1]), moved[:-1]]).flatten(0, 1), False)


def step_by_step(
    part: Part, layers: Mapping[str, nn.Module], values: Mapping[str, Value], steps: int
) -> dict[str, Value]:
    """Run a loop of the graph; gives the values that others need, ``[T*B, ...]``.

    Args:
        part: the loop.
        layers: module of every node.
        values: of the nodes before it, by name.
        steps: T.
    """
    outside = {name: total(edges, values, steps) for name, edges in part.entering.items() if edges}
    sample = next(iter(outside.values()))
    if loop.takes(part, layers, sample.tensor):
        entering = {name: loop.Entering(value.tensor, value.still) for name, value in outside.items()}
        return {name: Value(x, False) for name, x in loop.run_loop(part, layers, entering, steps).items()}
    rows = sample.tensor.shape[0] if sample.still else sample.tensor.shape[0] // steps
    arriving = {
        name: [x.tensor] * steps if x.still else x.tensor.unflatten(0, (steps, -1)).unbind(0)
        for name, x in outside.items()
    }
    before: dict[str, Tensor] = {}
    potentials: dict[str, Tensor | None] = dict.fromkeys(part.nodes)
    given: dict[str, list[Tensor]] = {name: [] for name in part.leaving}
    for t in range(steps):
        now: dict[str, Tensor] = {}
        for name in part.nodes:
            layer = cast(SpikingLayer | PassLayer, layers[name])
            brought = [arriving[name][t]] if name in arriving else []
            for edge in part.inside[name]:
                found = before if edge.back else now
                if edge.source in found:
                    brought.append(found[edge.source])
            x = _sum(brought) if brought else sample.tensor.new_zeros(rows, *layer.plan.in_shape)
            now[name], potentials[name] = layer(x, steps, moment=Moment(t, potentials[name]))
        before = now
        for name, tensors in given.items():
            tensors.append(now[name])
    return {name: Value(torch.cat(tensors), False) for name, tensors in given.items()}
