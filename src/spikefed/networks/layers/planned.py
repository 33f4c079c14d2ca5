"""A layer with sizes, a norm and dropout; with weights, and without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spikefed.networks.layout import LayerPlan
from spikefed.networks.norms import Norm
from spikefed.networks.parts import Part
from spikefed.networks.pools import TWO_BY_TWO
from spikefed.neurons import (
    spike_conv2d,
    spike_linear,
)
from spikefed.neurons.encoding import generator_at


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
        window = plan.kernel_size if plan.kind == "conv" else ()
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
            return spike_conv2d(x, self.weight, self.bias, padding=self.plan.padding, stride=self.plan.strides)
        return spike_linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Sizes, for ``print(net)``."""
        return f"{super().extra_repr()}, bias={self.bias is not None}"
