"""What a client remembers of the tasks that it learned before, and what local training does with it.

Three baselines of continual learning as options of local training, each with a hook of its own in `spikefed.training`.
What they keep is part of the client's state: it is in every checkpoint and never leaves the client.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from spikefed.federated.answers import checked
from spikefed.federated.contract import ClientContext, ClientReport, Message, State
from spikefed.federated.options import StepOption
from spikefed.federated.wrapped import Wrapped
from spikefed.training import LABEL_LOSSES, ElasticPull, Loss, OldOutputs, Replay, StepHook, own_outputs

MEMORY = "memory"
"""Where a client's state keeps it: a tree for each option, ``task`` in hand, and ``learned``, outputs by task."""


class MemoryOption(StepOption):
    """An option that does nothing until the second task of a client begins."""

    strength: float = Field(default=0.0, ge=0, le=1e9, description="factor of its term in the loss; 0: off")

    @property
    def on(self) -> bool:
        """Whether it is asked for."""
        return self.strength > 0

    def hook(self, ctx: ClientContext) -> StepHook | None:
        if not self.on or ctx.memory is None or ctx.task is None:
            return None
        return self.made(ctx, ctx.memory)

    def made(self, ctx: ClientContext, memory: dict[str, Any]) -> StepHook:
        """The hook, with what the client remembers; it changes ``memory`` in place."""
        raise NotImplementedError


class ElasticWeights(MemoryOption):
    """EWC: weights that tasks before need are held (Kirkpatrick et al. 2017)."""

    strength: float = Field(
        default=0.0, ge=0, le=1e9, description="lambda of lambda/2 F (w - w*)^2; 0: off; tune it, 1 to 1e4 is common"
    )
    samples: int = Field(default=64, ge=1, le=100_000, description="images of which F is computed, each by itself")

    def made(self, ctx: ClientContext, memory: dict[str, Any]) -> StepHook:
        """See `ElasticPull`."""
        return ElasticPull(
            memory.setdefault("ewc", {}),
            fresh=begins(memory, ctx),
            strength=self.strength,
            images=ctx.train.images,
            labels=ctx.train.labels,
            samples=self.samples,
            loss=partial(_on_head, ctx.outputs, plain_loss(ctx)),
            preprocess=ctx.preprocess,
        )


class OldKnowledge(MemoryOption):
    """LwF: what the network said of new images before the task is held (Li and Hoiem 2016)."""

    strength: float = Field(default=0.0, ge=0, le=1e9, description="factor of the divergence [LwF: 1]; 0: off")
    temperature: float = Field(default=2.0, gt=0, le=1e3, description="tau of the softened outputs [LwF: 2]")

    def made(self, ctx: ClientContext, memory: dict[str, Any]) -> StepHook:
        """See `OldOutputs`."""
        heads = heads_of(memory, ctx)
        return OldOutputs(
            memory.setdefault("lwf", {}),
            fresh=begins(memory, ctx),
            strength=self.strength,
            temperature=self.temperature,
            scale=ctx.hyper.logit_scale,
            heads=None if ctx.outputs is None else list(heads.values()),
        )


class Exemplars(MemoryOption):
    """A few images of every class are kept and rehearsed while other tasks are learned (Chaudhry et al. 2019)."""

    per_class: int = Field(default=0, ge=0, le=1_000_000, description="images kept of every class; 0: off")
    strength: float = Field(default=1.0, ge=0, le=1e9, description="factor of the loss on them")

    @property
    def on(self) -> bool:
        return self.per_class > 0 and self.strength > 0

    def made(self, ctx: ClientContext, memory: dict[str, Any]) -> StepHook:
        """See `Replay`."""
        return Replay(
            memory.setdefault("exemplars", {}),
            task=ctx.task or 0,
            images=ctx.train.images,
            labels=ctx.train.labels,
            per_class=self.per_class,
            strength=self.strength,
            batch=ctx.hyper.local_batch,
            loss=plain_loss(ctx),
            preprocess=ctx.preprocess,
            heads=heads_of(memory, ctx),
        )


def begins(memory: dict[str, Any], ctx: ClientContext) -> bool:
    """Whether the client has learned another task than this one so far."""
    return "task" in memory and memory["task"] != ctx.task


def heads_of(memory: dict[str, Any], ctx: ClientContext) -> dict[int, tuple[int, ...]]:
    """Outputs of every task that the client learned before, by its number; empty where tasks share all outputs."""
    learned: dict[str, Tensor] = memory.get("learned", {})
    return {int(key): tuple(own.tolist()) for key, own in learned.items() if len(own) and int(key) != ctx.task}


def plain_loss(ctx: ClientContext) -> Loss:
    """The loss on labels that ``training.local_loss`` names; of losses that weigh time steps, that on mean outputs."""
    named = LABEL_LOSSES.get(ctx.hyper.local_loss, LABEL_LOSSES["ce-rate"])
    scale = ctx.hyper.logit_scale
    return lambda outputs, labels: named(outputs, labels, scale)


def _on_head(own: tuple[int, ...] | None, loss: Loss, outputs: Tensor, labels: Tensor) -> Tensor:
    return loss(outputs, labels) if own is None else loss(*own_outputs(outputs, labels, own))


def memories(hyper: Any) -> Sequence[str]:
    """Keys of ``[training]`` of the options that are on."""
    return [key for key, value in hyper if isinstance(value, MemoryOption) and value.on]


class Remembering(Wrapped):
    """A method whose clients remember; everything but a client's round is the method's own."""

    def client_round(
        self, state: State, downlink: Message | None, ctx: ClientContext
    ) -> tuple[State, Message | None, ClientReport]:
        """The method's own, with what the client remembers in its context; the state given stays as it was."""
        memory = _copied(state.get(MEMORY, {}))
        own = {key: value for key, value in state.items() if key != MEMORY}
        answer = self._method.client_round(own, downlink, dataclasses.replace(ctx, memory=memory))
        after, uplink, report = checked(self._method, "client_round", answer)
        if ctx.task is not None:
            memory["task"] = ctx.task
            outputs = torch.tensor(ctx.outputs or (), dtype=torch.int64)
            memory["learned"] = {**memory.get("learned", {}), str(ctx.task): outputs}
        return {**after, MEMORY: memory}, uplink, report


def _copied(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree with dicts of its own; tensors are shared and never changed."""
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in tree.items()}
