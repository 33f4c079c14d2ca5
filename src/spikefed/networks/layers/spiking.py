"""The spiking layer: weights, normalisation, neurons over all time steps or in one, pool."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from spikefed.networks.layers.planned import Moment, PlannedLayer, WeightedLayer
from spikefed.networks.layers.tailored import proxies_of
from spikefed.networks.layout import LayerPlan
from spikefed.networks.norms import Norm
from spikefed.networks.parts import Part
from spikefed.networks.pools import TWO_BY_TWO
from spikefed.networks.proxies import chosen_sum
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
    run_chain,
    run_pruned,
)

PER_STEP = ("bntt", "bn-step")
"""Norms whose statistics are those of each time step."""


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
        earlier: Sequence[Tensor] = (),
    ) -> Float[Tensor, "M ..."] | tuple[Tensor, Tensor | None]:
        """One layer over all T time steps, or one step of it.

        Args:
            x: time folded into the batch, ``[T*B, ...]`` (row t*B + b); with ``repeat`` ``[B, ...]`` for all steps.
            steps: T.
            repeat: compute the weights once and inject the same current T times (direct coding).
            generator: source of dropout; torch's global one when None.
            moment: run this step alone, on ``x [B, ...]``; statistics are then those of the step.
            earlier: outputs of the layers before, by place, where proxies of a task take from them.

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
        if proxies_of(self) is not None:
            return self._dropped(self._tailored(x, steps, earlier), generator, steps)
        link = None if self.parts is not None else self.link(steps, repeat)
        out = None if link is None else (run_pruned if self.pruned() else run_chain)(x, [link])
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

    def _tailored(self, x: Tensor, steps: int, earlier: Sequence[Tensor]) -> Tensor:
        """All steps with a task's proxies beside the layer's own weights: neurons and pool behind their sum."""
        part = self.part()
        own = proxies_of(self)
        neuron = self.neuron
        assert part is not None and own is not None and neuron is not None
        universal = None
        if own.kept()[0]:
            universal = self.currents(x)
            norm = self.norm if part.norm is None else part.norm
            options = {} if norm is None else norm.options(steps)
            if self.thresholds is not None:
                universal, options = self.thresholds.applied(universal, options)
            if norm is not None:
                scale = norm.alpha * neuron.v_threshold if norm.mode == "tdbn" else 1.0
                universal = normalise(universal, steps=steps, scale=scale, **options)
        fused = self.plan.pool and self.plan.window == TWO_BY_TWO
        currents = part.gained(chosen_sum(own, universal, earlier, steps))
        spikes = norm_lif(currents, neuron, steps=steps, pool=fused)
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
