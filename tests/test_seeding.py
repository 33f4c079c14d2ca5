"""The shared random generators, seeded for a while: one seed, one stream, and nothing is left of it afterwards."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from spikefed.federated.randomness import CLIENT, generator, shared
from spikefed.seeding import seeded


def drawn() -> tuple[float, ...]:
    numpy = [float(np.random.rand()), float(np.random.randn())]  # noqa: NPY002
    return (
        random.random(),
        random.gauss(0, 1),
        *numpy,
        float(torch.rand(())),
        float(torch.nn.Dropout()(torch.ones(1))),
    )


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**63 - 1])
def test_one_seed_is_one_stream_in_every_library(seed: int) -> None:
    with seeded(seed):
        first = drawn()
    drawn()
    with seeded(seed):
        assert drawn() == first
    with seeded(seed ^ 1):
        assert all(a != b for a, b in zip(drawn()[:5], first, strict=False))


def test_the_upper_half_of_a_seed_counts() -> None:
    with seeded(5):
        low = drawn()
    with seeded(5 + (3 << 32)):
        assert all(a != b for a, b in zip(drawn()[:4], low, strict=False))  # torch's takes the lower 32 bits


def test_the_caller_finds_his_generators_as_they_were_also_after_an_error() -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    expected = drawn()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    with pytest.raises(ZeroDivisionError), seeded(7):
        drawn()
        1 / 0  # noqa: B018
    assert drawn() == expected


def test_a_stream_gives_the_same_whatever_was_drawn_from_it_before() -> None:
    stream = generator(3, CLIENT, 1, 2)
    with shared(stream):
        first = drawn()
    torch.rand(5, generator=stream)
    with shared(stream):
        assert drawn() == first
    with shared(generator(3, CLIENT, 2, 1)):
        assert drawn() != first
