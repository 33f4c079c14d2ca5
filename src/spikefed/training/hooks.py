"""Where a training step can be changed without a loop of one's own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]
"""``(outputs [T, B, C], targets of the batch) -> scalar``."""


class StepHook:
    """What happens in a training step beside forward, backward and the optimiser; every part does nothing by itself.

    A step calls `inputs`, then computes the loss and its gradients inside `around`, and leaves it before the optimiser
    moves the weights. Several hooks nest in the order given. A hook draws from the generator it is handed and from
    nothing else, so that a run can be repeated and resumed.
    """

    def inputs(self, net: nn.Module, x: Tensor, targets: Tensor, loss: Loss, generator: torch.Generator) -> Tensor:
        """The network's input for this step, shaped like ``x``: adversarial or noisy images, say.

        Args:
            net: in training mode; whoever runs it here leaves its parameters, their gradients and the statistics of
                its norms as they were.
            x: preprocessed and augmented, float32 ``[B, C, H, W]`` or ``[B, T, ...]``.
            targets: labels ``[B]``.
            loss: of this training, as ``loss(net(x, generator=generator), targets)``.
            generator: the step's randomness.
        """
        return x

    def around(self, net: nn.Module, generator: torch.Generator) -> AbstractContextManager[None]:
        """A context around forward and backward: weights noisy inside and exact outside, say."""
        return nullcontext()
