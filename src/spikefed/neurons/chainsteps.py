"""A chain of small layers in training: the same native calls as `run_chain`, but memory, arguments and gradients of one
step serve the next, and no autograd graph stands between them.

Where a step takes a millisecond, making them anew takes a tenth of it. The bits are those of `run_chain`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ctypes import c_int64

import torch
from torch import Tensor

from spikefed import native
from spikefed.neurons import chain
from spikefed.neurons.chain import ChainLayer, Plan


class ChainSteps:
    """Steps with inputs of one shape.

    Args:
        shape: of the input.
        plan: of that shape.
        layers: of the chain.
        gradients: where the gradient of each learnt tensor goes, float32 of its shape; those without one get none.
    """

    def __init__(
        self, shape: torch.Size, plan: Plan, layers: Sequence[ChainLayer], gradients: Mapping[Tensor, Tensor]
    ) -> None:
        self._shape = shape
        self._plan = plan
        self._layers = layers
        self._learnt = [t for a in layers for t in (a.weight, a.bias, a.state.weight, a.state.bias)]
        self._gradients = [None if t is None else gradients.get(t) for t in self._learnt]
        states = [t for a in layers for t in (a.state.running_mean, a.state.running_var)]
        self._tensors = [t for t in (*self._learnt, *states) if t is not None]
        self._kept = torch.empty(plan.size, dtype=torch.uint8)
        self._nonzero = c_int64(0)
        self._x: Tensor | None = None
        self._fill()

    def _fill(self) -> None:
        self._pointers = [t.data_ptr() for t in self._tensors]
        self._filled = chain.arguments(self._plan, 0, self._learnt, self._kept)
        chain.put_gradients(self._filled, [native.pointer(t) for t in self._gradients])
        chain.put_states(self._filled, self._plan, self._layers, self._nonzero)

    def _look(self) -> None:
        """Whoever gives a tensor other memory (``p.data = ...``) is followed."""
        if [t.data_ptr() for t in self._tensors] != self._pointers:
            self._fill()

    def forward(self, x: Tensor) -> Tensor:
        """The last layer's output ``[N, ...]``, a new tensor without a graph; running statistics move.

        Args:
            x: ``[N, C, H, W]`` or ``[N, F]`` of the steps' shape.
        """
        lib = chain.chain_library()
        assert lib is not None
        assert x.shape == self._shape, f"a chain of inputs of another shape, {tuple(self._shape)}"
        self._look()
        self._x = x = x.to(self._plan.dtype).contiguous(memory_format=chain.form_of(x.shape))
        out = torch.empty(self._plan.out, dtype=self._plan.dtype, memory_format=chain.form_of(self._plan.out))
        self._filled[0].x = x.data_ptr()
        chain.put_out(self._filled[-1], out.data_ptr())
        chain.put_momenta(self._filled, self._layers)
        lib.spikefed_chain_forward(self._filled, len(self._filled))
        return out

    def backward(self, upstream: Tensor) -> None:
        """Write the gradients of the last `forward`.

        Args:
            upstream: gradient of its output.
        """
        lib = chain.chain_library()
        assert lib is not None
        assert self._x is not None, "no forward before"
        self._look()
        self._filled[0].x = self._x.data_ptr()
        upstream = upstream.to(self._plan.dtype).contiguous(memory_format=chain.form_of(self._plan.out))
        lib.spikefed_chain_backward(self._filled, len(self._filled), upstream.data_ptr())
        self._x = None


def chain_steps(x: Tensor, layers: Sequence[ChainLayer], gradients: Mapping[Tensor, Tensor]) -> ChainSteps | None:
    """Training steps of a chain; None where `run_chain` would not take an input like ``x``.

    Args:
        x: an input of the first step's shape and type.
        layers: at least one.
        gradients: see `ChainSteps`.

    Raises:
        ConfigError: as ``norm_lif``.
    """
    plan = chain.plan_for(x, layers)
    return None if plan is None else ChainSteps(x.shape, plan, layers, gradients)
