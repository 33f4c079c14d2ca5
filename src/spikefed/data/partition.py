"""How labelled items are shared out between clients.

Each function takes labels and a generator and gives one index array a client. The arrays are disjoint and together
hold every item (law: conservation). Only the given numpy generator is used, never torch's global one.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from spikefed.errors import DataError

MAX_DRAWS = 10_000


def _check(items: int, clients: int) -> None:
    if clients < 1:
        raise DataError(f"partition: clients must be at least 1, not {clients}; set it to the number of devices.")
    if items < clients:
        raise DataError(f"partition: {items} items cannot serve {clients} clients; take fewer clients or more data.")


def iid_partition(
    labels: Int64[np.ndarray, " N"], clients: int, generator: np.random.Generator
) -> list[Int64[np.ndarray, " n"]]:
    """Random shares of equal size (the first ``N mod clients`` clients get one more).

    Raises:
        DataError: fewer than one client, or more clients than items.
    """
    _check(len(labels), clients)
    return np.array_split(generator.permutation(len(labels)), clients)


def dirichlet_partition(
    labels: Int64[np.ndarray, " N"],
    clients: int,
    alpha: float,
    generator: np.random.Generator,
    *,
    min_items: int = 10,
) -> list[Int64[np.ndarray, " n"]]:
    """Label-skewed shares: for each class, proportions over the K clients drawn from Dirichlet(alpha).

    Clients that already hold N/K items get 0 of the class and the rest is renormalised, which keeps the shares
    roughly balanced; the whole draw is repeated until every client has ``min_items`` items. Sizes still differ
    between clients (their mean is N/K). Smaller alpha: fewer classes a client. Source: the non-IID sampling of
    V-SNN's federated code (Venkatesha et al., 2021, alpha = 0.5).

    Raises:
        DataError: alpha not positive, too few items for ``min_items`` each, or no draw succeeds.
    """
    _check(len(labels), clients)
    if not alpha > 0 or not np.isfinite(alpha):
        raise DataError(f"partition: Dirichlet alpha must be a positive number, not {alpha}; 0.1 to 100 is usual.")
    if len(labels) < min_items * clients:
        raise DataError(
            f"partition: {len(labels)} items cannot give {clients} clients at least {min_items} each; "
            "take fewer clients or more data."
        )
    by_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for _ in range(MAX_DRAWS):
        shares = _dirichlet_draw(by_class, len(labels), clients, alpha, generator)
        if shares is not None and min(len(share) for share in shares) >= min_items:
            return [generator.permutation(share) for share in shares]
    raise DataError(
        f"partition: no draw of {MAX_DRAWS} gave each of {clients} clients {min_items} items at alpha {alpha}; "
        "raise alpha, take fewer clients or more data."
    )


def _dirichlet_draw(
    by_class: list[np.ndarray], items: int, clients: int, alpha: float, generator: np.random.Generator
) -> list[np.ndarray] | None:
    """One attempt; None when a class finds only full clients."""
    held = np.zeros(clients, dtype=np.int64)
    shares: list[list[np.ndarray]] = [[] for _ in range(clients)]
    for members in by_class:
        proportions = generator.dirichlet(np.full(clients, alpha))
        proportions = np.where(held < items / clients, proportions, 0.0)
        total = proportions.sum()
        if not total > 0:
            return None
        # Rounded, not cut off: a sum of 0.999... must not leave an item over for a full last client.
        cuts = np.rint(np.cumsum(proportions / total) * len(members)).astype(np.int64)[:-1]
        for client, part in enumerate(np.split(generator.permutation(members), cuts)):
            shares[client].append(part)
            held[client] += len(part)
    return [np.concatenate(parts) for parts in shares]


def shard_partition(
    labels: Int64[np.ndarray, " N"], clients: int, shards_per_client: int, generator: np.random.Generator
) -> list[Int64[np.ndarray, " n"]]:
    """Sort by label, cut into ``clients * shards_per_client`` shards, deal them out at random.

    A client so sees about ``shards_per_client`` classes (McMahan et al., 2017, with 2). Shards differ by at most one
    item when the number of items is no multiple.

    Raises:
        DataError: fewer than one shard a client, or more shards than items.
    """
    _check(len(labels), clients)
    if shards_per_client < 1:
        raise DataError(f"partition: shards_per_client must be at least 1, not {shards_per_client}; 2 is usual.")
    count = clients * shards_per_client
    if count > len(labels):
        raise DataError(
            f"partition: {count} shards need at least {count} items, there are {len(labels)}; take fewer shards or "
            "more data."
        )
    shuffled = generator.permutation(len(labels))  # random order inside a class
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    shards = np.array_split(by_label, count)
    dealt = generator.permutation(count).reshape(clients, shards_per_client)
    return [generator.permutation(np.concatenate([shards[s] for s in row])) for row in dealt]
