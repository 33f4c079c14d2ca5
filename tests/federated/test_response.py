"""Randomised response: flips as often as it says, estimates without bias, and the composition against brute force."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from federated.tiny import CLASSES, STEPS, World
from spikefed.federated.methods.fsd import Fsd, FsdHyperparameters
from spikefed.federated.private import RandomisedResponse
from spikefed.federated.response import (
    account,
    composed_epsilon,
    flip_probability,
    noise_source,
    respond,
    unbiased,
)


def seeded(seed: int = 0):
    return np.random.default_rng(seed).bytes


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0])
def test_flips_as_often_as_it_says(epsilon: float) -> None:
    for value in (0, 1):
        spikes = np.full((200, 100, 10), value, dtype=np.uint8)
        told = respond(spikes, epsilon, seeded(value))
        p, flipped = flip_probability(epsilon), (told != spikes).mean()
        assert flipped == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / spikes.size))
        assert told.dtype == np.uint8 and told.max() <= 1
    assert (1 - flip_probability(epsilon)) / flip_probability(epsilon) == pytest.approx(math.exp(epsilon))


def test_estimates_have_no_bias() -> None:
    rng = np.random.default_rng(3)
    spikes = (rng.random((400, 500)) < 0.3).astype(np.uint8)
    told = respond(spikes, 1.0, seeded())
    p = flip_probability(1.0)
    assert (told.mean() - p) / (1 - 2 * p) == pytest.approx(spikes.mean(), abs=0.01)
    assert unbiased(np.array([p, 0.5, 1 - p]), 1.0) == pytest.approx([0.0, 0.5, 1.0])
    assert unbiased(np.array([0.0, 1.0]), 1.0).tolist() == [0.0, 1.0]


@given(st.floats(0, 1), st.floats(0.05, 10))
def test_the_rounded_vote_stays_the_same(share: float, epsilon: float) -> None:
    if abs(share - 0.5) > 1e-9:
        assert (unbiased(np.array([share]), epsilon)[0] > 0.5) == (share > 0.5)


def smallest_delta(epsilon: float, count: int, target: float) -> float:
    """sum over outputs of max(0, P(y | all 1) - e^target P(y | all 0)), outputs enumerated."""
    p = flip_probability(epsilon)
    total = 0.0
    for told in itertools.product((0, 1), repeat=count):
        ones = sum(told)
        first, second = (1 - p) ** ones * p ** (count - ones), p**ones * (1 - p) ** (count - ones)
        total += max(0.0, first - math.exp(target) * second)
    return total


@pytest.mark.parametrize("epsilon", [0.2, 0.7, 2.0])
@pytest.mark.parametrize("count", [1, 2, 5, 10])
@pytest.mark.parametrize("delta", [0.0, 1e-3, 0.05])
def test_composition_against_enumeration(epsilon: float, count: int, delta: float) -> None:
    """The stated eps' keeps its delta, and the next smaller step of 2 eps would not."""
    stated = composed_epsilon(epsilon, count, delta)
    assert smallest_delta(epsilon, count, stated) <= delta + 1e-12
    if stated - 2 * epsilon >= -1e-12:
        assert smallest_delta(epsilon, count, stated - 2 * epsilon) > delta


def test_composition_limits() -> None:
    assert composed_epsilon(1.0, 0, 1e-5) == 0.0 == composed_epsilon(0.0, 50, 1e-5)
    assert composed_epsilon(0.5, 7, 0.0) == pytest.approx(3.5)  # without delta the plain sum
    assert composed_epsilon(0.01, 80_000, 1e-5) < 80_000 * 0.01 / 10
    rising = [composed_epsilon(0.3, k, 1e-5) for k in (1, 10, 100, 1000, 100_000)]
    assert rising == sorted(rising) and all(math.isfinite(e) for e in rising)


def test_sources_of_noise() -> None:
    def draw(kind: str) -> bytes:
        return noise_source(kind, torch.Generator().manual_seed(4))(16)  # type: ignore[arg-type]

    assert draw("seeded") == draw("seeded")
    assert draw("system") != draw("system")


def test_the_account_grows_with_the_rounds() -> None:
    one, ten = account(0.5, 1e-5, 80, 1), account(0.5, 1e-5, 80, 10)
    assert one["epsilon_spike_all_rounds"] == 0.5 and one["epsilon_row_one_round"] == ten["epsilon_row_one_round"]
    assert one["epsilon_row_all_rounds"] == one["epsilon_row_one_round"] < ten["epsilon_row_all_rounds"]
    assert ten["epsilon_spike_all_rounds"] == pytest.approx(composed_epsilon(0.5, 10, 1e-5))


def test_fsd_uploads_noisy_spikes_and_accounts_for_them() -> None:
    plain, fsd = Fsd(), Fsd().under(RandomisedResponse(1.0, source="seeded"))
    uploads: dict[str, dict[int, Any]] = {}
    for name, made in (("plain", plain), ("noisy", fsd)):
        world = World(FsdHyperparameters(local_epochs=1))
        uploads[name] = {c: made.client_round({}, None, world.client(c, 2))[1] for c in range(3)}
    differ = np.mean([(uploads["plain"][c].spikes != uploads["noisy"][c].spikes).mean() for c in range(3)])
    assert differ == pytest.approx(flip_probability(1.0), abs=0.1)
    assert all(uploads["plain"][c].accuracy == uploads["noisy"][c].accuracy for c in range(3))
    world = World(FsdHyperparameters(local_epochs=1))
    state, _ = fsd.init_server(world.server(0))
    _, _, diagnostics = fsd.server_round(state, uploads["noisy"], world.server(2))
    assert diagnostics.values["response_flip_probability"] == pytest.approx(flip_probability(1.0))
    assert diagnostics.values["epsilon_row_all_rounds"] == composed_epsilon(1.0, 2 * CLASSES * STEPS, 1e-5)
