"""Gradients of a layer's input, step by step of the backward pass and without a graph of the forward one.

Whoever takes many backward passes through one forward pass (one for each prefix of the time steps, say) needs of it
the currents alone, and can leave out steps that nothing comes back from.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.grad import conv2d_input

from spikefed.neurons import fused, paths, products, winograd
from spikefed.neurons import samples as sample_sums
from spikefed.neurons.firing import Firing, NormState
from spikefed.neurons.kernels import kernels
from spikefed.neurons.norm_lif import norm_lif
from spikefed.neurons.parameters import LIFParameters
from spikefed.neurons.samples import SampleSums
from spikefed.neurons.sides import Sides


def norm_lif_gradient(
    x: Float[Tensor, "N C *rest"], upstream: Float[Tensor, "M C *rest2"], p: LIFParameters, **options: Any
) -> Float[Tensor, "N C *rest"]:
    """Gradient of ``x`` in `norm_lif` with running statistics.

    Args:
        x: what `norm_lif` was given.
        upstream: gradient of its result.
        p: the neuron.
        options: further arguments of `norm_lif`, ``steps`` among them; ``training`` is False.
    """
    state = NormState(**{key: options.get(key) for key in NormState._fields})
    beside = {*state._fields, "momentum"}  # which moves statistics, in training alone
    firing = Firing(p, training=False, **{key: value for key, value in options.items() if key not in beside})
    if kernels() == "auto" and not p.start and firing.norm != "bn-step" and fused.suits(x, *state):
        return fused.input_gradient(x, upstream, firing, state)
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        spikes = norm_lif(leaf, p, training=False, **options)
    return torch.autograd.grad(spikes, leaf, upstream)[0]


def conv2d_gradient(
    upstream: Float[Tensor, "N Cout H2 W2"],
    weight: Float[Tensor, "Cout Cin Kh Kw"],
    shape: torch.Size,
    *,
    padding: Sides = 0,
    stride: Sides = 1,
) -> Float[Tensor, "N Cin H W"]:
    """Gradient of the input, of ``shape``, in `spike_conv2d`.

    Args:
        upstream: gradient of the output.
        weight: kernels.
        shape: of the input.
        padding: of the convolution.
        stride: of the convolution.
    """
    weight = weight.detach()
    if not (kernels() == "auto" and upstream.dtype == weight.dtype == torch.float32 and fused.suits(upstream)):
        return conv2d_input(shape, weight, upstream, cast(Any, stride), cast(Any, padding))
    upstream = upstream.contiguous(memory_format=torch.channels_last)
    if paths.by_winograd(weight, stride, padding, upstream.dtype):
        return winograd.input_gradient(upstream, weight)
    return products.input_gradient(upstream, weight, shape, stride, padding)


def conv2d_sample_sums(
    upstream: Float[Tensor, "N Cout H2 W2"],
    x: Float[Tensor, "M Cin H W"],
    weight: Float[Tensor, "Cout Cin Kh Kw"],
    samples: int,
    *,
    padding: Sides = 0,
    stride: Sides = 1,
) -> SampleSums | None:
    """Of the weight's gradient in `spike_conv2d`, of each sample by itself: its squares summed, and more.

    None without a kernel for it.

    Args:
        upstream: gradient of the output; row n is of sample n modulo B.
        x: input, likewise; rows behind those of ``upstream`` are not read.
        weight: kernels.
        samples: B.
        padding: of the convolution.
        stride: of the convolution.
    """
    if kernels() != "auto" or not sample_sums.suits(upstream, x, weight, stride, padding):
        return None
    return sample_sums.measure(upstream, x, weight, samples)


def linear_gradient(
    upstream: Float[Tensor, "N Fout"], weight: Float[Tensor, "Fout Fin"], shape: torch.Size
) -> Float[Tensor, " N *rest"]:
    """Gradient of the input, of ``shape``, in `spike_linear`."""
    weight = weight.detach()
    if kernels() == "auto" and upstream.dtype == weight.dtype == torch.float32 and fused.suits(upstream):
        return products.multiply(upstream.contiguous(), weight.t(), None).view(shape)
    return (upstream @ weight).view(shape)
