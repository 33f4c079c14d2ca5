"""Neurons behind a sum of branches over all time steps, native: the branches' norms and the sum are read as they are.

Neither a normalised branch nor the sum is ever written down, and neither are potentials: the way back computes them
again from what entered the norms. A branch that comes as it is, and is nothing but spikes, is kept in a byte each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikefed.neurons import fused, paths, steps
from spikefed.neurons.normalise import Groups
from spikefed.neurons.parameters import LIFParameters


class Branch(NamedTuple):
    """What enters the sum.

    Attributes:
        x: ``[T*B, C, H, W]``, time-major.
        norm: arguments of `spikefed.neurons.normalise` for it, without ``steps``; None for values as they are.
    """

    x: Tensor
    norm: dict[str, Any] | None = None


def joins(branches: Sequence[Branch]) -> bool:
    """Whether the kernels take these branches here."""
    if not steps.available() or not 1 < len(branches) <= steps.MOST_TERMS or not fused.suits(branches[0].x):
        return False
    first = branches[0].x
    keys = ("weight", "bias", "running_mean", "running_var")
    alike = all(b.x.shape == first.shape and b.x.dtype == first.dtype for b in branches)
    state = [b.norm[key] for b in branches if b.norm for key in keys]
    fit = all(t is None or t.shape[-1:] == first.shape[1:2] for t in state)
    return first.dim() == 4 and alike and fit and fused.suits(first, *state)


def join_lif(branches: Sequence[Branch], p: LIFParameters, *, count: int) -> Tensor:
    """Spikes of the sum of the branches, ``[T*B, C, H, W]``: `norm_lif` of the added `normalise` of each.

    Args:
        branches: two or more that `joins` takes.
        p: the neuron.
        count: T.
    """
    groups = [None if b.norm is None else Groups.of(b.norm, count) for b in branches]
    learnt = [t for b in branches for t in ((None, None) if b.norm is None else (b.norm["weight"], b.norm["bias"]))]
    call = _Call(p, count, groups)
    out: Tensor = _Join.apply(call, *[steps.laid_out(b.x) for b in branches], *learnt)  # type: ignore[assignment]
    out._spikefed_nonzero = call.nonzero  # type: ignore[attr-defined]  # read by paths.density_of
    paths.note("norm_lif", "fused", "native kernel, with the sum before it", out)
    return out


class _Call:
    def __init__(self, p: LIFParameters, count: int, groups: list[Groups | None]) -> None:
        self.p = p
        self.count = count
        self.groups = groups
        self.nonzero = 0


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx, call: _Call, *tensors: Tensor | None) -> Tensor:
        many = len(call.groups)
        xs = cast(Sequence[Tensor], tensors[:many])
        learnt = tensors[many:]
        mades = [
            None if group is None else torch.stack(group.statistics(x, *learnt[2 * k : 2 * k + 2]))
            for k, (x, group) in enumerate(zip(xs, call.groups, strict=True))
        ]
        out, call.nonzero = steps.join(xs, mades, call.p, call.count)
        kept = [x if made is not None else _bytes(x) for x, made in zip(xs, mades, strict=True)]
        ctx.save_for_backward(*kept, *mades, *learnt)
        ctx.call = call
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        call = ctx.call
        many = len(ctx.call.groups)
        saved = ctx.saved_tensors
        upstream = steps.laid_out(grads[0])
        xs = [x.to(upstream.dtype) for x in saved[:many]]
        mades = saved[many : 2 * many]
        learnt = saved[2 * many :]
        common = steps.join_backward(xs, mades, upstream, call.p, call.count)
        wanted = ctx.needs_input_grad[1:]
        inputs = []
        parameters = []
        for k, (x, group, made) in enumerate(zip(xs, call.groups, mades, strict=True)):
            if group is None:
                inputs.append(common if wanted[k] else None)
                parameters += [None, None]
                continue
            grad_x, *own = group.backward(x, list(made), common)
            inputs.append(grad_x)
            pairs = zip(own, learnt[2 * k : 2 * k + 2], wanted[many + 2 * k :], strict=False)
            parameters += [g if t is not None and w else None for g, t, w in pairs]
        return None, *inputs, *parameters


def _bytes(x: Tensor) -> Tensor:
    """The same numbers in a byte each, if they are whole ones that fit."""
    small = x.to(torch.uint8)
    return small if torch.equal(small.to(x.dtype), x) else x
