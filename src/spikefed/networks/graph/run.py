"""How values pass through a graph: sums over edges, delays, and the loop over time where a part needs one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from spikefed.networks.graph.order import Part
from spikefed.networks.graph.plan import Edge
from spikefed.networks.layers import Moment, PassLayer, SpikingLayer


class Value(NamedTuple):
    """What a node gave: ``[T*B, ...]``, or ``[B, ...]`` with ``still``: the same at every step."""

    tensor: Tensor
    still: bool


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
    for part in parts:
        if part.stepwise:
            values |= _step_by_step(part, layers, values, steps)
        else:
            (name,) = part.nodes
            layer = cast(SpikingLayer | PassLayer, layers[name])
            x = total(part.entering[name], values, steps)
            values[name] = Value(layer(x.tensor, steps, x.still, generator), layer.keeps_still(x.still))
            del x  # memory: what a layer does not save for backward is free as soon as nobody needs it
        for name in part.done:
            values.pop(name, None)
    return in_time(values[output], steps)


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


def _step_by_step(
    part: Part, layers: Mapping[str, nn.Module], values: Mapping[str, Value], steps: int
) -> dict[str, Value]:
    """Run a loop of the graph; gives the values that others need."""
    outside = {name: total(edges, values, steps) for name, edges in part.entering.items() if edges}
    sample = next(iter(outside.values()))
    rows = sample.tensor.shape[0] if sample.still else sample.tensor.shape[0] // steps
    entering = {
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
            brought = [entering[name][t]] if name in entering else []
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
