"""Elastic weight consolidation: Kirkpatrick et al., "Overcoming Catastrophic Forgetting in Neural Networks", 2017."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spikefed.networks.monitor import device_of, in_eval_mode
from spikefed.training.hooks import Loss, StepHook
from spikefed.training.loops import Preprocess


def fisher(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    loss: Loss,
    preprocess: Preprocess,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Diagonal of the empirical Fisher information: mean over images of the squared gradient of each one's loss.

    The network is in eval mode meanwhile. Tensors have the parameters' shapes, by name, on the host.

    Args:
        net: whose parameters that are trained it is of.
        images: ``[N, ...]``; without any it is 0.
        labels: ``[N]``.
        loss: ``(outputs [T, 1, C], labels [1]) -> scalar``.
        preprocess: pixels to network input.
        generator: of a coder that draws.
    """
    named = {name: p for name, p in net.named_parameters() if p.requires_grad}
    found = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in named.items()}
    device = device_of(net)
    with in_eval_mode(net):
        for n in range(len(images)):
            x = preprocess(images[n : n + 1].to(device))
            value = loss(net(x, generator=generator), labels[n : n + 1].to(device))
            gradients = torch.autograd.grad(value, list(named.values()), allow_unused=True)
            for name, gradient in zip(named, gradients, strict=True):
                if gradient is not None:
                    found[name] += gradient.square() / len(images)
    return {name: tensor.cpu() for name, tensor in found.items()}


def elastic_penalty(
    named: Mapping[str, Tensor], anchor: Mapping[str, Tensor], information: Mapping[str, Tensor], strength: float
) -> Tensor:
    """lambda / 2 sum_i F_i (w_i - w*_i)^2, scalar (eq. 3 of the paper); its gradient is lambda F (w - w*).

    Args:
        named: w by name.
        anchor: w*, of the same shapes.
        information: F, of the same shapes.
        strength: lambda.
    """
    terms = [
        (information[name].to(w.device) * (w - anchor[name].to(w.device)).square()).sum()
        for name, w in named.items()
        if name in anchor and name in information
    ]
    return 0.5 * strength * torch.stack(terms).sum()


class ElasticPull(StepHook):
    """Pulls weights towards those that knew the tasks before, the harder the more these told on them.

    One F for all tasks before, their sum, and one w*, the network as the newest task found it, whatever the number of
    tasks (online EWC; Schwarz et al., ICML 2018, without decay).

    Args:
        memory: what the client keeps; ``latest`` (F of the task in hand), ``fisher`` (of those before), ``anchor``.
        fresh: whether a new task begins.
        strength: lambda.
        images: of which F is computed at the end, ``[N, ...]``.
        labels: of these, ``[N]``.
        samples: how many of these, drawn.
        loss: on labels.
        preprocess: pixels to network input.
    """

    def __init__(
        self,
        memory: dict[str, Any],
        *,
        fresh: bool,
        strength: float,
        images: Tensor,
        labels: Tensor,
        samples: int,
        loss: Loss,
        preprocess: Preprocess,
    ) -> None:
        self._memory = memory
        self._fresh = fresh
        self._strength = strength
        self._images = images
        self._labels = labels
        self._samples = samples
        self._loss = loss
        self._preprocess = preprocess

    def begin(self, net: nn.Module, generator: torch.Generator) -> None:
        """Where a new task begins: what the last one told joins what is held, and w* is the network as it comes."""
        if not self._fresh or "latest" not in self._memory:
            return
        latest = self._memory["latest"]
        before = self._memory.get("fisher", {})
        self._memory["fisher"] = {name: f + before[name] if name in before else f for name, f in latest.items()}
        self._memory["anchor"] = {n: p.detach().cpu().clone() for n, p in net.named_parameters() if n in latest}
        del self._memory["latest"]

    def term(self, net: nn.Module, x: Tensor, outputs: Tensor, generator: torch.Generator) -> Tensor | None:
        # The penalty, from the second task on.
        if "fisher" not in self._memory:
            return None
        named = {name: p for name, p in net.named_parameters() if p.requires_grad}
        return elastic_penalty(named, self._memory["anchor"], self._memory["fisher"], self._strength)

    def end(self, net: nn.Module, generator: torch.Generator) -> None:
        """F of the task in hand at the weights that its newest training left."""
        chosen = torch.randperm(len(self._images), generator=generator)[: self._samples]
        images = self._images[chosen]
        self._memory["latest"] = fisher(net, images, self._labels[chosen], self._loss, self._preprocess, generator)
