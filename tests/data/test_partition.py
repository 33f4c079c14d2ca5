"""Laws of the partitions: conservation, disjointness, determinism, and the skew that is asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefed.data import dirichlet_partition, iid_partition, shard_partition
from spikefed.errors import DataError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def table(shares: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(labels[s], minlength=labels.max() + 1) for s in shares])


def skew(shares: list[np.ndarray], labels: np.ndarray) -> float:
    """Mean total-variation distance between a client's label distribution and that of all."""
    counts = table(shares, labels).astype(float)
    overall = counts.sum(0) / counts.sum()
    return float(np.abs(counts / counts.sum(1, keepdims=True) - overall).sum(1).mean() / 2)


@settings(deadline=None, max_examples=60)
@given(
    labels=st.lists(st.integers(0, 6), min_size=30, max_size=200).map(np.array),
    clients=st.integers(1, 6),
    kind=st.sampled_from(["iid", "dirichlet", "shards"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_item_goes_to_exactly_one_client(labels: np.ndarray, clients: int, kind: str, seed: int) -> None:
    def draw() -> list[np.ndarray]:
        if kind == "iid":
            return iid_partition(labels, clients, rng(seed))
        if kind == "dirichlet":
            return dirichlet_partition(labels, clients, 1.0, rng(seed), min_items=2)
        return shard_partition(labels, clients, 3, rng(seed))

    shares = draw()
    assert len(shares) == clients
    np.testing.assert_array_equal(np.sort(np.concatenate(shares)), np.arange(len(labels)))
    for mine, again in zip(shares, draw(), strict=True):
        np.testing.assert_array_equal(mine, again)
    if kind == "iid":
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    if kind == "dirichlet":
        assert min(map(len, shares)) >= 2


@pytest.mark.parametrize("alpha", [0.1, 0.5, 5.0])
def test_dirichlet_full_clients_get_no_further_class(alpha: float) -> None:
    """Spec: a client that holds N/K items or more gets 0 of the next class; every client ends with 10 or more."""
    labels = rng(1).permutation(np.repeat(np.arange(10), 200))
    for seed in range(20):
        counts = table(dirichlet_partition(labels, 5, alpha, rng(seed)), labels)
        before = np.cumsum(counts, axis=1) - counts
        assert counts[before >= 2000 / 5].sum() == 0
        assert counts.sum(1).min() >= 10 and counts.sum() == 2000


def test_skew_grows_as_alpha_falls() -> None:
    labels = rng(2).permutation(np.repeat(np.arange(10), 300))
    levels = [
        np.mean([skew(dirichlet_partition(labels, 6, alpha, rng(seed)), labels) for seed in range(8)])
        for alpha in (100.0, 1.0, 0.1)
    ]
    iid = np.mean([skew(iid_partition(labels, 6, rng(seed)), labels) for seed in range(8)])
    assert iid < levels[0] + 0.05 and levels[0] + 0.1 < levels[1] and levels[1] + 0.1 < levels[2]


def test_dirichlet_proportions_have_the_right_spread() -> None:
    """The first class of 2 clients: its share is Beta(alpha, alpha), variance 1 / (4 (2 alpha + 1))."""
    labels = np.repeat([0, 1], 5000)
    alpha = 2.0
    first = [table(dirichlet_partition(labels, 2, alpha, rng(s)), labels)[0, 0] / 5000 for s in range(400)]
    assert abs(np.mean(first) - 0.5) < 0.04
    assert np.var(first) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.25)


def test_shards_limit_the_classes_of_a_client() -> None:
    labels = rng(3).permutation(np.repeat(np.arange(10), 60))
    counts = table(shard_partition(labels, 5, 2, rng(4)), labels)  # 10 shards = one class each
    assert (np.count_nonzero(counts, axis=1) == 2).all() and (counts.sum(1) == 120).all()
    counts = table(shard_partition(labels, 10, 3, rng(4)), labels)
    assert np.count_nonzero(counts, axis=1).max() <= 3


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda y: iid_partition(y, 0, rng()), "clients must be at least 1"),
        (lambda y: iid_partition(y, 101, rng()), "100 items cannot serve 101 clients"),
        (lambda y: dirichlet_partition(y, 4, 0.0, rng()), "alpha must be a positive number"),
        (lambda y: dirichlet_partition(y, 4, -1.0, rng()), "alpha must be a positive number"),
        (lambda y: dirichlet_partition(y, 4, float("nan"), rng()), "alpha must be a positive number"),
        (lambda y: dirichlet_partition(y, 4, float("inf"), rng()), "alpha must be a positive number"),
        (lambda y: dirichlet_partition(y, 11, 1.0, rng()), "at least 10 each"),
        (lambda y: dirichlet_partition(y * 0, 10, 0.01, rng()), "no draw of"),
        (lambda y: shard_partition(y, 4, 0, rng()), "shards_per_client must be at least 1"),
        (lambda y: shard_partition(y, 4, 26, rng()), "104 shards need at least 104 items"),
    ],
)
def test_bad_arguments(call: object, says: str) -> None:
    with pytest.raises(DataError, match=says):
        call(np.repeat(np.arange(10), 10))  # type: ignore[operator]
