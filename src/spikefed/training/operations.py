"""Synaptic operations in the loss: spikes cost what they meet, so a network learns to send few where many listen."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from spikefed.networks import as_input, fan_out, geometry, weight_of, weighted
from spikefed.training.hooks import StepHook


class FewOperations(StepHook):
    """Adds ``weight`` times the share of synaptic operations that take place.

    The share is of those that there would be if every neuron fired at every step and no weight were 0. Its value is
    exact, a spike times the non-zero weights that it meets (Shi et al., ICLR 2024); its gradient is that of spikes
    through their surrogate, of pooled ones that of their mean. What does not depend on spikes, such as the image's
    way into the first layer, does not count.

    Args:
        weight: of the term, at least 0.
    """

    def __init__(self, weight: float) -> None:
        self._weight = weight
        self._seen: list[tuple[nn.Module, Tensor]] = []
        self._most: dict[str, float] = {}

    @contextmanager
    def around(self, net: nn.Module, generator: torch.Generator) -> Generator[None, None, None]:
        """Sees what enters the layers."""

        def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            self._seen.append((module, inputs[0]))

        hooks = [module.register_forward_pre_hook(keep) for module in net.modules() if weighted(module)]
        try:
            yield
        finally:
            self._seen = []
            for hook in hooks:
                hook.remove()

    def term(self, net: nn.Module, x: Tensor, outputs: Tensor, generator: torch.Generator) -> Tensor | None:
        # Operations of this batch over those of a network that always fires and has all of its weights.
        done, most = outputs.new_zeros(()), 0.0
        for module, given in self._seen:
            if not given.requires_grad:
                continue
            spikes = as_input(weight_of(module), given).float()
            told = (spikes != 0).to(spikes.dtype) + spikes - spikes.detach()
            ahead = fan_out(module, spikes)
            done = done + (told.sum(0, keepdim=True) * ahead).sum()
            most += len(spikes) * self._most_an_input(module, spikes)
        return self._weight * done / most if most else None

    def _most_an_input(self, module: nn.Module, spikes: Tensor) -> float:
        """Weights that all inputs of a layer meet together, 0 or not: a matter of sizes, which is counted once."""
        weight = weight_of(module)
        placed = geometry(module) if weight.dim() > 2 else {}
        sizes = str((tuple(weight.shape), tuple(spikes.shape[1:]), placed))
        if sizes not in self._most:
            self._most[sizes] = float(fan_out(module, spikes, every=True).sum())
        return self._most[sizes]
