"""The federated split: a public set without labels, and private training and validation items for each client."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from spikefed.data.images import ImageSet, public_set_id
from spikefed.data.partition import dirichlet_partition, shard_partition
from spikefed.errors import DataError

PARTITIONS = ("iid", "dirichlet", "shards")


class _Stream(IntEnum):
    """Independent random streams of one seed: a change in one draw leaves the others as they are."""

    PUBLIC = 1
    PRIVATE = 2
    PARTITION = 3


@dataclass(frozen=True, eq=False)
class ClientIndices:
    """Items of one client: int64 indices into the training set."""

    train: Int64[Tensor, " n"]
    validation: Int64[Tensor, " v"]


@dataclass(frozen=True, eq=False)
class FederatedSplit:
    """What each party holds.

    Attributes:
        public_images: uint8 ``[P, C, H, W]`` in the order that both ends know; no labels.
        public_indices: int64 ``[P]``, where they come from (indices into the training set or the public source).
        clients: indices of each client, all disjoint from the public set and from each other.
    """

    public_images: UInt8[Tensor, "P C H W"]
    public_indices: Int64[Tensor, " P"]
    clients: list[ClientIndices]

    @property
    def public_id(self) -> bytes:
        """Identity of the public set, see `public_set_id`."""
        return public_set_id(self.public_images)


def pooled(split: FederatedSplit) -> FederatedSplit:
    """The same split with the items of all clients in the hands of one (the ceiling of a federation)."""
    everything = ClientIndices(
        torch.cat([client.train for client in split.clients]),
        torch.cat([client.validation for client in split.clients]),
    )
    return FederatedSplit(split.public_images, split.public_indices, [everything])


def _generator(seed: int, stream: _Stream) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, int(stream)]))


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
) -> FederatedSplit:
    """Split ``train`` into a public set and the clients' private data.

    1. The public set: ``public`` random items of ``train``, or of ``public_source`` when given; labels are dropped.
    2. The private pool: ``clients * private_per_client`` random items of the rest (all the rest when None).
    3. The pool is shared out by ``partition``. IID and shards give equal sizes. Dirichlet runs on the whole pool, so
       sizes differ and ``private_per_client`` is their mean (see `dirichlet_partition`).
    4. Each client's first ``validation`` fraction (rounded, at least one item) becomes its validation set.

    Args:
        clients: number of clients, >= 1.
        private_per_client: private items of each client, validation included; None: everything that is left.
        public: size of the public set, >= 0.
        partition: ``"iid"``, ``"dirichlet"`` or ``"shards"``.
        alpha: Dirichlet concentration, > 0.
        shards_per_client: shards a client, >= 1.
        validation: fraction in [0, 1); FSD uses 0.1.
        validation_overlap: True: validation items are trained on as well, as the FSD authors' code does.
        seed: >= 0. The split depends on it alone, not on torch's global generator; the public set does not depend on
            the clients, and with IID shares of a fixed size client i keeps its items when clients are added.
        public_source: another set for the public images; it must have the image shape of ``train``.

    Raises:
        DataError: sizes that do not fit the data, an unknown partition, or arguments out of range.
    """
    _check_arguments(train, clients, private_per_client, public, partition, validation, seed, public_source)

    source = train if public_source is None else public_source
    public_indices = _generator(seed, _Stream.PUBLIC).permutation(len(source))[:public]

    order = _generator(seed, _Stream.PRIVATE).permutation(len(train))
    if public_source is None:
        is_public = np.zeros(len(train), dtype=bool)
        is_public[public_indices] = True
        order = order[~is_public[order]]
    pool = order if private_per_client is None else order[: clients * private_per_client]

    shares = _share_out(train, pool, clients, private_per_client, partition, alpha, shards_per_client, seed)
    return FederatedSplit(
        public_images=source.images[torch.from_numpy(public_indices)],
        public_indices=torch.from_numpy(public_indices),
        clients=[_hold_out(share, validation, validation_overlap, i) for i, share in enumerate(shares)],
    )


def _share_out(
    train: ImageSet,
    pool: np.ndarray,
    clients: int,
    private_per_client: int | None,
    partition: str,
    alpha: float,
    shards_per_client: int,
    seed: int,
) -> list[np.ndarray]:
    if partition == "iid":
        # The pool is in random order already; consecutive pieces keep client i's items when clients are added.
        if private_per_client is None:
            return np.array_split(pool, clients)
        return list(pool.reshape(clients, private_per_client))
    labels = train.labels.numpy()[pool]
    generator = _generator(seed, _Stream.PARTITION)
    if partition == "dirichlet":
        shares = dirichlet_partition(labels, clients, alpha, generator)
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
    if partition not in PARTITIONS:
        raise DataError(f"data split: unknown partition '{partition}'; choose one of {', '.join(PARTITIONS)}.")
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


def label_counts(split: FederatedSplit, train: ImageSet) -> Int64[Tensor, "K classes"]:
    """Items of each class that each client trains on: the label skew in numbers."""
    rows = [torch.bincount(train.labels[c.train], minlength=train.classes) for c in split.clients]
    return torch.stack(rows)
