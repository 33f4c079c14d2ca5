"""A forward pass that keeps what each layer's currents came from, so that many backward passes can follow it.

Each tapped layer is one node of the graph: weights, normalisation with running statistics, neurons over all time
steps. In a backward pass from the first t steps it reads no row of a later one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from spikefed.networks.layers import Moment, PassLayer, SpikingLayer, WeightedLayer
from spikefed.networks.pools import TWO_BY_TWO
from spikefed.neurons import (
    conv2d_gradient,
    kernels,
    lif_step,
    linear_gradient,
    norm_lif,
    norm_lif_gradient,
    normalise,
    spike_linear,
)

SMALLEST = 1e-20
"""Stands for a scale of exactly 0, through which no gradient of a norm's own parameters could be read."""


@dataclass
class Prefix:
    """The first steps that the backward pass at hand begins from."""

    steps: int = 0


@dataclass
class Call:
    """One use of a layer.

    Attributes:
        first: its first time step, from 0.
        steps: how many it covers.
        still: currents are the same at every one of them and stand in ``x`` and ``y`` once.
        fires: its neurons belong to the node.
        x: what entered, ``[steps*B, ...]``, or ``[B, ...]`` if still.
        y: currents before the normalisation, likewise.
        gradient: of the rows of ``y`` that the last backward pass reached; None: it reached none.
        options: the normalisation's, made once (`Tap.normalisation`).
        gain: what it multiplies with, likewise (`Tap.gain`).
    """

    first: int
    steps: int
    still: bool
    fires: bool
    x: Tensor = field(default_factory=lambda: torch.empty(0))
    y: Tensor = field(default_factory=lambda: torch.empty(0))
    gradient: Tensor | None = None
    options: dict[str, Any] | None = None
    gain: Tensor | None = None


class Tap:
    """Stands in for ``forward`` of one spiking layer.

    Args:
        name: of the layer.
        layer: in eval mode.
        prefix: shared by all taps of a network.
        anchor: a scalar that requires a gradient, so that every node is part of the graph.
    """

    def __init__(self, name: str, layer: SpikingLayer | PassLayer, prefix: Prefix, anchor: Tensor) -> None:
        self.name = name
        self.layer = layer
        self.prefix = prefix
        self.calls: list[Call] = []
        self._anchor = anchor
        self._by_place: Tensor | None = None

    def forget(self) -> None:
        """What belongs to the forward pass before."""
        self.calls.clear()
        self._by_place = None

    def __call__(
        self,
        x: Tensor,
        steps: int,
        repeat: bool = False,
        generator: torch.Generator | None = None,
        moment: Moment | None = None,
    ) -> Tensor | tuple[Tensor, Tensor | None]:
        """As the layer's own ``forward``."""
        layer = self.layer
        if not isinstance(layer, WeightedLayer):
            x = layer.currents(x)
        if moment is not None:
            currents = self._through(x, Call(moment.step, 1, still=False, fires=False))
            if layer.neuron is None:
                return layer.pooled(currents), None
            spikes, potential = lif_step(currents, moment.potential, layer.neuron)
            return layer.pooled(spikes), potential
        still = repeat and (layer.norm is None or layer.norm.steps is None)
        if repeat and not still:
            x = x.repeat(steps, *[1] * (x.dim() - 1))
        out = self._through(x, Call(0, steps, still, fires=layer.neuron is not None))
        return out if layer.neuron is not None and self._pools else layer.pooled(out)

    @property
    def _pools(self) -> bool:
        return self.layer.plan.pool and self.layer.plan.window == TWO_BY_TWO

    def _through(self, x: Tensor, call: Call) -> Tensor:
        self.calls.append(call)
        return _Node.apply(x, self._anchor, self, call)  # type: ignore[return-value]

    def forward(self, call: Call) -> Tensor:
        """From ``call.x [steps*B, ...]``: keeps ``call.y``, gives spikes or normalised currents, likewise."""
        layer = self.layer
        call.y = self._currents(call.x) if isinstance(layer, WeightedLayer) else call.x
        if call.fires and kernels() == "auto" and call.y.dim() == 4:
            call.y = call.y.contiguous(memory_format=torch.channels_last)  # as the kernels read it, once for all passes
        options = self.normalisation(call, call.steps)
        if call.fires:
            assert layer.neuron is not None
            return norm_lif(call.y, layer.neuron, **self._firing(call, call.steps), **options, training=False)
        if options["norm"] == "none":
            return call.y.view_as(call.y)
        options = {key: value for key, value in options.items() if key != "alpha"}
        steps = 1 if call.still else call.steps
        return normalise(call.y, steps=steps, scale=self.scale(), training=False, **options)

    def backward(self, call: Call, upstream: Tensor, wanted: bool) -> Tensor | None:
        """From the gradient of the result ``[steps*B, ...]``: keeps that of ``call.y``, gives that of ``call.x``.

        Rows of steps behind the prefix are 0.
        """
        live = min(max(self.prefix.steps - call.first, 0), call.steps)
        if not live:
            return torch.zeros_like(call.x) if wanted else None
        batch = len(call.x) if call.still else len(call.x) // call.steps
        y = call.y if call.still else call.y[: live * batch]
        if call.fires:
            options = self._firing(call, live) | self.normalisation(call, live)
            assert self.layer.neuron is not None
            call.gradient = norm_lif_gradient(y, upstream[: live * batch], self.layer.neuron, **options)
        else:
            gain = self.gain(call, live)
            come = upstream if call.still else upstream[: live * batch]
            call.gradient = come if gain is None else _by_channel(come, gain)
        return self._entering(call, call.gradient) if wanted else None

    def _entering(self, call: Call, gradient: Tensor) -> Tensor:
        shape = torch.Size([len(gradient), *call.x.shape[1:]])
        layer = self.layer
        if isinstance(layer, WeightedLayer) and layer.plan.kind == "conv":
            options = {"padding": layer.plan.padding, "stride": layer.plan.strides}
            gradient = conv2d_gradient(gradient, layer.weight, shape, **options)
        elif isinstance(layer, WeightedLayer) and self._by_place is not None:
            channels, height, width = shape[1:]
            rows = linear_gradient(gradient, self._by_place, torch.Size([len(gradient), height, width, channels]))
            gradient = rows.permute(0, 3, 1, 2)
        elif isinstance(layer, WeightedLayer):
            gradient = linear_gradient(gradient, layer.weight, shape)
        if len(gradient) == len(call.x):
            return gradient
        whole = torch.zeros_like(call.x)
        whole[: len(gradient)] = gradient
        return whole

    def _currents(self, x: Tensor) -> Tensor:
        """The layer's weighted sums; a linear layer reads maps as they stand in memory, its weights brought to that."""
        layer = self.layer
        assert isinstance(layer, WeightedLayer)
        plain = layer.product is None and layer.parts is None and kernels() == "auto" and x.dtype == torch.float32
        self._by_place = None
        if not plain or x.dim() != 4:
            return layer.currents(x)
        if layer.plan.kind == "conv":
            if x.shape[1] == 1:  # one channel stands in both orders: called the last, so do those of the result
                x = x.contiguous().as_strided(x.shape, (x[0].numel(), 1, x.shape[3], 1))
            return layer.currents(x)
        if x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
            return layer.currents(x)
        weight = layer.weight.detach().unflatten(1, x.shape[1:])
        self._by_place = weight.permute(0, 2, 3, 1).flatten(1)
        return spike_linear(x.permute(0, 2, 3, 1).flatten(1), self._by_place, layer.bias)

    def _firing(self, call: Call, steps: int) -> dict[str, Any]:
        return {"steps": steps, "pool": self._pools, "repeat": call.still}

    def normalisation(self, call: Call, steps: int) -> dict[str, Any]:
        """Arguments of `norm_lif` for the first steps of a call."""
        norm = self.layer.norm
        if norm is None:
            return {"norm": "none"}
        if call.options is None:
            own = slice(None) if norm.steps is None else slice(call.first, call.first + call.steps)
            found = {key: getattr(norm, key) for key in ("weight", "bias", "running_mean", "running_var")}
            found = {key: None if value is None else value.detach()[own] for key, value in found.items()}
            found["weight"] = found["weight"].masked_fill(found["weight"] == 0, SMALLEST)
            mode = "bn" if norm.mode == "bn-step" else norm.mode
            call.options = {"norm": mode, "eps": norm.eps, "alpha": norm.alpha, **found}
        if norm.steps is None or steps == call.steps:
            return call.options
        return {key: value[:steps] if isinstance(value, Tensor) else value for key, value in call.options.items()}

    def scale(self) -> float:
        """Factor of tdBN, of others 1."""
        norm = self.layer.norm
        neuron = self.layer.neuron
        if norm is None or norm.mode != "tdbn":
            return 1.0
        return norm.scale() if neuron is None else norm.alpha * neuron.v_threshold

    def gain(self, call: Call, steps: int) -> Tensor | None:
        """What the normalisation multiplies currents with, ``[C]`` or ``[steps, C]``; None without one."""
        norm = self.layer.norm
        if norm is None:
            return None
        gain = call.gain
        if gain is None:
            o = self.normalisation(call, call.steps)
            gain = call.gain = self.scale() * o["weight"] / (o["running_var"] + o["eps"]).sqrt()
        return gain if norm.steps is None else gain[:steps]


class _Node(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, anchor: Tensor, tap: Tap, call: Call) -> Tensor:
        ctx.tap = tap
        ctx.call = call
        call.x = x.detach()
        return tap.forward(call)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.tap.backward(ctx.call, grads[0], ctx.needs_input_grad[0]), None, None, None


def _by_channel(x: Tensor, gain: Tensor) -> Tensor:
    """Rows ``[S*B, C, ...]`` times ``[C]`` or ``[S, C]``."""
    shape = [1] * (x.dim() - 2)
    if gain.dim() == 1:
        return x * gain.view(1, -1, *shape)
    return (x.unflatten(0, (len(gain), -1)) * gain.view(len(gain), 1, -1, *shape)).flatten(0, 1)
