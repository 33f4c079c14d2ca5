"""Tickets of a client's own: masks that every client finds from what it trained on its own data.

LotteryFL (Li et al., "LotteryFL: Empower Edge Intelligence with Personalized and Communication-Efficient Federated
Learning", SEC 2021, arXiv 2008.03371) under the schedule of `tickets`: after a training of level k each client c prunes
its own network to the sparsity of level k + 1 (m_c) and trains what the server stored for rewinding under m_c.
With n_c samples an entry i becomes the mean over those clients of the round that hold it,

    theta[i] = sum_c n_c m_c[i] theta_c[i] / sum_c n_c m_c[i],

and stays as it was where nobody does. (The paper's mean is not weighted, and its clients prune when their accuracy
passes a bound; here all follow one schedule.) A client is sent the entries that it last sent.

A client prunes after every round of the training that finds its next mask, and keeps the newest. One that missed all of
that training takes part once under the mask that it has, and prunes then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from spikefed.federated import averaging
from spikefed.federated.averaging import Downlink, Uplink
from spikefed.federated.contract import ClientContext, Context, State
from spikefed.federated.messages import to_wire
from spikefed.federated.stages import Note
from spikefed.federated.ticketsearch import drawer, packed, unpacked
from spikefed.training import Mask
from spikefed.wire import SelectedWeightsDownlink

# A client's side. Its state: ``masks``, packed, by level; ``own``, its weights after its last training.


def held(state: State, level: int, like: Mask) -> State:
    """A client's state with the mask under which it trains a level (``own_mask``), if it has one.

    Args:
        state: the client's.
        level: from 0, the dense one.
        like: a mask of the same tensors.
    """
    there = [int(key) for key in state.get("masks", {}) if int(key) <= level]
    if not there:
        return state
    return {**state, "own_mask": dict(unpacked(state["masks"][str(max(there))], like).kept)}


def drawn(state: State, weights: Mapping[str, Tensor], note: Note, like: Mask, ctx: ClientContext) -> State:
    """What a client keeps of a round: its weights, and the masks that it found in them.

    Args:
        state: the client's, with the ``own_mask`` of the round if it had one.
        weights: after its training.
        note: the stage.
        like: a mask of the same tensors.
        ctx: with the client's own images, on which criteria are measured.
    """
    masks: dict[str, Tensor] = dict(state.get("masks", {}))
    if wanted := _wanted(masks, note, ctx.hyper):
        own = dataclasses.replace(ctx, public=ctx.train.images)
        draw = drawer(weights, {"mask": like.kept}, own)
        within = Mask(state["own_mask"]) if "own_mask" in state else None
        masks |= {str(level): packed(draw(ctx.hyper.targets[level - 1], within)) for level in wanted}
    return {"masks": masks, "own": dict(weights)}


def _wanted(masks: Mapping[str, Tensor], note: Note, hyper: Any) -> list[int]:
    """Levels whose masks a round finds."""
    level = note.level or 0
    last = len(hyper.targets)
    if level and str(level) not in masks:
        return [level]
    if hyper.search == "one-shot":
        return list(range(1, last + 1)) if note.kind == "search" else []
    apart = hyper.early_time or hyper.search_on == "ann"  # trainings that search are then not those of tickets
    return [level + 1] if level < last and (note.kind == "search" or not apart) else []


# The server's side. Of its state ``own``: the mask that each client last sent, packed, by client.


def heard(state: State, uplinks: Mapping[int, Uplink]) -> dict[str, Tensor]:
    """The masks that the server knows after a round, packed, by client. uint8, flat."""
    sent = {str(client): averaging.mask_of(uplink) for client, uplink in uplinks.items()}
    return {**state.get("own", {}), **{client: packed(mask) for client, mask in sent.items() if mask is not None}}


def union(own: Mapping[str, Tensor], like: Mask, clients: int) -> Mask:
    """What any client may hold: everything, as long as one of them has sent no mask yet.

    Args:
        own: of `heard`.
        like: a mask of the same tensors.
        clients: how many there are.
    """
    whole = Mask({name: torch.ones_like(kept) for name, kept in like.kept.items()})
    if not own or len(own) < clients:
        return whole
    bits = torch.zeros_like(packed(like))
    for mask in own.values():
        bits = bits | mask
    return unpacked(bits, like)


def addressed(state: State, downlink: Downlink, client: int) -> Downlink:
    """Of the server's weights those that the client last sent; all, as long as it has sent none."""
    bits = state.get("own", {}).get(str(client))
    if bits is None:
        return downlink
    kept = unpacked(bits, Mask(state["mask"])).kept
    return dataclasses.replace(cast(SelectedWeightsDownlink, downlink), kept=to_wire(kept))


def known(before: State, after: State, own: Mapping[str, Tensor], ctx: Context) -> State:
    """The server's state after a round with the masks it knows, its result under all of them.

    A stage whose masks are no part of the last one's begins with all weights for everybody.

    Args:
        before: the server's state at the beginning of the round, with its ``search``.
        after: as the round left it, with its ``result``.
        own: of `heard`.
        ctx: the server's context.
    """
    like = Mask(after["mask"])
    mask = union(own, like, ctx.clients)
    result = {"weights": averaging.under(mask, after["result"]["weights"]), "mask": dict(mask.kept)}
    was, now = (state["search"] for state in (before, after))
    nested = now["stage"] == was["stage"] or now["level"] > was["level"]
    return {**after, "result": result, "own": dict(own) if nested else {}}
