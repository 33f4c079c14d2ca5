"""Learning without forgetting: Li and Hoiem, "Learning without Forgetting", ECCV 2016."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from spikefed.networks import copy_tensors, load_tensors
from spikefed.training.hooks import StepHook


def softened_divergence(
    outputs: Float[Tensor, "T B C"], old: Float[Tensor, "T B C"], temperature: float, scale: float = 1.0
) -> Float[Tensor, ""]:
    """tau^2 KL(softmax(old / tau) || softmax(new / tau)), mean over images; logits are ``scale`` x mean outputs.

    Its gradient is that of the paper's cross-entropy of softened outputs (eq. 2 to 4) times tau^2, which keeps its
    size as tau grows (Hinton et al., 2015).

    Args:
        outputs: of the network in training.
        old: of the network before the task.
        temperature: tau [paper: 2].
        scale: of the logits.
    """
    new = F.log_softmax(scale * outputs.mean(dim=0) / temperature, dim=-1)
    target = F.log_softmax(scale * old.mean(dim=0) / temperature, dim=-1)
    return temperature**2 * F.kl_div(new, target, reduction="batchmean", log_target=True)


class OldOutputs(StepHook):
    """Holds what the network says of new images to what it said before the task, on the outputs of tasks before.

    Args:
        memory: what the client keeps: ``weights`` of the network before the task.
        fresh: whether a new task begins.
        strength: factor of the term [paper: 1].
        temperature: tau.
        scale: of the logits.
        heads: outputs of every task before; None: all tasks share all outputs.
    """

    def __init__(
        self,
        memory: dict[str, Any],
        *,
        fresh: bool,
        strength: float,
        temperature: float,
        scale: float,
        heads: Sequence[Sequence[int]] | None,
    ) -> None:
        self._memory = memory
        self._fresh = fresh
        self._strength = strength
        self._temperature = temperature
        self._scale = scale
        self._heads = heads
        self._teacher: nn.Module | None = None

    def begin(self, net: nn.Module, generator: torch.Generator) -> None:
        """Where a new task begins, the network as it comes is kept; it teaches until the next does."""
        if self._fresh:
            self._memory["weights"] = copy_tensors(net)
        if "weights" in self._memory:
            self._teacher = copy.deepcopy(net).eval()
            load_tensors(self._teacher, self._memory["weights"])

    def term(self, net: nn.Module, x: Tensor, outputs: Tensor, generator: torch.Generator) -> Tensor | None:
        # The divergence, summed over the heads of tasks before; nothing in the first task.
        if self._teacher is None:
            return None
        with torch.no_grad():
            old = self._teacher(x, generator=generator)
        heads = [range(outputs.shape[-1])] if self._heads is None else self._heads
        terms = [
            softened_divergence(outputs[..., list(own)], old[..., list(own)], self._temperature, self._scale)
            for own in heads
        ]
        return self._strength * torch.stack(terms).sum()
