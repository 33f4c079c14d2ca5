"""Which entries of a network's tensors a message carries, and how what several clients sent of them is merged.

A selection names tensors, and of some of them single entries: by role (thresholds, heads, normalisations), by mask
(what a pruned network has left), by branch (a subnet). Merged is the weighted mean over those who sent an entry; where
nobody did the old value stays. FedAvg is the selection of everything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from spikefed.errors import ConfigError
from spikefed.federated.robust import weighted_mean
from spikefed.networks import Role, is_role
from spikefed.training import Mask
from spikefed.wire import Message

TASKS = "task"
"""In a list of roles: those of all tasks, ``task[0]``, ``task[1]``, ..."""


@dataclass(frozen=True, eq=False)
class Selection:
    """Some of a network's state.

    >>> weights = {"w": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0]), "v": torch.tensor([4.0])}
    >>> some = Selection({"w": torch.tensor([True, False]), "b": None})
    >>> list(some.of(weights)), some.count(weights), "v" in some
    (['w', 'b'], 2, False)
    >>> (some | everything(weights)).whole
    True

    Attributes:
        entries: by tensor name, a bool tensor of its shape, True where an entry is in it, or None: all of them are. A
            name that is missing is not in it at all.
    """

    entries: Mapping[str, Tensor | None]

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __or__(self, other: Selection) -> Selection:
        """What is in either."""
        joined = dict(self.entries)
        for name, theirs in other.entries.items():
            own = joined.get(name)
            joined[name] = theirs if name not in joined else None if own is None or theirs is None else own | theirs
        return Selection(joined)

    def __and__(self, other: Selection) -> Selection:
        """What is in both."""
        return Selection({name: _both(own, other.entries[name]) for name, own in self.entries.items() if name in other})

    @property
    def whole(self) -> bool:
        """Whether it holds every tensor that it names as a whole."""
        return all(kept is None for kept in self.entries.values())

    def of(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors that it names, in the order given and as they are. Shapes stay."""
        return {name: tensor for name, tensor in tensors.items() if name in self.entries}

    def count(self, tensors: Mapping[str, Tensor]) -> int:
        """How many entries of these tensors are in it. Shapes are any."""
        kept = {name: self.entries[name] for name in self.of(tensors)}
        return sum(tensors[name].numel() if mask is None else int(mask.sum()) for name, mask in kept.items())

    def overlaid(self, tensors: Mapping[str, Tensor], below: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``below`` with the entries that are in it taken from ``tensors``. Shapes stay."""
        return {name: self._taken(name, tensors, tensor) for name, tensor in below.items()}

    def _taken(self, name: str, tensors: Mapping[str, Tensor], below: Tensor) -> Tensor:
        if name not in self.entries:
            return below
        kept = self.entries[name]
        return tensors[name] if kept is None else torch.where(kept, tensors[name], below)

    def arrays(self) -> dict[str, np.ndarray | None]:
        """As messages take it (``kept``). bool in each tensor's shape."""
        return {name: None if kept is None else kept.numpy() for name, kept in self.entries.items()}

    @classmethod
    def of_message(cls, message: Message) -> Selection:
        """What a message of weights carries."""
        kept: Mapping[str, np.ndarray | None] = getattr(message, "kept", None) or {}
        masks = {name: torch.as_tensor(np.array(mask)) for name, mask in kept.items() if mask is not None}
        return cls({name: masks.get(name) for name in message.content})


def everything(tensors: Iterable[str]) -> Selection:
    """All of these tensors, whole."""
    return Selection(dict.fromkeys(tensors))


def check_roles(wanted: Collection[Role]) -> None:
    """Refuse what is no role of a tensor, nor ``task``, which stands for the roles of all tasks; and no role at all.

    Raises:
        ConfigError: the first of them.
    """
    if not wanted:
        raise ConfigError('an empty list names no role of a tensor; name some, such as ["weight"]')
    for role in wanted:
        if role != TASKS and not is_role(role):
            raise ConfigError(
                f"'{role}' is no role of a tensor; use weight, bn_affine, bn_stats, neuron, frozen, task[k] or task"
            )


def by_role(roles: Mapping[str, Role], wanted: Collection[Role]) -> Selection:
    """The tensors of some roles, whole.

    Args:
        roles: role by tensor name (`spikefed.networks.roles`).
        wanted: roles; ``task`` stands for those of all tasks.

    Raises:
        ConfigError: no role of that name, or no tensor has one of them.
    """
    check_roles(wanted)
    chosen = [name for name, role in roles.items() if role in wanted or (TASKS in wanted and role.startswith("task["))]
    if not chosen:
        there = ", ".join(dict.fromkeys(roles.values()))
        asked = " or ".join(f"'{role}'" for role in wanted)
        raise ConfigError(f"no tensor of this network has the role {asked}; the roles of its tensors are {there}")
    return everything(chosen)


def by_mask(mask: Mask, tensors: Iterable[str]) -> Selection:
    """What a mask leaves of these tensors; one without a mask is there whole."""
    return Selection({name: mask.kept.get(name) for name in tensors})


def by_branch(tensors: Iterable[str], *branches: str) -> Selection:
    """The tensors of some modules: those named, or below, one of these prefixes (``blocks.3.conv``), whole.

    Raises:
        ConfigError: a branch without tensors.
    """
    names = list(tensors)
    found = {branch: [n for n in names if n == branch or n.startswith(f"{branch}.")] for branch in branches}
    for branch, own in found.items():
        if not own:
            raise ConfigError(f"branch '{branch}' has no tensors; the network's first tensor is '{names[0]}'")
    return everything(name for name in names if any(name in own for own in found.values()))


def union(selections: Iterable[Selection]) -> Selection:
    """What is in any of them."""
    return reduce(Selection.__or__, selections, Selection({}))


def merge_selected(
    sent: Mapping[int, Mapping[str, Tensor]],
    weights: Mapping[int, float],
    old: Mapping[str, Tensor],
    selections: Mapping[int, Selection] | None = None,
) -> dict[str, Tensor]:
    """Weighted mean of every entry over the clients that sent it; the old value where nobody did.

    Sums run in float64 in the order of client numbers, so the order of arrival cannot change a bit. What all clients
    sent whole is their plain weighted mean; what one client sent is its own value to the bit. Integer tensors (batch
    counters) get the rounded mean. Shapes are those of ``old``.

    Args:
        sent: tensors by client and name; entries outside a client's selection are not looked at.
        weights: by client, summing to 1; where some did not send an entry, those of the others are scaled up.
        old: all tensors as they were; it says names, order and types.
        selections: what each client sent; default: all of its tensors, whole.

    Returns:
        all tensors of ``old``.
    """
    chosen = {client: everything(own) for client, own in sent.items()} if selections is None else selections
    return {name: _merged(name, tensor, sent, weights, chosen) for name, tensor in old.items()}


def untouched(after: Mapping[str, Tensor], before: Mapping[str, Tensor], sent: Selection) -> dict[str, Tensor]:
    """``after`` with the entries that nobody sent as they were in ``before``, 0 where they were not yet there.

    For what a server optimiser did to absent entries: its moments decay, and momentum goes on moving a weight, even
    where the mean change is 0. Shapes stay.

    Args:
        after: tensors by name, of the network or of an optimiser's state; others are left as they are.
        before: the same, from before the step.
        sent: what somebody sent.
    """
    found = dict(after)
    for name, tensor in after.items():
        kept = sent.entries.get(name)
        if not isinstance(tensor, Tensor) or (name in sent and kept is None):
            continue
        if kept is None:
            found.pop(name)
            found |= {name: before[name]} if name in before else {}
        elif kept.shape == tensor.shape:
            found[name] = torch.where(kept, tensor, before[name] if name in before else torch.zeros_like(tensor))
    return found


def _both(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _merged(
    name: str,
    old: Tensor,
    sent: Mapping[int, Mapping[str, Tensor]],
    weights: Mapping[int, float],
    selections: Mapping[int, Selection],
) -> Tensor:
    clients = [client for client in sorted(sent) if name in selections[client]]
    total = sum(weights[client] for client in clients)
    if not clients or total <= 0:
        return old
    values = {client: sent[client][name] for client in clients}
    masks = [selections[client].entries[name] for client in clients]
    if all(_equal(mask, masks[0]) for mask in masks):  # everybody sent the same entries: one scale for all of them
        share = 1.0 if len(clients) == len(sent) else total
        arrays = {client: value.numpy() for client, value in values.items()}
        scaled = {client: weights[client] / share for client in clients}
        mean = _as(torch.as_tensor(weighted_mean(arrays, scaled, np.float64)), old)
        return mean if masks[0] is None else torch.where(masks[0], mean, old)
    kept = {c: torch.ones(old.shape, dtype=torch.bool) if m is None else m for c, m in zip(clients, masks, strict=True)}
    return _merged_by_entry(old, values, weights, kept, len(sent))


def _merged_by_entry(
    old: Tensor, values: Mapping[int, Tensor], weights: Mapping[int, float], kept: Mapping[int, Tensor], everybody: int
) -> Tensor:
    """The merge where clients sent different entries: a scale for every one."""
    shares = torch.zeros(old.shape, dtype=torch.float64)
    mean = torch.zeros(old.shape, dtype=torch.float64)
    senders = torch.zeros(old.shape, dtype=torch.int64)
    for client, mask in kept.items():
        shares += weights[client] * mask.to(torch.float64)
        senders += mask
    scale = torch.where((senders == everybody) | (shares <= 0), torch.ones_like(shares), shares)
    for client, mask in kept.items():  # a value outside a mask may be anything, and counts as 0
        value = torch.where(mask, values[client].to(torch.float64), torch.zeros_like(mean))
        mean += weights[client] / scale * value
    return torch.where(shares > 0, _as(mean, old), old)


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one is other or torch.equal(one, other)


def _as(mean: Tensor, like: Tensor) -> Tensor:
    return mean.to(like.dtype) if like.is_floating_point() else mean.round().to(like.dtype)
