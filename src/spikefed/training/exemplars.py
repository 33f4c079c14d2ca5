"""Rehearsal of a few kept images of every class: Chaudhry et al., "On Tiny Episodic Memories in Continual Learning",
2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Integer
from torch import Tensor, nn

from spikefed.networks.monitor import device_of
from spikefed.training.hooks import Loss, StepHook
from spikefed.training.loops import Preprocess
from spikefed.training.losses import own_outputs


def first_of_each(labels: Integer[Tensor, " N"], count: int) -> Integer[Tensor, " M"]:
    """Places of the first ``count`` items of every class, in the order of the data."""
    kept: list[int] = []
    for label in sorted(set(labels.tolist())):
        kept += torch.nonzero(labels == label).flatten()[:count].tolist()
    return torch.tensor(sorted(kept), dtype=torch.int64)


class Replay(StepHook):
    """Every step also learns a batch drawn from images of tasks before, which the client has kept.

    Args:
        memory: what the client keeps: ``images``, ``labels`` and ``tasks`` of its exemplars.
        task: in hand.
        images: of the task in hand, ``[N, ...]``.
        labels: of these, ``[N]``.
        per_class: how many of each class are kept.
        strength: factor of the term.
        batch: how many are drawn for a step, at most.
        loss: ``(outputs [T, B, C], labels [B]) -> scalar``.
        preprocess: pixels to network input.
        heads: outputs of every task before by its number; empty: all tasks share all outputs.
    """

    def __init__(
        self,
        memory: dict[str, Any],
        *,
        task: int,
        images: Tensor,
        labels: Tensor,
        per_class: int,
        strength: float,
        batch: int,
        loss: Loss,
        preprocess: Preprocess,
        heads: Mapping[int, Sequence[int]],
    ) -> None:
        self._memory = memory
        self._task = task
        self._images = images
        self._labels = labels
        self._per_class = per_class
        self._strength = strength
        self._batch = batch
        self._loss = loss
        self._preprocess = preprocess
        self._heads = heads

    def term(self, net: nn.Module, x: Tensor, outputs: Tensor, generator: torch.Generator) -> Tensor | None:
        # The loss on exemplars of tasks before, each task by its own outputs; nothing in the first task.
        if "tasks" not in self._memory:
            return None
        others = torch.nonzero(self._memory["tasks"] != self._task).flatten()
        if not len(others):
            return None
        drawn = others[torch.randperm(len(others), generator=generator)[: self._batch]]
        device = device_of(net)
        said = net(self._preprocess(self._memory["images"][drawn].to(device)), generator=generator)
        labels = self._memory["labels"][drawn].to(device)
        tasks = self._memory["tasks"][drawn].to(device)
        terms = []
        for task in sorted(set(tasks.tolist())):
            rows = torch.nonzero(tasks == task).flatten()
            of_task, wanted = said[:, rows], labels[rows]
            if task in self._heads:
                of_task, wanted = own_outputs(of_task, wanted, tuple(self._heads[task]))
            terms.append(len(rows) / len(drawn) * self._loss(of_task, wanted))
        return self._strength * torch.stack(terms).sum()

    def end(self, net: nn.Module, generator: torch.Generator) -> None:
        """The first training on a task keeps its exemplars."""
        held = self._memory.get("tasks", torch.zeros(0, dtype=torch.int64))
        if bool((held == self._task).any()):
            return
        chosen = first_of_each(self._labels, self._per_class)
        fresh = {
            "images": self._images[chosen].clone(),
            "labels": self._labels[chosen].clone(),
            "tasks": torch.full((len(chosen),), self._task, dtype=torch.int64),
        }
        for key, rows in fresh.items():
            self._memory[key] = torch.cat([self._memory[key], rows]) if key in self._memory else rows
