"""The one block that all networks are made of: weights, normalisation, neurons (or ReLU), pool; each may be absent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from spikefed.networks.layout import LayerPlan
from spikefed.networks.norms import Norm
from spikefed.networks.parts import Part
from spikefed.networks.pools import TWO_BY_TWO
from spikefed.networks.thresholds import Thresholds
from spikefed.neurons import (
    ChainLayer,
    Firing,
    LIFParameters,
    NormState,
    few_weights,
    lif_step,
    norm_lif,
    normalise,
    recording,
    run_chain,
    spike_conv2d,
    spike_linear,
)
from spikefed.neurons.encoding import generator_at

PER_STEP = ("bntt", "bn-step")
"""Norms whose statistics are those of each time step."""


@dataclass(frozen=True)
class Moment:
    """One time step of a layer that runs step by step.

    Attributes:
        step: from 0 to T - 1.
        potential: of its neurons after the step before; None at the first.
    """

    step: int
    potential: Tensor | None


class Product(Protocol):
    """How a layer's inputs meet its weights, in place of the exact product: a crossbar, say."""

    def __call__(self, x: Tensor) -> Tensor:
        """Weighted sums of the layer's input, the bias included."""
        ...

    def plain(self) -> Tensor | None:
        """A weight with which the exact product gives the same; None where no weight does.

        It has the layer's own shape.
        """
        ...


class PlannedLayer(nn.Module):
    """A layer with sizes, a norm, and dropout of what it gives.

    Args:
        plan: sizes of the layer.
        norm: statistics and affine map of the normalisation, or None.
        dropout: probability that an output is set to 0 in training, the rest growing by 1 / (1 - dropout).
    """

    def __init__(self, plan: LayerPlan, *, norm: Norm | None, dropout: float = 0.0) -> None:
        super().__init__()
        self.plan = plan
        self.norm = norm
        self.dropout = dropout
        self.parts: nn.ModuleList | None = None  # a `Part` for each task (`spikefed.networks.adapters`)
        self.task = 0
        # A mean of spikes tells how many there were, their largest does not: rates are counted before such a pool.
        if plan.pool and plan.window.kind == "max":
            self.fired = nn.Identity()

    def currents(self, x: Float[Tensor, "N ..."]) -> Float[Tensor, "N ..."]:
        """What enters the normalisation: of a layer without weights the input, or means of neighbouring features."""
        if self.plan.map_shape == self.plan.in_shape:
            return x
        return x.unflatten(1, (self.plan.map_shape[0], -1)).mean(2)

    def part(self) -> Part | None:
        """What the task that is on has of its own here."""
        return None if self.parts is None else cast(Part, self.parts[self.task])

    def pooled(self, y: Tensor) -> Tensor:
        """``y`` behind the layer's pool, if it has one."""
        if not self.plan.pool:
            return y
        return self.plan.window(self.fired(y) if self.plan.window.kind == "max" else y)

    def _dropped(self, y: Tensor, generator: torch.Generator | None, steps: int = 1) -> Tensor:
        """Dropout with one mask for all time steps of a sample."""
        if not self.dropout or not self.training:
            return y
        mask = torch.empty_like(y[: len(y) // steps])
        kept = mask.bernoulli_(1 - self.dropout, generator=generator_at(y.device, generator))
        return (y.unflatten(0, (steps, -1)) * kept).flatten(0, 1) / (1 - self.dropout)

    def extra_repr(self) -> str:
        """Sizes, for ``print(net)``."""
        text = f"{self.plan.kind}, {self.plan.in_shape} -> {self.plan.out_shape}"
        if not self.plan.pool:
            return text
        return f"{text}, pool={2 if self.plan.window == TWO_BY_TWO else self.plan.window}"


class WeightedLayer(PlannedLayer):
    """Convolution or linear weights with a norm; what the spiking layer and its ReLU twin share.

    Args:
        plan: sizes of the layer.
        bias: learn a bias per output channel.
        norm: statistics and affine map of the normalisation, or None.
        dropout: as in `PlannedLayer`.

    Attributes:
        product: stands in for the exact product while it is set; None: the exact one.
    """

    weight: Tensor
    bias: Tensor | None
    product: Product | None = None

    def __init__(self, plan: LayerPlan, *, bias: bool, norm: Norm | None, dropout: float = 0.0) -> None:
        super().__init__(plan, norm=None, dropout=dropout)
        fan_in = plan.in_shape[0] if plan.kind == "conv" else torch.Size(plan.in_shape).numel()
        window = (plan.kernel, plan.kernel) if plan.kind == "conv" else ()
        self.weight = nn.Parameter(torch.zeros(plan.map_shape[0], fan_in, *window))
        self.register_parameter("bias", nn.Parameter(torch.zeros(plan.map_shape[0])) if bias else None)
        self.norm = norm

    def currents(self, x: Float[Tensor, "N ..."]) -> Float[Tensor, "N ..."]:
        """The weighted sums, before normalisation."""
        part = self.part()
        return self._sums(x) if part is None else part.currents(x, self._sums)

    def _sums(self, x: Tensor) -> Tensor:
        if self.product is not None:
            return self.product(x)
        if self.plan.kind == "conv":
            padding = self.plan.kernel // 2
            stride = self.plan.stride
            return spike_conv2d(x, self.weight, self.bias, padding=padding, stride=stride)
        return spike_linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Sizes, for ``print(net)``."""
        return f"{super().extra_repr()}, bias={self.bias is not None}"


class _Spiking(PlannedLayer):
    """What happens to the currents of a spiking layer, over all time steps or in one."""

    neuron: LIFParameters | None
    thresholds: Thresholds | None
    """Learnt in place of the neuron's own (`spikefed.networks.learn_thresholds`)."""
    tap: Callable[..., Tensor | tuple[Tensor, Tensor | None]] | None = None
    """Called in the place of `forward` while the layer's gradients are followed (`spikefed.networks.per_sample`)."""

    def forward(
        self,
        x: Float[Tensor, "N ..."],
        steps: int,
        repeat: bool = False,
        generator: torch.Generator | None = None,
        moment: Moment | None = None,
    ) -> Float[Tensor, "M ..."] | tuple[Tensor, Tensor | None]:
        """One layer over all T time steps, or one step of it.

        Args:
            x: time folded into the batch, ``[T*B, ...]`` (row t*B + b); with ``repeat`` ``[B, ...]`` for all steps.
            steps: T.
            repeat: compute the weights once and inject the same current T times (direct coding).
            generator: source of dropout; torch's global one when None.
            moment: run this step alone, on ``x [B, ...]``; statistics are then those of the step.

        Returns:
            spikes (means of four, if pooled) ``[T*B, ...]``; currents when there is no neuron, ``[B, ...]`` if they
            are the same at every step (`keeps_still`). With a ``moment``: the output ``[B, ...]``, and the potential
            after it.

        Raises:
            ConfigError: BNTT built for another T.
        """
        if self.tap is not None:
            return self.tap(x, steps, repeat, generator, moment)
        if moment is not None:
            return self._step(self.currents(x), moment)
        link = None if self.pruned() or self.parts is not None else self.link(steps, repeat)
        out = None if link is None else run_chain(x, [link])
        if out is not None:
            return out
        currents = self.currents(x)
        folded = 1 if self.keeps_still(repeat) else steps
        return self._dropped(self._all_steps(currents, steps, repeat), generator, folded)

    def pruned(self) -> bool:
        """Whether so few weights are left that products with those alone are worth calls of their own."""
        return isinstance(self, WeightedLayer) and few_weights(self.weight)

    def link(self, steps: int, repeat: bool = False) -> ChainLayer | None:
        """This layer as one of a chain of small ones; None if it is of a kind that has no place there.

        Raises:
            ConfigError: BNTT built for another T.
        """
        return None

    def keeps_still(self, repeat: bool) -> bool:
        """Whether an input that is the same at every step gives such an output, computed once."""
        return repeat and self.neuron is None and (self.norm is None or self.norm.steps is None)

    def _all_steps(self, currents: Tensor, steps: int, repeat: bool) -> Tensor:
        part = self.part()
        if part is not None and self.neuron is not None:
            return self._adapted(currents, steps, repeat, part)
        norm = self.norm if part is None or part.norm is None else part.norm
        plan = self.plan
        if self.neuron is None:
            if norm is None:
                return self.pooled(currents)
            still = self.keeps_still(repeat)
            if repeat and not still:
                currents = currents.repeat(steps, *[1] * (currents.dim() - 1))
            steps = 1 if still else steps
            return self.pooled(normalise(currents, steps=steps, scale=norm.scale(), **norm.options(steps)))
        options = {} if norm is None else {**norm.options(steps), "alpha": norm.alpha}
        if self.thresholds is not None:
            currents, options = self.thresholds.applied(currents, options)
        fused = plan.pool and plan.window == TWO_BY_TWO
        spikes = norm_lif(currents, self.neuron, steps=steps, **options, pool=fused, repeat=repeat)
        return spikes if fused else self.pooled(spikes)

    def _adapted(self, currents: Tensor, steps: int, repeat: bool, part: Part) -> Tensor:
        """All steps with a task's thresholds: a gain of the norm, or of neurons that have one each, behind the norm."""
        neuron = self.neuron
        norm = self.norm if part.norm is None else part.norm
        assert neuron is not None
        fused = self.plan.pool and self.plan.window == TWO_BY_TWO
        if norm is not None and part.folds:
            options = {**norm.options(steps), "alpha": norm.alpha}
            if self.thresholds is not None:
                currents, options = self.thresholds.applied(currents, options)
            options = part.folded(options)
            spikes = norm_lif(currents, neuron, steps=steps, **options, pool=fused, repeat=repeat)
            return spikes if fused else self.pooled(spikes)
        if norm is not None and repeat and norm.mode in PER_STEP:
            currents = currents.repeat(steps, *[1] * (currents.dim() - 1))
            repeat = False
        options = {} if norm is None else norm.options(steps)
        if self.thresholds is not None:
            currents, options = self.thresholds.applied(currents, options)
        if norm is not None:
            scale = norm.alpha * neuron.v_threshold if norm.mode == "tdbn" else 1.0
            currents = normalise(currents, steps=1 if repeat else steps, scale=scale, **options)
        spikes = norm_lif(part.gained(currents), neuron, steps=steps, pool=fused, repeat=repeat)
        return spikes if fused else self.pooled(spikes)

    def _step(self, currents: Tensor, moment: Moment) -> tuple[Tensor, Tensor | None]:
        options = {} if self.norm is None else self.norm.options_at(moment.step)
        if self.thresholds is not None:
            currents, options = self.thresholds.applied(currents, options)
        if self.norm is not None:
            currents = normalise(currents, steps=1, scale=self.norm.scale(), **options)
        if self.neuron is None:
            return self.pooled(currents), None
        spikes, potential = lif_step(currents, moment.potential, self.neuron)
        return self.pooled(spikes), potential


class SpikingLayer(_Spiking, WeightedLayer):
    """Weights, normalisation, LIF over all time steps, pool of the spikes.

    Args:
        plan: sizes of the layer.
        bias: learn a bias per output channel.
        norm: statistics and affine map of the normalisation, or None.
        neuron: the LIF's numbers; None gives the currents (a readout that does not spike, a branch before its sum).
        dropout: as in `PlannedLayer`.
    """

    def __init__(
        self, plan: LayerPlan, *, bias: bool, norm: Norm | None, neuron: LIFParameters | None, dropout: float = 0.0
    ) -> None:
        super().__init__(plan, bias=bias, norm=norm, dropout=dropout)
        self.neuron = neuron
        self.thresholds = None

    def link(self, steps: int, repeat: bool = False) -> ChainLayer | None:
        """See `_Spiking.link`."""
        plan = self.plan
        norm = self.norm
        neuron = self.neuron
        kind = "conv" if plan.kind == "conv" else "linear"
        weight = self.weight if self.product is None else self.product.plain()
        if weight is None:
            return None
        if (self.dropout and self.training) or plan.stride != 1 or (plan.pool and plan.window != TWO_BY_TWO):
            return None
        if neuron is not None and neuron.start:
            return None
        if neuron is None:
            return None if plan.pool or norm is not None else ChainLayer(weight, self.bias, kind, None)
        if norm is None:
            if self.thresholds is not None:
                return None
            firing = Firing(neuron, steps, pool=plan.pool, repeat=repeat)
            return ChainLayer(weight, self.bias, kind, firing)
        norm.check_steps(steps)
        firing = Firing(neuron, steps, norm.mode, norm.training, norm.eps, norm.alpha, plan.pool, repeat)
        affine: dict[str, Tensor | None] = {"weight": norm.weight, "bias": norm.bias}
        if self.thresholds is not None:
            affine = self.thresholds.affine(norm.weight, norm.bias)
        state = NormState(**affine, running_mean=norm.running_mean, running_var=norm.running_var)
        return ChainLayer(weight, self.bias, kind, firing, state, norm.next_momentum)

    def extra_repr(self) -> str:
        """Sizes and neuron, for ``print(net)``."""
        return f"{super().extra_repr()}, neuron={self.neuron}"


class PassLayer(_Spiking):
    """A spiking layer without weights: normalisation, LIF and pool of what enters; with none of them it passes it on.

    Args:
        plan: sizes; ``map_shape`` with fewer features than ``in_shape`` takes means of neighbours (a vote).
        norm: statistics and affine map of the normalisation, or None.
        neuron: the LIF's numbers, or None.
        dropout: as in `PlannedLayer`.
    """

    def __init__(
        self, plan: LayerPlan, *, norm: Norm | None = None, neuron: LIFParameters | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__(plan, norm=norm, dropout=dropout)
        self.neuron = neuron
        self.thresholds = None

    def extra_repr(self) -> str:
        """Sizes and neuron, for ``print(net)``."""
        return f"{super().extra_repr()}, neuron={self.neuron}"


class _Rectified(PlannedLayer):
    """What happens to the currents in the ANN twin."""

    rectify: bool

    def forward(self, x: Float[Tensor, "B ..."], generator: torch.Generator | None = None) -> Float[Tensor, "B ..."]:
        """Activations after pooling, or logits; ``generator`` draws what dropout drops (torch's global one if None)."""
        y = self.currents(x)
        norm = self.norm
        if norm is not None:
            momentum = norm.next_momentum()
            y = F.batch_norm(
                y, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.training, momentum, norm.eps
            )
        y = F.relu(y) if self.rectify else y
        return self._dropped(self.pooled(y), generator)


class ReLULayer(_Rectified, WeightedLayer):
    """The ANN twin of `SpikingLayer`: the same weights, ordinary batch normalisation, ReLU, pool.

    Args:
        plan: sizes of the layer.
        bias: learn a bias per output channel.
        norm: statistics and affine map of the normalisation, or None.
        rectify: False for the readout (logits), and for a branch before its sum.
        dropout: as in `PlannedLayer`.
    """

    def __init__(self, plan: LayerPlan, *, bias: bool, norm: Norm | None, rectify: bool, dropout: float = 0.0) -> None:
        super().__init__(plan, bias=bias, norm=norm, dropout=dropout)
        self.rectify = rectify


class ReLUPass(_Rectified):
    """The ANN twin of `PassLayer`."""

    def __init__(
        self, plan: LayerPlan, *, norm: Norm | None = None, rectify: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__(plan, norm=norm, dropout=dropout)
        self.rectify = rectify


def chained(layers: Sequence[nn.Module], x: Tensor, steps: int, repeat: bool) -> Tensor | None:
    """The layers in a row as one call, where all are small and nobody looks between them; else None.

    Args:
        layers: in the order of the data.
        x: input ``[T, B, ...]``, or ``[B, ...]`` with ``repeat``.
        steps: T.
        repeat: whether every step sees the same input.
    """
    if recording():
        return None
    links = []
    for i, layer in enumerate(layers):
        link = None
        if type(layer) is SpikingLayer and not watched(layer) and not layer.pruned():
            link = layer.link(steps, repeat and i == 0)
        if link is None:
            return None
        links.append(link)
    return run_chain(x, links)


def watched(module: nn.Module) -> bool:
    """Whether somebody asked to be told of this module's calls, so that it must be called as a module."""
    everywhere = torch.nn.modules.module
    own = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    own = own or getattr(module, "tap", None) or getattr(module, "parts", None)
    return bool(own or everywhere._global_forward_hooks or everywhere._global_forward_pre_hooks)
