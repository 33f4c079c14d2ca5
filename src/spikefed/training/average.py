"""A running mean of a network's weights over its optimiser's steps (Polyak & Juditsky 1992, with exponential decay).

Weights at a constant learning rate circle around what they could reach; their mean lies nearer to it, for one pass
over the weights a step and no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from spikefed.networks import state_tensors


class WeightAverage:
    """a += (1 - d_t) (w - a) after every step t, where d_t = min(d, (1 + t) / (10 + t)), so that early weights fade.

    Statistics of normalisations are averaged like weights; counters are those of the last step.

    >>> net = nn.Linear(1, 1, bias=False)
    >>> optim = torch.optim.SGD(net.parameters(), lr=1.0)
    >>> mean = WeightAverage(0.5)
    >>> with mean.follows(net, optim), torch.no_grad():
    ...     for value in (1.0, 5.0):
    ...         _ = net.weight.fill_(value)
    ...         optim.step()
    >>> round(float(mean.tensors["weight"]), 3)
    4.273

    Args:
        decay: d in [0, 1).
        state: of an average that goes on, as `state` gave it.

    Attributes:
        tensors: the mean by tensor name, in the network's shapes; empty before the first step.
        steps: t, how many steps it has seen.
    """

    def __init__(self, decay: float, state: Mapping[str, Any] | None = None) -> None:
        self.decay = decay
        self.tensors: dict[str, Tensor] = {n: t.clone() for n, t in (state or {}).get("tensors", {}).items()}
        self.steps = int((state or {}).get("steps", 0))

    @property
    def state(self) -> dict[str, Any]:
        """What `WeightAverage` takes to go on: nested dict of tensors and numbers."""
        return {"tensors": {name: tensor.cpu() for name, tensor in self.tensors.items()}, "steps": self.steps}

    @contextmanager
    def follows(self, net: nn.Module, optim: torch.optim.Optimizer) -> Iterator[None]:
        """While it is open, every step of this optimiser counts.

        Args:
            net: what the optimiser trains.
            optim: any of torch's kind.
        """
        live = state_tensors(net)

        def after(*_: Any) -> None:
            if not self.tensors:
                self.tensors = {name: tensor.clone() for name, tensor in live.items()}
            else:
                decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
                for name, tensor in live.items():
                    if tensor.is_floating_point():
                        self.tensors[name].lerp_(tensor, 1.0 - decay)
                    else:
                        self.tensors[name].copy_(tensor)
            self.steps += 1

        self.tensors = {name: tensor.to(live[name].device) for name, tensor in self.tensors.items()}
        hook = optim.register_step_post_hook(after)
        try:
            yield
        finally:
            hook.remove()
