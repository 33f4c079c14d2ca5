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

    A step calls `inputs`, then computes the loss, to which `term` may add, and its gradients inside `around`, and
    leaves it before the optimiser moves the weights. `begin` comes before the first step and `end` after the last.
    Several hooks nest in the order given. A hook draws from the generator it is handed and from nothing else, so that a
    run can be repeated and resumed.
    """

    def begin(self, net: nn.Module, generator: torch.Generator) -> None:
        """The network as it enters this training."""

    def end(self, net: nn.Module, generator: torch.Generator) -> None:
        """The network as it leaves this training, still in training mode."""

    def term(self, net: nn.Module, x: Tensor, outputs: Tensor, generator: torch.Generator) -> Tensor | None:
        """What this step's loss gets beside the loss on labels; None: nothing.

        Args:
            net: in training mode, inside `around`.
            x: input of the step, ``[B, ...]``.
            outputs: the network's on it, ``[T, B, C]``.
            generator: the step's randomness.
        """
        return None

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
