"""Measures of the accuracy matrix, against numbers by hand; the calendar of stages."""

from __future__ import annotations

import pytest

from spikefed.federated import continual
from spikefed.federated.calendar import Calendar

MATRIX = [[0.9, 0.1, 0.2], [0.6, 0.8, 0.3], [0.5, 0.9, 0.7]]
SAME = [[0], [1], [2]]


def test_average_and_last_accuracy_are_not_the_same() -> None:
    assert continual.last_accuracy(MATRIX) == pytest.approx((0.5 + 0.9 + 0.7) / 3)
    seen = [0.9, (0.6 + 0.8) / 2, (0.5 + 0.9 + 0.7) / 3]
    assert continual.average_accuracy(MATRIX, SAME) == pytest.approx(sum(seen) / 3)


def test_forgetting_counts_from_the_second_task_on_and_never_the_last_learned() -> None:
    # task 0: 0.9 - 0.5; task 1: 0.8 - 0.9; task 2 was learned last and cannot be forgotten yet.
    assert continual.forgetting(MATRIX, SAME) == pytest.approx((0.4 - 0.1) / 2)
    assert continual.forgetting(MATRIX[:1], SAME[:1]) is None


def test_accuracy_before_a_task_was_learned_is_no_memory_of_it() -> None:
    lucky = [[0.9, 0.95], [0.6, 0.8], [0.6, 0.7]]
    assert continual.forgetting(lucky, [[0], [1], [0]]) == pytest.approx((0.3 + 0.1) / 2)


def test_forward_transfer_is_what_was_known_before_it_was_taught() -> None:
    assert continual.forward_transfer(MATRIX, [0.0, 0.1, 0.1], SAME) == pytest.approx((0.0 + 0.2) / 2)
    assert continual.forward_transfer(MATRIX, [0.0] * 3, [[0, 1, 2]] * 3) is None  # all there from the start


def test_the_calendar_knows_stage_task_and_end_of_every_round() -> None:
    calendar = Calendar(((0, 1, 2), (1, 2, 0)), rounds=2)
    assert [calendar.stage(r) for r in range(8)] == [0, 0, 0, 1, 1, 2, 2, 2]
    assert [calendar.task(1, r) for r in (0, 2, 3, 6)] == [1, 1, 2, 0]
    assert [r for r in range(7) if calendar.ends(r)] == [2, 4, 6]
    assert calendar.present(2) == [0, 2]
