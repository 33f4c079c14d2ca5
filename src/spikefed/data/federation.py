"""The federated split: a public set without labels, and private training and validation items for each client."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from spikefed.data.images import ImageSet, public_set_id
from spikefed.data.partition import (
    column_partition,
    dirichlet_partition,
    drawn_sizes,
    own_partition,
    shard_partition,
)
from spikefed.errors import DataError
from spikefed.objects import import_object, is_own

PARTITIONS = ("iid", "dirichlet", "shards", "column")


class Stream(IntEnum):
    """Independent random streams of one seed: a change in one draw leaves the others as they are."""

    PUBLIC = 1
    PRIVATE = 2
    PARTITION = 3
    SIZES = 4
    OWN_TEST = 5
    GROUPS = 6


@dataclass(frozen=True, eq=False)
class ClientIndices:
    """Items of one client: int64 indices into the training set.

    Attributes:
        train: trained on.
        validation: measure the client's own network while it trains.
        test: never used in training; measure at the end what the federation gives this client.
    """

    train: Int64[Tensor, " n"]
    validation: Int64[Tensor, " v"]
    test: Int64[Tensor, " t"] = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))


@dataclass(frozen=True, eq=False)
class FederatedSplit:
    """What each party holds.

    Attributes:
        public_images: uint8 ``[P, C, H, W]`` in the order that both ends know; no labels.
        public_indices: int64 ``[P]``, where they come from (indices into the training set or the public source).
        clients: indices of each client, all disjoint from the public set and from each other.
        names: who the clients are, where the data say so.
    """

    public_images: Shaped[Tensor, "P ..."]
    public_indices: Int64[Tensor, " P"]
    clients: list[ClientIndices]
    names: tuple[str, ...] = ()

    @property
    def public_id(self) -> bytes:
        """Identity of the public set, see `public_set_id`."""
        return public_set_id(self.public_images)


def pooled(split: FederatedSplit) -> FederatedSplit:
    """The same split with the items of all clients in the hands of one (the ceiling of a federation)."""
    everything = ClientIndices(
        torch.cat([client.train for client in split.clients]),
        torch.cat([client.validation for client in split.clients]),
        torch.cat([client.test for client in split.clients]),
    )
    return FederatedSplit(split.public_images, split.public_indices, [everything])


def stream_generator(seed: int, stream: Stream) -> np.random.Generator:
    """The generator of one purpose of dealing data; no purpose's draws move another's."""
    return np.random.default_rng(np.random.SeedSequence([seed, int(stream)]))


def generator_of(seed: int) -> np.random.Generator:
    """A generator of nothing but the seed."""
    return np.random.default_rng(seed)


def split_federation(
    train: ImageSet,
    *,
    clients: int,
    private_per_client: int | None = None,
    public: int = 0,
    partition: str = "iid",
    alpha: float = 0.5,
    shards_per_client: int = 2,
    validation: float = 0.1,
    validation_overlap: bool = False,
    seed: int = 0,
    public_source: ImageSet | None = None,
    by: str = "client",
    sizes: Sequence[int] = (),
    size_alpha: float | None = None,
    own_test: float = 0.0,
) -> FederatedSplit:
    """Split ``train`` into a public set and the clients' private data.

    1. The public set: ``public`` random items of ``train``, or of ``public_source`` when given; labels are dropped.
    2. The private pool: ``clients * private_per_client`` random items of the rest (all the rest when None).
    3. The pool is shared out by ``partition``. IID and shards give equal sizes. Dirichlet runs on the whole pool, so
       sizes differ and ``private_per_client`` is their mean (see `dirichlet_partition`).
    4. Of each client, the last ``own_test`` fraction of every class, in the order of the data, is its own test set:
       windows of one recording overlap their neighbours, and a random choice would test what was trained on.
    5. Each client's first ``validation`` fraction (rounded, at least one item) becomes its validation set.

    Args:
        clients: number of clients, >= 1.
        private_per_client: private items of each client, validation included; None: everything that is left.
        public: size of the public set, >= 0.
        partition: ``"iid"``, ``"dirichlet"``, ``"shards"``; ``"column"``, one client for each value of the column
            ``by``; or ``"module:function"``, see `own_partition`.
        alpha: Dirichlet concentration, > 0.
        shards_per_client: shards a client, >= 1.
        validation: fraction in [0, 1); FSD uses 0.1.
        validation_overlap: True: validation items are trained on as well, as the FSD authors' code does.
        seed: >= 0. The split depends on it alone, not on torch's global generator; the public set does not depend on
            the clients, and with IID shares of a fixed size client i keeps its items when clients are added.
        public_source: another set for the public images; it must have the image shape of ``train``.
        by: column of ``train`` that says whose each item is.
        sizes: items of each client, for ``iid`` and about so for ``dirichlet``.
        size_alpha: draw the sizes from Dirichlet(size_alpha); smaller is less equal.
        own_test: fraction in [0, 1) of each client's items that is its own test set.

    Raises:
        DataError: sizes that do not fit the data, an unknown partition, or arguments out of range.
    """
    _check_arguments(train, clients, private_per_client, public, partition, validation, seed, public_source)
    _check_sizes(sizes, size_alpha, clients, private_per_client, partition, own_test)

    source = train if public_source is None else public_source
    public_indices = stream_generator(seed, Stream.PUBLIC).permutation(len(source))[:public]

    order = stream_generator(seed, Stream.PRIVATE).permutation(len(train))
    if public_source is None:
        is_public = np.zeros(len(train), dtype=bool)
        is_public[public_indices] = True
        order = order[~is_public[order]]
    pool = order if private_per_client is None else order[: clients * private_per_client]

    names: tuple[str, ...] = ()
    if partition == "column":
        shares, names = _by_column(train, pool, clients, by, seed)
    elif is_own(partition):
        shares = _by_function(train, pool, clients, partition, seed)
    else:
        if size_alpha is not None:
            sizes = drawn_sizes(len(pool), clients, size_alpha, stream_generator(seed, Stream.SIZES))
        if len(sizes):
            pool = _enough(pool, sizes, train)
        shares = _share_out(train, pool, clients, private_per_client, partition, alpha, shards_per_client, seed, sizes)
    tests = [_own_test(train, share, own_test) for share in shares]
    shares = [share[~np.isin(share, held)] for share, held in zip(shares, tests, strict=True)]
    dealt = [_hold_out(share, validation, validation_overlap, i) for i, share in enumerate(shares)]
    return FederatedSplit(
        public_images=source.images[torch.from_numpy(public_indices)],
        public_indices=torch.from_numpy(public_indices),
        clients=[
            ClientIndices(indices.train, indices.validation, torch.from_numpy(np.ascontiguousarray(held)))
            for indices, held in zip(dealt, tests, strict=True)
        ],
        names=names,
    )


def _by_column(
    train: ImageSet, pool: np.ndarray, clients: int, by: str, seed: int
) -> tuple[list[np.ndarray], tuple[str, ...]]:
    shares, names = column_partition(column(train, by)[pool], stream_generator(seed, Stream.PARTITION))
    if len(names) != clients:
        raise DataError(
            f"data split: column '{by}' of {train.name} has {len(names)} values ({_few(names)}), data.clients is "
            f"{clients}; set data.clients = {len(names)}."
        )
    return [pool[share] for share in shares], names


def _by_function(train: ImageSet, pool: np.ndarray, clients: int, name: str, seed: int) -> list[np.ndarray]:
    maker: Callable[..., Any] = import_object(name, "data.partition", DataError)
    columns = {key: values[pool] for key, values in train.columns.items()}
    generator = stream_generator(seed, Stream.PARTITION)
    return [pool[s] for s in own_partition(maker, name, train.labels.numpy()[pool], clients, generator, columns)]


def column(images: ImageSet, by: str) -> np.ndarray:
    """The values of a column. Shape ``[N]``.

    Raises:
        DataError: there is none of that name.
    """
    if by not in images.columns:
        known = ", ".join(f"'{key}'" for key in images.columns)
        raise DataError(
            f"data split: {images.name} has no column '{by}'; "
            + (f"set data.by to one of {known}." if known else "it says of no item whose it is.")
        )
    return np.asarray(images.columns[by])


def _enough(pool: np.ndarray, sizes: Sequence[int], train: ImageSet) -> np.ndarray:
    if sum(sizes) > len(pool):
        raise DataError(
            f"data split: data.sizes ask for {sum(sizes):,} items, {train.name} ({train.split}) has {len(pool):,} "
            "left beside the public ones; lower them."
        )
    return pool[: sum(sizes)]


def _own_test(train: ImageSet, share: np.ndarray, fraction: float) -> np.ndarray:
    """The last of each class, in the order of the data: what was recorded later tests what was recorded before."""
    if fraction <= 0:
        return share[:0]
    labels = train.labels.numpy()
    mine = np.sort(share)
    by_class = [mine[labels[mine] == label] for label in np.unique(labels[mine])]
    return np.sort(np.concatenate([rows[len(rows) - round(fraction * len(rows)) :] for rows in by_class]))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names if len(names) <= 6 else [*names[:3], "...", names[-1]])


def _share_out(
    train: ImageSet,
    pool: np.ndarray,
    clients: int,
    private_per_client: int | None,
    partition: str,
    alpha: float,
    shards_per_client: int,
    seed: int,
    sizes: Sequence[int] = (),
) -> list[np.ndarray]:
    if partition == "iid" and len(sizes):
        return np.split(pool, np.cumsum(sizes)[:-1])
    if partition == "iid":
        # The pool is in random order already; consecutive pieces keep client i's items when clients are added.
        if private_per_client is None:
            return np.array_split(pool, clients)
        return list(pool.reshape(clients, private_per_client))
    labels = train.labels.numpy()[pool]
    generator = stream_generator(seed, Stream.PARTITION)
    if partition == "dirichlet":
        shares = dirichlet_partition(labels, clients, alpha, generator, sizes=sizes or None)
    else:
        shares = shard_partition(labels, clients, shards_per_client, generator)
    return [pool[share] for share in shares]


def _hold_out(share: np.ndarray, validation: float, overlap: bool, client: int) -> ClientIndices:
    """The first items of the (random) order are the validation set."""
    held = max(1, round(validation * len(share))) if validation > 0 else 0
    if len(share) - (0 if overlap else held) < 1:
        raise DataError(
            f"client {client}: a validation fraction of {validation} leaves no training item of {len(share)}; lower "
            "the fraction or give clients more data."
        )
    items = torch.from_numpy(np.ascontiguousarray(share))
    return ClientIndices(train=items.clone() if overlap else items[held:].clone(), validation=items[:held].clone())


def _check_arguments(
    train: ImageSet,
    clients: int,
    private_per_client: int | None,
    public: int,
    partition: str,
    validation: float,
    seed: int,
    public_source: ImageSet | None,
) -> None:
    if clients < 1:
        raise DataError(f"data split: clients must be at least 1, not {clients}; set it to the number of devices.")
    if private_per_client is not None and private_per_client < 1:
        raise DataError(f"data split: private_per_client must be at least 1, not {private_per_client}; give a count.")
    if public < 0:
        raise DataError(f"data split: the public set cannot have {public} items; give 0 or more.")
    if partition not in PARTITIONS and not is_own(partition):
        raise DataError(
            f"data split: unknown partition '{partition}'; choose one of {', '.join(PARTITIONS)}, or your own "
            "module:function."
        )
    if not 0 <= validation < 1:
        raise DataError(f"data split: validation must be a fraction in [0, 1), not {validation}; 0.1 is usual.")
    if seed < 0:
        raise DataError(f"data split: the seed must be 0 or more, not {seed}.")
    source = train if public_source is None else public_source
    if public > len(source):
        raise DataError(
            f"data split: a public set of {public:,} items is larger than {source.name} ({source.split}), which has "
            f"{len(source):,}; lower the public size."
        )
    if public_source is not None and public_source.images.shape[1:] != train.images.shape[1:]:
        raise DataError(
            f"data split: public images of {public_source.name} are {list(public_source.images.shape[1:])}, those of "
            f"{train.name} {list(train.images.shape[1:])}; bring them to one shape with resize and to_channels."
        )
    left = len(train) - (public if public_source is None else 0)
    need = clients * (private_per_client or 1)
    if need > left:
        raise DataError(
            f"data split: {clients} clients with {private_per_client or 1:,} private items need {need:,}, but "
            f"{train.name} ({train.split}) has {left:,} left beside {len(train) - left:,} public ones; lower clients, "
            "private_per_client or the public size."
        )


def _check_sizes(
    sizes: Sequence[int],
    size_alpha: float | None,
    clients: int,
    private_per_client: int | None,
    partition: str,
    own_test: float,
) -> None:
    given = "data.sizes" if len(sizes) else "data.size_alpha" if size_alpha is not None else ""
    if given and partition not in ("iid", "dirichlet"):
        raise DataError(
            f"data split: {given} sets sizes, and partition '{partition}' has its own; leave one of them out."
        )
    if given and private_per_client is not None and given == "data.sizes":
        raise DataError("data split: data.sizes and data.private_per_client both set sizes; leave one of them out.")
    if len(sizes) and size_alpha is not None:
        raise DataError("data split: data.sizes and data.size_alpha both set sizes; leave one of them out.")
    if len(sizes) and len(sizes) != clients:
        raise DataError(
            f"data split: data.sizes has {len(sizes)} numbers for {clients} clients; give one a client, or set "
            f"data.clients = {len(sizes)}."
        )
    if len(sizes) and min(sizes) < 1:
        raise DataError(f"data split: data.sizes holds {min(sizes)}; give every client at least 1 item.")
    if private_per_client is not None and (partition == "column" or is_own(partition)):
        raise DataError(
            f"data split: partition '{partition}' says how much each client has; leave data.private_per_client out."
        )
    if not 0 <= own_test < 1:
        raise DataError(f"data split: own_test must be a fraction in [0, 1), not {own_test}; 0.2 is usual.")


def label_counts(split: FederatedSplit, train: ImageSet) -> Int64[Tensor, "K classes"]:
    """Items of each class that each client trains on: the label skew in numbers. int64 ``[K, C]``."""
    rows = [torch.bincount(train.labels[c.train], minlength=train.classes) for c in split.clients]
    return torch.stack(rows)
