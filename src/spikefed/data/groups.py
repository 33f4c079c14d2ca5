"""People left out: whose items are the test set, and whose are public rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from spikefed.data.federation import PARTITIONS, Stream, column, stream_generator
from spikefed.data.images import ImageSet
from spikefed.data.lazy import joined_rows
from spikefed.data.parts import Sources
from spikefed.errors import DataError

Groups = Sequence[str | int] | int
"""Values of a column, or how many of them the seed draws."""


def leave_out(sources: Sources, by: str, *, test: Groups = 0, public: Groups = 0, seed: int = 0) -> Sources:
    """Sets in which whole groups (people) are test set or public rows; all others stay training set.

    With ``test``, training and test part are put together first, so that no item of a person left out is trained on.

    Args:
        sources: the sets as they come.
        by: the column that names the groups.
        test: the groups of the test set.
        public: the groups whose items alone are public rows.
        seed: draws groups where only their number is given, another draw for each seed.

    Raises:
        DataError: no such column or group, a group in both, or nobody left to train.
    """
    if not _any(test) and not _any(public):
        return sources
    if _any(public) and sources.public is not None:
        raise DataError(
            "data split: public rows come from another set, and data.public_groups takes them from people; choose one."
        )
    whole = together(sources.train, sources.test) if _any(test) else sources.train
    owners = column(whole, by).astype(str)
    rest = list(np.unique(column(whole, by)).astype(str))
    generator = stream_generator(seed, Stream.GROUPS)
    test_names = _chosen(test, rest, by, "test_groups", generator)
    public_names = _chosen(public, [name for name in rest if name not in test_names], by, "public_groups", generator)
    left = ~np.isin(owners, [*test_names, *public_names])
    if not left.any():
        raise DataError(f"data split: nobody is left to train when {by} {', '.join(rest)} are test or public.")
    train = whole.subset(np.flatnonzero(left))
    train = replace(train, split="train", notes=(*train.notes, *_told(by, test_names, public_names)))
    held = whole.subset(np.flatnonzero(np.isin(owners, test_names))) if test_names else sources.test
    rows = whole.subset(np.flatnonzero(np.isin(owners, public_names))) if public_names else sources.public
    return Sources(train, replace(held, split="test"), None if rows is None else replace(rows, split="public"))


def together(first: ImageSet, second: ImageSet) -> ImageSet:
    """Two parts of one source as one set."""
    if isinstance(first.images, torch.Tensor) and isinstance(second.images, torch.Tensor):
        kinds = {first.images.dtype, second.images.dtype}
        wide = torch.int32 if len(kinds) > 1 else first.images.dtype
        images = torch.cat([first.images.to(wide), second.images.to(wide)])
    else:
        images = joined_rows(first.images, second.images)
    columns = {
        key: np.concatenate([values, second.columns[key]])
        for key, values in first.columns.items()
        if key in second.columns
    }
    return replace(first, images=images, labels=torch.cat([first.labels, second.labels]), columns=columns)


def check_owners(train: ImageSet, partition: str) -> None:
    """Refuse to deal a list of clients' sets out anew.

    Raises:
        DataError: the source is a list of data sets, one a client, and the partition is another.
    """
    if "client" in train.columns and partition in PARTITIONS[:3]:
        count = len(np.unique(train.columns["client"]))
        raise DataError(
            f"data split: {train.name} says of each item which of {count} clients has it, and data.partition = "
            f"'{partition}' would deal them out anew; set data.partition = 'column' and data.clients = {count}."
        )


def _any(groups: Groups) -> bool:
    return groups > 0 if isinstance(groups, int) else len(groups) > 0


def _chosen(groups: Groups, known: list[str], by: str, key: str, generator: np.random.Generator) -> list[str]:
    if isinstance(groups, int):
        if groups < 0 or groups >= max(len(known), 1):
            raise DataError(
                f"data split: data.{key} = {groups}, but there are {len(known)} values of '{by}' to choose from, and "
                "one must be left; lower it."
            )
        return sorted((known[i] for i in generator.permutation(len(known))[:groups]), key=known.index)
    names = [str(group) for group in groups]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise DataError(
            f"data split: data.{key} names '{unknown[0]}', which no item has as '{by}' (or which is left out "
            f"already); there are {', '.join(known[:12])}."
        )
    return names


def _told(by: str, test: list[str], public: list[str]) -> tuple[str, ...]:
    parts = [f"{by} {', '.join(names)} {what}" for names, what in ((test, "tested on"), (public, "public")) if names]
    return (f"left out of training: {'; '.join(parts)}.",)
