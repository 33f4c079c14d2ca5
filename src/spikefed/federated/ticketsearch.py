"""What the server of a search for tickets does between two rounds: it stores, prunes, rewinds and goes to a stage.

Its state beside weights and mask: ``rewind``, the stored weights with their running statistics, and ``search``, where
it stands. Masks are kept packed, 1 bit an entry.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from spikefed.federated.averaging import under
from spikefed.federated.contract import Context, State
from spikefed.federated.stages import Note, Stage, program
from spikefed.networks import Row
from spikefed.training import (
    Mask,
    channel_scores,
    early_steps,
    input_activity,
    kl_profile,
    magnitudes,
    mask_distance,
    mask_of_best,
    mask_of_best_channels,
    mask_of_least_loss,
    operations_of,
    outputs,
    per_operation,
    random_scores,
    saliencies,
    saliencies_of,
)

PROFILE_IMAGES = 1000
"""Public images of the profile of Early-Time, and of the mean input of a synapse [released code: 1000 for training]."""


def begin(weights: dict[str, Tensor], names: Collection[str], ctx: Context) -> tuple[State, Mask]:
    """The server's state before round 1, and the first mask."""
    dense = Mask({n: torch.ones(t.shape, dtype=torch.bool) for n, t in weights.items() if n in names})
    search: State = {"stage": 0, "at": 0, "level": 0, "early": 0, "spent": 0, "masks": {}, "costs": {}, "recent": {}}
    search |= {"joules": 0.0, "paid": {}}
    state: State = {"weights": weights, "mask": dict(dense.kept), "rewind": weights, "search": search}
    if ctx.hyper.search == "random":
        scores = random_scores(weights, names, ctx.generator)
        search["masks"] = {str(k): packed(mask_of_best(scores, s)) for k, s in _levels(ctx)}
    if ctx.hyper.search == "early-bird":
        search |= _drawn(state, weights, 0, ctx)
    stage = program(ctx.hyper)[0]
    return (state, dense) if not stage.level else _entered(state, stage, ctx)


def now(state: State, ctx: Context) -> tuple[Stage, int]:
    """The stage of the coming round, and its time steps."""
    stage = program(ctx.hyper)[state["search"]["stage"]]
    search = state["search"]
    whole = int(getattr(ctx.networks.network, "steps", 1))
    return stage, search["early"] if stage.early and search["early"] else whole


def note(state: State, ctx: Context) -> Note:
    """What clients are told of it."""
    search = state["search"]
    return Note.of(program(ctx.hyper)[search["stage"]], search["at"], search["early"], ctx.hyper.personal_masks)


def advance(
    state: State, merged: Mapping[str, Tensor], spent: int, joules: float, ctx: Context
) -> tuple[State, dict[str, float]]:
    """The state after a round: masks found, and weights and mask of the round that comes.

    Args:
        state: after the merge.
        merged: aggregated weights, or gradients of a ``saliency`` stage.
        spent: time steps that clients simulated in the round, times images.
        joules: of their training.
        ctx: the server's.

    Returns:
        the state, and what there is to say.
    """
    stages = program(ctx.hyper)
    search: State = dict(state["search"])
    stage = stages[search["stage"]]
    values = {}
    search["at"] += 1
    if stage.kind != "train" or ctx.hyper.search == "imp":
        search["spent"] += spent
        search["joules"] += joules
    new: State = {**state, "search": search}
    if stage.stores == search["at"]:
        new["rewind"] = merged
    if ctx.hyper.search == "early-bird" and stage.kind == "search":
        search |= _drawn(new, merged, search["at"], ctx)
    if search["at"] == stage.probes:
        search["early"], values = _early(merged, ctx)
    over = search["at"] >= stage.rounds or (stage.kind == "search" and bool(_all_stable(search, ctx)))
    if not over:
        return new, values
    search |= _found(new, stage, merged, ctx)
    if search["stage"] + 1 < len(stages):
        search |= {"stage": search["stage"] + 1, "at": 0}
        new, _ = _entered(new, stages[search["stage"]], ctx)
        level = new["search"]["level"]
        if level:
            values[f"search_lif_steps_{level}"] = float(new["search"]["costs"][str(level)])
            values[f"search_joules_{level}"] = float(new["search"]["paid"][str(level)])
    return new, values


def _entered(state: State, stage: Stage, ctx: Context) -> tuple[State, Mask]:
    """The state at the beginning of a stage: its mask on its first weights."""
    search = {**state["search"], "level": stage.level}
    mask = Mask({name: torch.ones_like(kept) for name, kept in state["mask"].items()})
    if stage.level and not ctx.hyper.personal_masks:
        mask = unpacked(search["masks"][str(stage.level)], mask)
    if stage.level:
        search["costs"] = {str(stage.level): search["spent"]} | search["costs"]
        search["paid"] = {str(stage.level): search["joules"]} | search["paid"]
    start = {"initial": ctx.networks.initial(), "rewind": state["rewind"], "kept": state["weights"]}[stage.start]
    return {**state, "weights": under(mask, start), "mask": dict(mask.kept), "search": search}, mask


def _found(state: State, stage: Stage, merged: Mapping[str, Tensor], ctx: Context) -> State:
    """The masks that the end of a stage gives."""
    search = state["search"]
    hyper = ctx.hyper
    costs, paid = dict(search["costs"]), dict(search["paid"])
    masks = dict(search["masks"])
    if stage.kind == "probe" or hyper.search == "random" or hyper.personal_masks:
        return {}
    if hyper.search == "imp":
        level = stage.level + 1
        if level <= len(hyper.targets) and str(level) not in masks:
            draw = drawer(merged, state, ctx)
            masks[str(level)] = packed(draw(hyper.targets[level - 1], Mask(state["mask"])))
            costs[str(level)], paid[str(level)] = search["spent"], search["joules"]
    elif stage.kind in ("search", "saliency"):
        if stage.kind == "saliency":
            gradients = {name: merged[name] for name in state["mask"]}
            draw = partial(mask_of_best, saliencies(state["weights"], gradients))
        else:
            draw = drawer(merged, state, ctx)
        for level, sparsity in _levels(ctx):
            if str(level) not in masks:
                masks[str(level)] = packed(draw(sparsity))
                costs[str(level)], paid[str(level)] = search["spent"], search["joules"]
    return {"masks": masks, "costs": costs, "paid": paid, "recent": {}}


def drawer(weights: Mapping[str, Tensor], state: State, ctx: Context) -> Callable[..., Mask]:
    """``(sparsity, within=None) -> mask`` by the criterion of the search, measured once.

    Args:
        weights: of a network, by name.
        state: the server's; names what is maskable.
        ctx: public images, and what a channel is.
    """
    hyper = ctx.hyper
    names = [name for name in state["mask"] if weights[name].dim() > 1 and ".norm." not in name]
    size = magnitudes(weights, names)
    row = Row.of(ctx.networks.network) if hyper.units == "channels" else None
    images = ctx.public[:PROFILE_IMAGES]
    if hyper.criterion in ("magnitude", "spikes"):
        scores = size
        if hyper.criterion == "spikes":
            net = ctx.networks.load(weights)
            activity = input_activity(net, names, images, ctx.preprocess, ctx.generator)
            scores = {name: score * activity[name] for name, score in size.items()}
        if row is None:
            return partial(mask_of_best, scores)
        return partial(mask_of_best_channels, row, channel_scores(row, scores), keep=hyper.keep_channels)
    net = ctx.networks.load(weights)
    found = saliencies_of(net, names, images, ctx.preprocess, ctx.generator, hyper.logit_scale)
    per = hyper.criterion == "operations"
    if row is None and hyper.most_operations:

        def bounded(sparsity: float, within: Mask | None = None) -> Mask:
            most = hyper.most_operations * operations_of(mask_of_best(size, sparsity, within), found.operations)
            return mask_of_least_loss(found.losses, found.operations, sparsity, most, within)

        return bounded
    if row is None:
        losses = {n: per_operation(t, found.operations[n]) if per else t for n, t in found.losses.items()}
        return partial(mask_of_best, losses)
    gates = [found.channels[row.weight(place)] for place in range(len(row.names) - 1)]
    weighed = found.operations if per else None
    return partial(mask_of_best_channels, row, gates, operations=weighed, keep=hyper.keep_channels)


def _early(weights: Mapping[str, Tensor], ctx: Context) -> tuple[int, dict[str, float]]:
    """T_early and the profile that gave it, of the aggregated network in evaluation on public images."""
    net = ctx.networks.load(weights)
    values = outputs(net, ctx.public[:PROFILE_IMAGES], preprocess=ctx.preprocess, generator=ctx.generator)
    profile = kl_profile(values, ctx.hyper.logit_scale)
    steps = early_steps(profile, ctx.hyper.kl_threshold)
    return steps, {"early_steps": float(steps)} | {f"kl_{t}": d for t, d in enumerate(profile, start=1)}


def _levels(ctx: Context) -> list[tuple[int, float]]:
    return list(enumerate(ctx.hyper.targets, start=1))


def _drawn(state: State, weights: Mapping[str, Tensor], at: int, ctx: Context) -> State:
    """Early-Bird: the one-shot mask of every level that is still open, and those that are stable now."""
    search = state["search"]
    hyper = ctx.hyper
    draw = drawer(weights, state, ctx)
    recent = dict(search["recent"])
    masks = dict(search["masks"])
    costs, paid = dict(search["costs"]), dict(search["paid"])
    like = Mask(state["mask"])
    for level, sparsity in _levels(ctx):
        key = str(level)
        if key in masks:
            continue
        drawn = draw(sparsity)
        before = list(recent.get(key, {}).values())
        far = max((mask_distance(drawn, unpacked(other, like)) for other in before), default=1.0)
        if len(before) >= hyper.masks - 1 and far < hyper.mask_distance:
            masks[key] = packed(drawn)
            costs[key], paid[key] = search["spent"], search["joules"]
            recent.pop(key)
        else:
            queue = [*before, packed(drawn)][-(hyper.masks - 1) :]
            recent[key] = {str(i): mask for i, mask in enumerate(queue)}
    return {"recent": recent, "masks": masks, "costs": costs, "paid": paid}


def _all_stable(search: State, ctx: Context) -> bool:
    return ctx.hyper.search == "early-bird" and len(search["masks"]) == len(ctx.hyper.targets)


def packed(mask: Mask) -> Tensor:
    """uint8: the mask's bits, tensor by tensor. Shape ``[ceil(n / 8)]``."""
    flat = torch.cat([kept.reshape(-1) for kept in mask.kept.values()]).numpy()
    return torch.from_numpy(np.packbits(flat))


def unpacked(bits: Tensor, like: Mask) -> Mask:
    """Inverse of `packed`, for a mask of the same tensors. ``bits`` is ``[ceil(n / 8)]``."""
    sizes = [kept.numel() for kept in like.kept.values()]
    flat = torch.from_numpy(np.unpackbits(bits.numpy(), count=sum(sizes)).astype(bool))
    parts = flat.split(sizes)
    return Mask({name: part.reshape(kept.shape) for (name, kept), part in zip(like.kept.items(), parts, strict=True)})
