"""`reliability`: whom to believe on which class, from the answers alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated.tiny import CLASSES, PUBLIC, STEPS, World
from spikefed.errors import ConfigError
from spikefed.federated.methods.fsdplus import FsdPlus, FsdPlusHyperparameters
from spikefed.federated.reliability import RARE, likelihoods, reliable_vote
from spikefed.federated.rowvotes import vote_rows
from spikefed.federated.setup import Setup
from spikefed.wire import SpikeUplink

ID = bytes(32)


def one_hot(classes: np.ndarray, count: int) -> np.ndarray:
    """Labels ``[P]`` as answers ``[P, C, 1]``; -1 fires for nothing."""
    return np.eye(count + 1, count, dtype=np.uint8)[classes][:, :, None]


def drawn(seed: int, rows: int = 30, clients: int = 3) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    draws = np.random.default_rng(seed)
    answers = {c: draws.integers(0, 2, (rows, 4, 1)).astype(np.uint8) for c in range(clients)}
    known = {c: draws.random(rows) < 0.8 for c in range(clients)}
    return {c: a * known[c][:, None, None] for c, a in answers.items()}, known


def vote(answers: dict[int, np.ndarray], known: dict[int, np.ndarray]) -> np.ndarray:
    return vote_rows(answers, known, dict.fromkeys(answers, 1.0), 0.0)[0].mean(axis=2)


def test_who_says_boot_of_every_shoe_is_not_believed_on_sneakers() -> None:
    truth = np.repeat([0, 1, 2], 40)  # boots, sneakers, shirts
    answers = {
        0: one_hot(np.where(truth == 2, -1, 0), 3),  # has only ever seen boots
        1: one_hot(truth, 3),  # tells them apart
    }
    known = {c: np.ones(len(truth), dtype=bool) for c in answers}
    # The first does better on its own validation images, which are boots alone, so it weighs more.
    merged = vote_rows(answers, known, {0: 0.51, 1: 0.49}, 4.0)[0].mean(axis=2)
    assert (merged.argmax(axis=1) == truth).mean() < 0.7
    assert (reliable_vote(answers, known, 2, merged).argmax(axis=1) == truth).all()


@given(st.integers(0, 10**6))
def test_it_is_a_distribution_whatever_the_order_of_rows_classes_and_clients(seed: int) -> None:
    answers, known = drawn(seed)
    likely = reliable_vote(answers, known, 2, vote(answers, known))
    assert np.allclose(likely.sum(axis=1), 1.0) and (likely >= 0).all()
    draws = np.random.default_rng(seed + 1)
    rows = draws.permutation(len(likely))
    classes = draws.permutation(likely.shape[1])
    moved = {9 - c: a[rows][:, classes] for c, a in answers.items()}
    met = {9 - c: k[rows] for c, k in known.items()}
    assert np.allclose(reliable_vote(moved, met, 2, vote(moved, met)), likely[rows][:, classes])


def test_a_client_that_answered_nothing_changes_nothing() -> None:
    answers, known = drawn(3)
    start = vote(answers, known)
    more = answers | {7: np.zeros_like(answers[0])}
    met = known | {7: np.zeros(len(start), dtype=bool)}
    assert np.array_equal(reliable_vote(more, met, 3, start), reliable_vote(answers, known, 3, start))


def test_a_likelihood_is_counted_as_one_would_by_hand() -> None:
    said = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    truth = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.0, 1.0]])
    known = np.array([True, True, True, False])
    found = likelihoods(said, known, truth)
    words = 0.01 * 3 / 2
    fires = np.array([[1.5 + words * 2 / 3, words / 3], [0.5 + words * 2 / 3, 1 + words / 3]]) / (1.5 + words)
    fires = fires.clip(RARE, 1 - RARE)
    by_hand = [sum(np.log(fires[c, k] if said[0, k] else 1 - fires[c, k]) for k in range(2)) for c in range(2)]
    assert np.allclose(found[0], by_hand)
    assert (found[3] == 0).all(), "not heard of this row"


def merged_by(round: int, **levers: Any) -> np.ndarray:
    """The target of the server's distillation after one round of three clients' drawn answers."""
    world = World(FsdPlusHyperparameters(groups=1, **levers))
    world.networks.network.steps = STEPS  # type: ignore[assignment]
    draws = np.random.default_rng(5)
    uplinks = {
        c: SpikeUplink(round, c, draws.integers(0, 2, (PUBLIC, CLASSES, 1)).astype(np.uint8), 0.5 + c / 10, ID)
        for c in range(3)
    }
    return FsdPlus().merge(uplinks, {}, world.server(round))[0].goal.target.numpy()


def test_it_begins_in_the_round_that_it_is_told() -> None:
    plain = merged_by(2)
    assert np.array_equal(merged_by(2, reliability=2, reliability_from=3), plain)
    likely = merged_by(3, reliability=2, reliability_from=3)
    assert not np.allclose(likely, plain)
    assert np.allclose(likely.mean(axis=2).sum(axis=1), 1.0)
    assert np.array_equal(likely, merged_by(3, reliability=2))


def test_a_beginning_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="says when method.reliability begins"):
        FsdPlus().check(FsdPlusHyperparameters(reliability_from=3), Setup())
