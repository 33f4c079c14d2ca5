"""Learning rates that change from step to step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def half_cosine(optim: torch.optim.Optimizer, steps: int) -> Iterator[None]:
    """While it is open, step t = 0, 1, ... is made with lr (1 + cos(pi t / steps)) / 2, and 0 from t = steps on.

    The first step has the whole learning rate (Loshchilov & Hutter, "SGDR", ICLR 2017, eq. 5 with one cycle and a least
    rate of 0). Afterwards the optimiser has the learning rates that it came with.

    >>> weight = torch.nn.Parameter(torch.zeros(1))
    >>> optim = torch.optim.SGD([weight], lr=1.0)
    >>> with half_cosine(optim, 2):
    ...     for _ in range(3):
    ...         weight.grad = torch.ones(1)
    ...         optim.step()
    >>> round(weight.item(), 3)
    -1.5

    Args:
        optim: any of torch's kind.
        steps: of it while this is open.
    """
    rates = [group["lr"] for group in optim.param_groups]
    done = 0

    def after(*_: Any) -> None:
        nonlocal done
        done += 1
        share = 0.5 * (1.0 + math.cos(math.pi * min(done, steps) / steps)) if steps else 0.0
        for group, rate in zip(optim.param_groups, rates, strict=True):
            group["lr"] = rate * share

    hook = optim.register_step_post_hook(after)
    try:
        yield
    finally:
        hook.remove()
        for group, rate in zip(optim.param_groups, rates, strict=True):
            group["lr"] = rate
