"""Training that left the numbers: what a network shows of it, and what a state may still be kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikefed.federated.contract import NetworkFactory
from spikefed.networks import norm, state_tensors

DIVERGED = "diverged"
GROWN = "weight_growth"
"""Numbers that a client reports: 1 where it has no upload because its training diverged; `growth` beyond `GROWTH`."""

GROWTH = 50.0
"""Growth of the weights (`growth`) beyond which nothing was learnt: on digits, with Adam, 15 at a rate of 0.1 still
learns, 98 at a rate of 1 does not."""


def lost(networks: NetworkFactory) -> list[str]:
    """Names of tensors of the shared network that hold a NaN or an infinity, and held none in the initial weights."""
    tensors = {n: t for n, t in state_tensors(networks.network).items() if n in networks.finite}
    if not tensors:
        return []
    whole = torch.stack([torch.isfinite(t).all() for t in tensors.values()]).tolist()  # one wait for a GPU
    return [name for name, fine in zip(tensors, whole, strict=True) if not fine]


def growth(networks: NetworkFactory) -> float:
    """2-norm of the shared network's weights over that of the common initial ones; 1 where those are all zero."""
    tensors = state_tensors(networks.network)
    start = networks.initial_norm
    return norm(tensors[name] for name in networks.weight_names) / start if start else 1.0


def is_finite(value: Any) -> bool:
    """Whether a state, however nested, holds no NaN and no infinity."""
    if isinstance(value, Mapping):
        return all(map(is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_finite, value))
    if isinstance(value, Tensor):
        return bool(torch.isfinite(value).all())
    if isinstance(value, np.ndarray):
        return value.dtype.kind not in "fc" or bool(np.isfinite(value).all())
    return not isinstance(value, float) or bool(np.isfinite(value))


def ruin(networks: NetworkFactory) -> str | None:
    """How much of the shared network is lost, in words; None where it holds numbers.

    A ruined one holds the common initial weights afterwards, so that nobody who looks next finds a NaN.
    """
    names = lost(networks)
    if not names:
        return None
    networks.load()
    return f"{len(names)} of its {len(networks.roles)} tensors hold NaN or infinity ('{names[0]}' among them)"


def advice(hyper: Any, *rates: str) -> str:
    """Which learning rates to lower, with their values; those that the method does not have are left out."""
    tables = {"lr": "training.lr", "distil_lr": "method.distil_lr", "server_lr": "method.server_lr"}
    known = [f"{tables[rate]} ({getattr(hyper, rate):g})" for rate in rates if hasattr(hyper, rate)]
    return f"lower {' or '.join(known)}" if known else "lower its learning rate"
