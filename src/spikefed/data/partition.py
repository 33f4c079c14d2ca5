"""How labelled items are shared out between clients.

Each function takes labels and a generator and gives one index array a client. The arrays are disjoint and together
hold every item (law: conservation). Only the given numpy generator is used, never torch's global one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from spikefed.errors import DataError
from spikefed.objects import call, parameters, said

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
    sizes: Sequence[int] | None = None,
) -> list[Int64[np.ndarray, " n"]]:
    """Label-skewed shares: for each class, proportions over the K clients drawn from Dirichlet(alpha).

    Clients that already hold N/K items get 0 of the class and the rest is renormalised, which keeps the shares
    roughly balanced; the whole draw is repeated until every client has ``min_items`` items. Sizes still differ
    between clients (their mean is N/K). Smaller alpha: fewer classes a client. Source: the non-IID sampling of
    V-SNN's federated code (Venkatesha et al., 2021, alpha = 0.5).

    Args:
        labels: of the items to deal out.
        clients: K.
        alpha: concentration, > 0.
        generator: the only source of randomness.
        min_items: least number of items a client.
        sizes: about how many items each client is to have, instead of N/K; the sum must be N.

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
    room = np.full(clients, len(labels) / clients) if sizes is None else np.asarray(sizes, dtype=float)
    min_items = min_items if sizes is None else min(min_items, max(1, int(room.min()) // 2))
    by_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for _ in range(MAX_DRAWS):
        shares = _dirichlet_draw(by_class, room, clients, alpha, generator, sizes is not None)
        if shares is not None and min(len(share) for share in shares) >= min_items:
            return [generator.permutation(share) for share in shares]
    raise DataError(
        f"partition: no draw of {MAX_DRAWS} gave each of {clients} clients {min_items} items at alpha {alpha}; "
        "raise alpha, take fewer clients or more data."
    )


def _dirichlet_draw(
    by_class: list[np.ndarray],
    room: np.ndarray,
    clients: int,
    alpha: float,
    generator: np.random.Generator,
    weighted: bool,
) -> list[np.ndarray] | None:
    """One attempt; None when a class finds only full clients."""
    held = np.zeros(clients, dtype=np.int64)
    shares: list[list[np.ndarray]] = [[] for _ in range(clients)]
    for members in by_class:
        proportions = generator.dirichlet(np.full(clients, alpha))
        if weighted:
            proportions = proportions * np.maximum(room - held, 0)
        proportions = np.where(held < room, proportions, 0.0)
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

    Args:
        labels: class of every item.
        clients: how many shares.
        shards_per_client: shards that each of them gets.
        generator: deals the shards.

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


def column_partition(values: np.ndarray, generator: np.random.Generator) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """One client a value: the items of each person, in random order, and the persons' names.

    Numbers come in ascending order, texts in alphabetical order. ``values`` is ``[N]``.
    """
    found, owner = np.unique(values, return_inverse=True)
    shuffled = generator.permutation(len(values))
    by_owner = shuffled[np.argsort(owner[shuffled], kind="stable")]
    counts = np.bincount(owner, minlength=len(found))
    return np.split(by_owner, np.cumsum(counts)[:-1]), tuple(str(value) for value in found)


def drawn_sizes(
    items: int, clients: int, alpha: float, generator: np.random.Generator, *, min_items: int = 2
) -> list[int]:
    """Unequal numbers of items: shares drawn from Dirichlet(alpha), at least ``min_items`` each; the sum is ``items``.

    Drawn from gamma variables in log space, so that a tiny alpha gives one large client instead of not-a-number.

    Args:
        items: how many there are to deal.
        clients: how many shares.
        alpha: concentration; small values make sizes unequal.
        generator: draws the shares.
        min_items: the least that a client gets.

    Raises:
        DataError: too few items.
    """
    spare = items - min_items * clients
    if spare < 0:
        raise DataError(
            f"partition: {items} items cannot give {clients} clients at least {min_items} each; take fewer clients or "
            "more data."
        )
    # log Gamma(a) = log Gamma(a + 1) + log(U) / a (Marsaglia and Tsang 2000), without underflow
    logs = np.log(generator.gamma(alpha + 1, size=clients)) + np.log(generator.random(clients)) / alpha
    shares = np.exp(logs - logs.max())
    exact = shares / shares.sum() * spare
    sizes = np.floor(exact).astype(np.int64)
    left = spare - int(sizes.sum())
    sizes[np.argsort(sizes - exact, kind="stable")[:left]] += 1
    return [int(size) + min_items for size in sizes]


def _check_asked(maker: Callable[..., Any], name: str, given: Mapping[str, Any]) -> None:
    """Refuse what is no function, or one that asks for something that nobody gives."""
    if not callable(maker):
        raise DataError(f"data.partition '{name}' is {maker!r}, which cannot be called; name a function.")
    asked = [key for key, p in parameters(maker).items() if p.default is p.empty and key not in given]
    if asked:
        raise DataError(
            f"data.partition '{name}' asks for '{asked[0]}', which nobody gives; call its parameters "
            f"{', '.join(list(given)[:-1])} or {list(given)[-1]}, or give them defaults."
        )


def own_partition(
    maker: Callable[..., Any],
    name: str,
    labels: Int64[np.ndarray, " N"],
    clients: int,
    generator: np.random.Generator,
    columns: Mapping[str, np.ndarray],
) -> list[Int64[np.ndarray, " n"]]:
    """Shares that a user's function makes: it gives one array of indices (into ``labels``) a client.

    Args:
        maker: called with those of ``labels``, ``clients``, ``generator`` and ``columns`` that it names.
        name: what errors call it.
        labels: of the items to deal out.
        clients: number of shares wanted.
        generator: the only source of randomness that keeps runs repeatable.
        columns: further facts of the items.

    Raises:
        DataError: it fails, or its shares are of another number, overlap, are empty or point outside.
    """
    given = {"labels": labels, "clients": clients, "generator": generator, "columns": dict(columns)}
    _check_asked(maker, name, given)
    try:
        made = call(maker, given)
        shares = [np.asarray(share).astype(np.int64, casting="same_kind").reshape(-1) for share in made]
    except Exception as error:  # the user's code
        raise DataError(f"data.partition '{name}' failed: {said(error)}") from error
    if len(shares) != clients:
        raise DataError(
            f"data.partition '{name}' gave {len(shares)} shares for {clients} clients; give one array of indices a "
            "client, or change data.clients."
        )
    for client, share in enumerate(shares):
        if not len(share) or share.min() < 0 or share.max() >= len(labels):
            span = f"indices from {share.min()} to {share.max()}" if len(share) else "no items"
            raise DataError(
                f"data.partition '{name}' gave client {client} {span}; give each some of 0 to {len(labels) - 1}."
            )
    together = np.concatenate(shares)
    if len(np.unique(together)) < len(together):
        twice = np.flatnonzero(np.bincount(together) > 1)[0]
        raise DataError(f"data.partition '{name}' gave item {twice} to two clients, or twice; give each item once.")
    return shares
