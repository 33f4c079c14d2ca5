"""`balance`: the classes of the public rows come in even shares, whatever the clients hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated.tiny import CLASSES, PUBLIC, STEPS, World
from spikefed.federated.balance import DOUBT, balanced
from spikefed.federated.methods.fsdplus import FsdPlus, FsdPlusHyperparameters
from spikefed.wire import SpikeUplink

ID = bytes(32)


def drawn(seed: int, rows: int = 60, classes: int = 4) -> np.ndarray:
    """Votes of which the first class gets most."""
    draws = np.random.default_rng(seed)
    return draws.random((rows, classes)) * draws.random(classes) * np.r_[3.0, np.ones(classes - 1)]


@given(st.integers(0, 10**6))
def test_rows_sum_to_one_and_classes_to_even_shares(seed: int) -> None:
    likely = balanced(drawn(seed), 1.0)
    assert np.allclose(likely.sum(axis=1), 1.0) and (likely > 0).all()
    assert np.allclose(likely.mean(axis=0), 0.25, atol=0.01)


@given(st.integers(0, 10**6))
def test_the_order_of_rows_and_classes_is_nothing_to_it(seed: int) -> None:
    vote = drawn(seed)
    draws = np.random.default_rng(seed + 1)
    rows, classes = draws.permutation(len(vote)), draws.permutation(vote.shape[1])
    assert np.allclose(balanced(vote[rows][:, classes], 0.7), balanced(vote, 0.7)[rows][:, classes])


def test_two_classes_are_scaled_as_one_would_by_hand() -> None:
    """With w = b / a of the scale of the classes, row (p, q) becomes (p, w q) / (p + w q)."""
    vote = np.array([[0.9, 0.1], [0.8, 0.2], [0.5, 0.5]])
    doubted = (1 - DOUBT) * vote + DOUBT / 2
    even, odds = balanced(vote, 1.0), doubted[:, 1] / doubted[:, 0]
    w = (even[:, 1] / even[:, 0]) / odds
    assert np.allclose(w, w[0]) and w[0] > 1, "one factor for all rows"
    assert np.allclose(even[:, 1], w[0] * odds / (1 + w[0] * odds))
    assert np.allclose(even.sum(axis=0), 1.5, atol=1e-3)


def test_at_no_strength_only_doubt_is_added_and_between_lies_the_mean() -> None:
    vote = drawn(3)
    plain = vote / vote.sum(axis=1, keepdims=True)
    assert np.allclose(balanced(vote, 0.0), (1 - DOUBT) * plain + DOUBT / 4)
    shares = balanced(vote, 0.5).mean(axis=0)
    assert np.allclose(shares, (balanced(vote, 0.0).mean(axis=0) + 0.25) / 2, atol=0.01)


def test_coats_taken_for_pullovers_come_back() -> None:
    """One client fires for pullovers on coats, two have learned that from it; the one that has coats is outvoted."""
    truth = np.repeat([0, 1, 2, 3], 25)
    vote = np.eye(4)[truth] * 0.8 + 0.02
    vote[truth == 1] = [0.55, 0.4, 0.0, 0.0]
    vote[truth == 0] = [0.8, 0.15, 0.0, 0.0]
    assert (vote.argmax(axis=1) == truth).mean() == 0.75
    assert (balanced(vote, 1.0).argmax(axis=1) == truth).all()


def test_silent_rows_are_of_any_class_and_no_rows_are_no_rows() -> None:
    likely = balanced(np.zeros((3, 4)), 1.0)
    assert np.allclose(likely, 0.25)
    assert balanced(np.zeros((0, 4)), 1.0).shape == (0, 4)


def merged_by(**levers: Any) -> tuple[np.ndarray, np.ndarray]:
    """Target and rows of the server's distillation after three clients' drawn answers."""
    world = World(FsdPlusHyperparameters(groups=1, **levers))
    world.networks.network.steps = STEPS  # type: ignore[assignment]
    draws = np.random.default_rng(5)
    often = np.r_[0.9, np.full(CLASSES - 1, 0.2)][:, None]  # one class by far
    uplinks = {
        c: SpikeUplink(1, c, (draws.random((PUBLIC, CLASSES, 1)) < often).astype(np.uint8), 0.5, ID) for c in range(3)
    }
    goal = FsdPlus().merge(uplinks, {}, world.server(1))[0].goal
    rows = np.arange(PUBLIC) if goal.rows is None else goal.rows.numpy()
    return goal.target.numpy(), rows


@pytest.mark.parametrize("more", [{}, {"reliability": 1}])
def test_the_server_of_fsd_plus_learns_from_even_classes(more: dict[str, Any]) -> None:
    plain, rows = merged_by(**more)
    even, same = merged_by(balance=1.0, **more)
    assert np.array_equal(rows, same) and even.shape == plain.shape
    assert np.allclose(even.mean(axis=2), balanced(plain.mean(axis=2).astype(np.float64), 1.0), atol=1e-5)
    assert np.array_equal(even, np.repeat(even[:, :, :1], STEPS, axis=2)), "the same in all steps"
