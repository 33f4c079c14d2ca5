"""Tiny labelled images, and what a participant of a ticket search is told, without a wire."""

from __future__ import annotations

from typing import Any

import torch

from spikefed.federated import ClientContext, Context, Labelled
from spikefed.training import Preprocess

STEPS = 5


def images(count: int, seed: int) -> Labelled:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=draw)
    base = torch.randint(0, 60, (count, 1, 8, 8), generator=draw)
    base[torch.arange(count), 0, 2 * labels] += 180
    return Labelled(base.to(torch.uint8), labels)


def context(run: Any, public: int, client: int | None = None) -> Any:
    """The context of the server, or of a client, in the present round of ``run``, with ``public`` public images."""
    stream = 0 if client is None else client + 1
    common = dict(
        round=run.round, networks=run.networks, public=images(public, 99).images, public_set_id=bytes(32),
        hyper=run.hyper, preprocess=Preprocess("unit"), seed=stream,
        generator=torch.Generator().manual_seed(100 * stream + run.round),
    )  # fmt: skip
    if client is None:
        return Context(**common)  # type: ignore[arg-type]
    return ClientContext(**common, client=client, train=images(24, client), validation=images(6, 50 + client))  # type: ignore[arg-type]
