"""A loop of a graph on native kernels: one autograd function for all its nodes and steps.

The same equations as `run.step_by_step`, in the same order, but sums and norms are read lazily (`Term`), and what is
kept for the way back are the neurons' potentials and what entered the norms. The way back goes through the steps from
the last to the first, and within one through the nodes in reverse order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spikefed.networks.graph.order import Part
from spikefed.networks.layers import PassLayer, SpikingLayer, watched
from spikefed.neurons import Products, recording, steps


class Entering(NamedTuple):
    """What comes into a node from outside the loop: ``[T*B, ...]``, or ``[B, ...]`` with ``still``."""

    tensor: Tensor
    still: bool


class Place:
    """A node of the loop, and the places of its tensors among the function's arguments."""

    def __init__(self, name: str, layer: SpikingLayer | PassLayer, part: Part, first: int) -> None:
        self.name = name
        self.layer = cast(SpikingLayer, layer)  # a `PassLayer` has no weights, and ``product`` is None then
        self.first = first
        self.sources = [(edge.source, edge.back) for edge in part.inside[name]]
        self.leaves = name in part.leaving
        self.product = None if isinstance(layer, PassLayer) else Products(layer.plan.strides)
        self.spikes = layer.neuron is not None and not layer.plan.pool

    def tensors(self) -> list[Tensor | None]:
        """Weight ``[Cout, Cin, K, K]``, bias ``[Cout]``, and the norm's."""
        layer = self.layer
        norm = layer.norm
        own = [None, None] if self.product is None else [layer.weight, layer.bias]
        return [*own, *([None, None] if norm is None else [norm.weight, norm.bias])]


class Kept(NamedTuple):
    """Of one node and step, for the way back."""

    x: Tensor | None  # what entered the weights; None: the spikes that ``spikes`` names
    spikes: str | None  # the node whose spikes entered the weights as they are; its potentials tell them again
    y: Tensor | None  # what entered the norm
    made: Tensor | None
    of_batch: bool
    potential: Tensor | None
    before_pool: torch.Size | None
    brought: list[tuple[str, bool]]


def takes(part: Part, layers: Mapping[str, nn.Module], sample: Tensor) -> bool:
    """Whether the loop can run here: native kernels, floats of 32 or 16 bits, layers of known kinds, nobody looking.

    Args:
        part: the loop.
        layers: module of every node.
        sample: something that enters, ``[T*B, ...]`` or ``[B, ...]``.
    """
    if sample.device.type != "cpu" or not steps.available() or recording() or _dtype(sample) is None:
        return False
    return all(_known(cast(SpikingLayer, layers[name])) for name in part.nodes)


def _known(layer: SpikingLayer | PassLayer) -> bool:
    plan = layer.plan
    if (
        type(layer) not in (SpikingLayer, PassLayer)
        or plan.kind == "linear"
        or watched(layer)
        or (layer.neuron is not None and layer.neuron.start)  # the kernel begins at 0
        or getattr(layer, "product", None)
        or layer.thresholds is not None
    ):
        return False
    if plan.kind == "pass" and plan.map_shape != plan.in_shape:
        return False
    if plan.pool and plan.window.kind != "average":
        return False
    tensors = [*layer.parameters(), *(b for b in layer.buffers() if b.is_floating_point())]
    return len(plan.in_shape) == 3 and all(t.dtype == torch.float32 and t.is_contiguous() for t in tensors)


def _dtype(x: Tensor) -> torch.dtype | None:
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    return dtype if dtype in (torch.float32, torch.bfloat16) else None


def run_loop(
    part: Part, layers: Mapping[str, nn.Module], entering: Mapping[str, Entering], count: int
) -> dict[str, Tensor]:
    """Values ``[T*B, ...]`` of the nodes that others need. Call only where `takes`.

    Args:
        part: the loop.
        layers: module of every node.
        entering: what comes from outside, by node.
        count: T.
    """
    places, first = [], 0
    for name in part.nodes:
        places.append(Place(name, cast(SpikingLayer, layers[name]), part, first))
        first += 4
    learnt = [t for place in places for t in place.tensors()]
    dtype = _dtype(next(iter(entering.values())).tensor)
    assert dtype is not None
    names = [name for name, place in zip(part.nodes, places, strict=True) if place.leaves]
    call = _Call(places, list(entering), [value.still for value in entering.values()], count, dtype, names)
    outside = [value.tensor for value in entering.values()]
    outs = _Loop.apply(call, *outside, *learnt)
    return dict(zip(names, cast(tuple[Tensor, ...], outs), strict=True))


class _Call:
    """What one call does, beside its tensors."""

    def __init__(
        self, places: list[Place], entering: list[str], still: list[bool], count: int, dtype: torch.dtype,
        leaving: list[str],
    ) -> None:  # fmt: skip
        self.places = places
        self.entering = entering
        self.still = still
        self.count = count
        self.dtype = dtype
        self.leaving = leaving
        self.spiking = {place.name: place.layer.neuron for place in places if place.spikes}

    def brought(self, outside: Sequence[Tensor], t: int) -> dict[str, Tensor]:
        """What enters from outside at step t."""
        rows = self._rows(outside)
        pairs = zip(self.entering, outside, self.still, strict=True)
        return {name: x if still else x[t * rows : (t + 1) * rows] for name, x, still in pairs}

    def _rows(self, outside: Sequence[Tensor]) -> int:
        return len(outside[0]) if self.still[0] else len(outside[0]) // self.count


class _Loop(torch.autograd.Function):
    @staticmethod
    def forward(ctx, call: _Call, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.shapes = [(x.shape, x.dtype) for x in tensors[: len(call.entering)]]
        outside = [steps.laid_out(x.to(call.dtype)) for x in tensors[: len(call.entering)]]
        learning = any(ctx.needs_input_grad)
        forward = _Forward(call, learning)
        with torch.autocast("cpu", enabled=False):
            for t in range(call.count):
                forward.step(t, call.brought(outside, t))
        ctx.call, ctx.kept = call, forward.kept
        return tuple(forward.outs[name] for name in call.leaving)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        call = ctx.call
        back = _Backward(call, ctx.needs_input_grad[1:])
        rows = [None if g is None else steps.laid_out(g.to(call.dtype)).chunk(call.count) for g in grads]
        with torch.autocast("cpu", enabled=False):
            for t in reversed(range(call.count)):
                upstream = {n: r[t] for n, r in zip(call.leaving, rows, strict=True) if r is not None}
                back.step(t, ctx.kept[t], upstream)
        outside = [
            back.entering(name, shape, dtype) for name, (shape, dtype) in zip(call.entering, ctx.shapes, strict=True)
        ]
        return None, *outside, *back.learnt


class _Forward:
    """The steps in turn; ``kept``: of every step and node what the way back needs."""

    def __init__(self, call: _Call, learning: bool) -> None:
        self.call, self.learning = call, learning
        self.before: dict[str, list[steps.Term]] = {}
        self.potentials: dict[str, Tensor] = {}
        self.outs: dict[str, Tensor] = {}
        self.kept: list[dict[str, Kept]] = []

    def step(self, t: int, entering: Mapping[str, Tensor]) -> None:
        now: dict[str, list[steps.Term]] = {}
        kept: dict[str, Kept] = {}
        sample = next(iter(entering.values()))
        for place in self.call.places:
            terms = [steps.Term(entering[place.name])] if place.name in entering else []
            brought = []
            for source, back in place.sources:
                found = self.before if back else now
                if source in found:
                    terms += found[source]
                    brought.append((source, back))
            if not terms:
                shape = (len(sample), *place.layer.plan.in_shape)
                terms = [steps.Term(steps.laid_out(torch.zeros(shape, dtype=self.call.dtype)))]
            now[place.name], kept[place.name] = self._node(place, few(terms), t, brought)
            if place.leaves:
                self._leave(place.name, now[place.name], t)
        self.before = now
        if self.learning:
            self.kept.append(kept)

    def _node(
        self, place: Place, terms: list[steps.Term], t: int, brought: list[tuple[str, bool]]
    ) -> tuple[list[steps.Term], Kept]:
        layer = place.layer
        x = y = made = potential = size = None
        of_batch = False
        if place.product is not None:
            x = steps.total(terms)
            terms = [steps.Term(place.product.forward(x, layer.weight, layer.bias))]
        if layer.norm is not None:
            y, options = steps.total(terms), norm_options(layer, t)
            made, of_batch = steps.statistics(y, options), options.of_batch
            terms = [steps.Term(y, made)]
        if layer.neuron is not None:
            spikes, potential, _ = steps.fire(terms, self.potentials.get(place.name), layer.neuron)
            self.potentials[place.name] = potential
            terms = [steps.Term(spikes)]
        if layer.plan.pool:
            whole = steps.total(terms)
            size = whole.shape
            terms = [steps.Term(steps.laid_out(layer.plan.window(whole)))]
        spikes = self._told(place, brought)
        return terms, Kept(None if spikes else x, spikes, y, made, of_batch, potential, size, brought)

    def _told(self, place: Place, brought: list[tuple[str, bool]]) -> str | None:
        """The node whose spikes of this step, and nothing else, enter; its potentials are kept anyway."""
        if place.product is None or place.name in self.call.entering or len(brought) != 1 or brought[0][1]:
            return None
        return brought[0][0] if brought[0][0] in self.call.spiking else None

    def _leave(self, name: str, terms: list[steps.Term], t: int) -> None:
        x = terms[0].x
        if name not in self.outs:
            shape = (self.call.count * len(x), *x.shape[1:])
            form = torch.channels_last if x.dim() == 4 else torch.contiguous_format
            self.outs[name] = torch.empty(shape, dtype=x.dtype, memory_format=form)
        steps.total(terms, self.outs[name][t * len(x) : (t + 1) * len(x)])


def few(terms: list[steps.Term]) -> list[steps.Term]:
    """The same sum in as many terms as a kernel takes."""
    while len(terms) > steps.MOST_TERMS:
        head, terms = terms[: steps.MOST_TERMS], terms[steps.MOST_TERMS :]
        terms = [steps.Term(steps.total(head)), *terms]
    return terms


def norm_options(layer: Any, t: int) -> steps.NormOptions:
    """Of the layer's norm at step t, which is counted."""
    o = layer.norm.options_at(t)
    return steps.NormOptions(
        o["weight"], o["bias"], o["running_mean"], o["running_var"], o["training"], o["momentum"], o["eps"],
        layer.norm.scale(),
    )  # fmt: skip


class _Backward:
    """The steps from the last to the first."""

    def __init__(self, call: _Call, wanted: Sequence[bool]) -> None:
        self.call = call
        outside = len(call.entering)
        self.wanted, self.wants_outside = wanted[outside:], dict(zip(call.entering, wanted[:outside], strict=True))
        self.learnt: list[Tensor | None] = [None] * len(self.wanted)
        self.carried: dict[str, Tensor] = {}
        self.later: dict[str, list[Tensor]] = {}  # what edges back in time bring to the step before
        self.outside: dict[str, list[Tensor]] = {name: [] for name in call.entering}

    def step(self, t: int, kept: Mapping[str, Kept], upstream: Mapping[str, Tensor]) -> None:
        now, self.later = self.later, {}
        seen: dict[str, Tensor] = {}
        for name, grad in upstream.items():
            now.setdefault(name, []).append(grad)
        for place in reversed(self.call.places):
            grads, saved = now.pop(place.name, []), kept[place.name]
            if not grads and place.name not in self.carried:
                if self.wants_outside.get(place.name):
                    self.outside[place.name].append(torch.empty(0))
                continue
            x = self._entered(saved, kept, seen)
            grads = self._node(place, saved, x, grads, t)
            for source, back in saved.brought:
                (self.later if back else now).setdefault(source, []).extend(grads)
            if self.wants_outside.get(place.name):
                self.outside[place.name].append(added(grads))

    def _entered(self, saved: Kept, kept: Mapping[str, Kept], seen: dict[str, Tensor]) -> Tensor | None:
        """What entered a node's weights; ``seen``: spikes of this step that were told already."""
        if saved.spikes is None:
            return saved.x
        if saved.spikes not in seen:
            potential, p = kept[saved.spikes].potential, self.call.spiking[saved.spikes]
            assert potential is not None and p is not None
            seen[saved.spikes] = steps.spikes_of(potential, p, self.call.dtype)
        return seen[saved.spikes]

    def _node(self, place: Place, kept: Kept, x: Tensor | None, grads: list[Tensor], t: int) -> list[Tensor]:
        """What adds up to the gradient of what entered, from what adds up to that of the output."""
        layer = place.layer
        if grads and kept.before_pool is not None:
            grads = [pooled_back(layer.plan.window, added(grads), kept.before_pool)]
        if layer.neuron is not None:
            assert kept.potential is not None
            back = steps.fire_backward(
                kept.potential, few_grads(grads), self.carried.get(place.name), layer.neuron, self.call.dtype
            )
            grads, self.carried[place.name] = [back[0]], back[1]
        if layer.norm is not None:
            assert kept.y is not None and kept.made is not None
            grad, sums = steps.norm_backward(kept.y, kept.made, added(grads), kept.of_batch)
            own = t if layer.norm.steps is not None else None
            self._learn(place.first + 2, layer.norm.weight, sums[1] * layer.norm.scale(), own)
            self._learn(place.first + 3, layer.norm.bias, sums[0], own)
            grads = [grad]
        if place.product is None:
            return grads
        assert x is not None
        grad = added(grads)
        if self.wanted[place.first]:
            self._learn(place.first, layer.weight, place.product.weight_gradient(grad, x, layer.weight), None)
        if self.wanted[place.first + 1]:
            self._learn(place.first + 1, layer.bias, grad.sum((0, 2, 3), dtype=torch.float32), None)
        return [place.product.input_gradient(grad, layer.weight, x.shape)]

    def _learn(self, index: int, parameter: Tensor | None, part: Tensor, step: int | None) -> None:
        """Add a step's part of a parameter's gradient; ``step``: to that row of it."""
        if not self.wanted[index]:
            return
        assert parameter is not None
        total = self.learnt[index]
        if total is None:
            total = self.learnt[index] = torch.zeros_like(parameter)
        (total if step is None else total[step]).add_(part)

    def entering(self, name: str, shape: torch.Size, dtype: torch.dtype) -> Tensor | None:
        """Gradient of what entered a node from outside."""
        if not self.wants_outside[name]:
            return None
        given = self.outside[name][::-1]
        sample = next((g for g in given if g.numel()), None)
        if sample is None:
            return torch.zeros(shape, dtype=dtype)
        parts = [g if g.numel() else torch.zeros_like(sample) for g in given]
        still = self.call.still[self.call.entering.index(name)]
        return (steps.laid_out(added(parts)) if still else torch.cat(parts)).to(dtype)


def added(tensors: Sequence[Tensor]) -> Tensor:
    """The sum of tensors ``[B, C, H, W]``; of one itself."""
    return steps.total(few([steps.Term(t) for t in tensors]))


def few_grads(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """The same sum in as many tensors ``[B, C, H, W]`` as a kernel takes."""
    return tensors if len(tensors) <= steps.MOST_TERMS else [added(tensors)]


def pooled_back(pool: Any, grad: Tensor, size: torch.Size) -> Tensor:
    """Gradient of what entered an average pool, ``[B, C, H, W]``."""
    side = list(size[2:]) if pool.size == 0 else list(pool.windows)
    step = side if pool.size == 0 else list(pool.strides)
    unread = torch.empty(size, dtype=grad.dtype, memory_format=torch.channels_last)
    around = [pool.padding] * 2
    return steps.laid_out(torch.ops.aten.avg_pool2d_backward(grad, unread, side, step, around, False, True, None))
