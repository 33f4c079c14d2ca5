"""Participation schedules: the upload counts that the tables show, and bounds of the random ones."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikefed.errors import ConfigError
from spikefed.federated import Participation


def cumulative(schedule: Participation, rounds: int) -> list[int]:
    return list(itertools.accumulate(len(schedule(r)) for r in range(1, rounds + 1)))


def test_all_uploads_4r_and_late_joiners_upload_1_2_6_10() -> None:
    assert cumulative(Participation(4), 5) == [4, 8, 12, 16, 20]
    # Tables 1 and 2 of the FSD paper: DTSNN cells are 1, 2, 6, 10, 22 (round 7), 30 (round 9), 162 (round 42) uploads.
    late = cumulative(Participation(4, "late"), 42)
    assert late[:4] == [1, 2, 6, 10]
    assert (late[6], late[8], late[41]) == (22, 30, 162)


def test_list_repeats_its_last_entry() -> None:
    schedule = Participation(4, "list", rounds=((1,), (3, 0)))
    assert [schedule(r) for r in (1, 2, 3)] == [[1], [0, 3], [0, 3]]


@given(st.integers(1, 50), st.floats(0.01, 1.0), st.floats(0.0, 0.95), st.integers(0, 5), st.integers(1, 30))
def test_samples_are_sorted_distinct_in_range_and_never_empty(
    clients: int, fraction: float, straggle: float, seed: int, round: int
) -> None:
    schedule = Participation(clients, "sample", fraction=fraction, straggle=straggle, seed=seed)
    chosen = schedule(round)
    assert chosen == sorted(set(chosen)) and chosen
    assert set(chosen) <= set(range(clients))
    assert chosen == schedule(round)
    if straggle == 0.0:
        assert len(chosen) == max(1, int(fraction * clients + 0.5))


def test_stragglers_come_at_the_stated_rate_and_one_client_never_straggles() -> None:
    schedule = Participation(20, straggle=0.75)
    rounds = [schedule(r) for r in range(1, 401)]
    assert all(chosen for chosen in rounds)
    rate = sum(len(c) - 1 for c in rounds) / (400 * 19)
    assert abs(rate - 0.25) < 4 * (0.25 * 0.75 / (400 * 19)) ** 0.5


def test_no_client_is_spared_more_often_than_another() -> None:
    # At straggle 0.999 nearly only the exempt client sends: each of 5 in about a fifth of the rounds.
    senders = [Participation(5, straggle=0.999)(r) for r in range(1, 1001)]
    counts = [sum(client in chosen for chosen in senders) for client in range(5)]
    assert all(abs(count - 200) < 4 * (1000 * 0.2 * 0.8) ** 0.5 for count in counts)


def test_errors() -> None:
    with pytest.raises(ConfigError, match="names client 4"):
        Participation(4, "list", rounds=((4,),))
    with pytest.raises(ConfigError, match="is empty"):
        Participation(4, "list", rounds=())
