"""The one block that all networks are made of: weights, normalisation, neurons (or ReLU), optional 2x2 average pool."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from spikefed.networks.layout import LayerPlan
from spikefed.networks.norms import Norm
from spikefed.neurons import LIFParameters, norm_lif, spike_conv2d, spike_linear
from spikefed.neurons.encoding import generator_at


class WeightedLayer(nn.Module):
    """Convolution or linear weights with a norm; what the spiking layer and its ReLU twin share.

    Args:
        plan: sizes of the layer.
        bias: learn a bias per output channel.
        norm: statistics and affine map of the normalisation, or None.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, plan: LayerPlan, *, bias: bool, norm: Norm | None) -> None:
        super().__init__()
        self.plan = plan
        fan_in = plan.in_shape[0] if plan.kind == "conv" else torch.Size(plan.in_shape).numel()
        window = (plan.kernel, plan.kernel) if plan.kind == "conv" else ()
        self.weight = nn.Parameter(torch.zeros(plan.map_shape[0], fan_in, *window))
        self.register_parameter("bias", nn.Parameter(torch.zeros(plan.map_shape[0])) if bias else None)
        self.norm = norm

    def currents(self, x: Float[Tensor, "N ..."]) -> Float[Tensor, "N ..."]:
        """The weighted sums, before normalisation."""
        if self.plan.kind == "conv":
            return spike_conv2d(x, self.weight, self.bias, padding=self.plan.kernel // 2)
        return spike_linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Sizes, for ``print(net)``."""
        plan = self.plan
        text = f"{plan.kind}, {plan.in_shape} -> {plan.out_shape}, bias={self.bias is not None}"
        return text + (", pool=2" if plan.pool else "")


class SpikingLayer(WeightedLayer):
    """Weights, normalisation, LIF over all time steps, average pool of the spikes.

    Args:
        neuron: the LIF's numbers; None gives the raw currents (a readout that does not spike).
    """

    def __init__(self, plan: LayerPlan, *, bias: bool, norm: Norm | None, neuron: LIFParameters | None) -> None:
        super().__init__(plan, bias=bias, norm=norm)
        self.neuron = neuron

    def forward(self, x: Float[Tensor, "N ..."], steps: int, repeat: bool = False) -> Float[Tensor, "M ..."]:
        """One layer over all T time steps.

        Args:
            x: time folded into the batch, ``[T*B, ...]`` (row t*B + b); with ``repeat`` ``[B, ...]`` for all steps.
            steps: T.
            repeat: compute the weights once and inject the same current T times (direct coding).

        Returns:
            spikes (means of four, if pooled) ``[T*B, ...]``; currents when there is no neuron.

        Raises:
            ConfigError: BNTT built for another T.
        """
        currents = self.currents(x)
        if self.neuron is None:
            return currents
        norm = self.norm
        if norm is None:
            return norm_lif(currents, self.neuron, steps=steps, pool=self.plan.pool, repeat=repeat)
        norm.check_steps(steps)
        return norm_lif(
            currents,
            self.neuron,
            steps=steps,
            norm=norm.mode,
            weight=norm.weight,
            bias=norm.bias,
            running_mean=norm.running_mean,
            running_var=norm.running_var,
            training=norm.training,
            momentum=norm.next_momentum(),
            eps=norm.eps,
            alpha=norm.alpha,
            pool=self.plan.pool,
            repeat=repeat,
        )

    def extra_repr(self) -> str:
        """Sizes and neuron, for ``print(net)``."""
        return f"{super().extra_repr()}, neuron={self.neuron}"


class ReLULayer(WeightedLayer):
    """The ANN twin of `SpikingLayer`: the same weights, ordinary batch normalisation, ReLU, average pool.

    Args:
        rectify: False for the readout (logits).
        dropout: probability that an activation is set to 0 in training, the rest growing by 1 / (1 - dropout).
    """

    def __init__(self, plan: LayerPlan, *, bias: bool, norm: Norm | None, rectify: bool, dropout: float = 0.0) -> None:
        super().__init__(plan, bias=bias, norm=norm)
        self.rectify, self.dropout = rectify, dropout

    def forward(self, x: Float[Tensor, "B ..."], generator: torch.Generator | None = None) -> Float[Tensor, "B ..."]:
        """Activations after pooling, or logits; ``generator`` draws what dropout drops (torch's global one if None)."""
        y, norm = self.currents(x), self.norm
        if norm is not None:
            momentum = norm.next_momentum()
            y = F.batch_norm(
                y, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.training, momentum, norm.eps
            )
        y = F.relu(y) if self.rectify else y
        y = F.avg_pool2d(y, 2) if self.plan.pool else y
        if self.dropout and self.training:
            kept = torch.empty_like(y).bernoulli_(1 - self.dropout, generator=generator_at(y.device, generator))
            y = y * kept / (1 - self.dropout)
        return y
