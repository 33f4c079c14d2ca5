"""What methods that average weights have in common: changes, what must stay exact, messages with a mask or without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from spikefed.federated.contract import NetworkFactory
from spikefed.federated.messages import to_wire
from spikefed.networks.roles import BN_STATS
from spikefed.training import Mask
from spikefed.wire import SelectedWeightsDownlink, SelectedWeightsUplink, WeightsDownlink, WeightsUplink

Uplink = WeightsUplink | SelectedWeightsUplink
Downlink = WeightsDownlink | SelectedWeightsDownlink


def change(after: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """after - before; integer tensors (batch counters) travel as they are. Shapes stay."""
    return {n: t - before[n] if t.is_floating_point() else t for n, t in after.items()}


def apply_change(before: Mapping[str, Tensor], delta: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of `change`. Shapes stay."""
    return {n: before[n] + t if t.is_floating_point() else t for n, t in delta.items()}


def exact_tensors(payload: str, networks: NetworkFactory) -> frozenset[str]:
    """Tensors that lossy codecs must leave alone: running statistics, whose errors no later round makes up."""
    if payload == "weights":
        return frozenset()
    return frozenset(name for name, role in networks.roles.items() if role == BN_STATS)


def uplink(
    tensors: Mapping[str, Tensor],
    mask: Mask | None,
    *,
    round: int,
    client: int,
    samples: int,
    accuracy: float,
    exact: frozenset[str],
) -> Uplink:
    """A client's message: these tensors whole, or what a mask leaves of them.

    Args:
        tensors: of any shapes, by name.
        mask: what travels of them, or None.
        round: its number, from 1.
        client: who sends.
        samples: items trained on, the weight in means.
        accuracy: of the client's network on its validation part, from 0 to 1.
        exact: names that travel without loss.
    """
    fields: dict[str, Any] = {"round": round, "client": client, "samples": samples, "accuracy": accuracy}
    arrays = to_wire(tensors)
    exact = exact & tensors.keys()
    if mask is None:
        return WeightsUplink(tensors=arrays, exact=exact, **fields)
    return SelectedWeightsUplink(tensors=arrays, kept=to_wire(mask.kept), exact=exact, **fields)


def downlink(tensors: Mapping[str, Tensor], mask: Mask | None, round: int, exact: frozenset[str]) -> Downlink:
    """The server's message: these tensors whole, or what a mask leaves of them.

    Args:
        tensors: of any shapes, by name.
        mask: what travels of them, or None.
        round: its number, from 1.
        exact: names that travel without loss.
    """
    arrays = to_wire(tensors)
    exact = exact & tensors.keys()
    if mask is None:
        return WeightsDownlink(round=round, tensors=arrays, exact=exact)
    return SelectedWeightsDownlink(round=round, tensors=arrays, kept=to_wire(mask.kept), exact=exact)


def mean_of(tensors: Mapping[int, Mapping[str, Tensor]], shares: Mapping[int, float]) -> dict[str, Tensor]:
    """Weighted mean of clients' tensors, in float64 in the order of client numbers; of integers the first client's.

    Shapes stay.
    """
    first, *_ = [tensors[client] for client in sorted(tensors)]
    means: dict[str, Tensor] = {}
    for name, like in first.items():
        if like.is_floating_point():
            parts = [shares[client] * tensors[client][name].double() for client in sorted(tensors)]
            means[name] = torch.stack(parts).sum(dim=0).to(like.dtype)
        else:
            means[name] = like
    return means


def mask_of(message: Uplink | Downlink) -> Mask | None:
    """The mask that a message brought; None for one without."""
    if not isinstance(message, SelectedWeightsUplink | SelectedWeightsDownlink):
        return None
    return Mask({name: torch.as_tensor(kept.copy()) for name, kept in message.kept.items()})


def under(mask: Mask, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """These tensors with 0 where the mask takes an entry away; masks of others are not looked at. Shapes stay."""
    return Mask({name: kept for name, kept in mask.kept.items() if name in tensors}).applied(tensors)
