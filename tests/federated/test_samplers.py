"""Samplers of branches: distances, budgets, repair, and a contract that one's own can keep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import hadamard as sylvester

from spikefed.errors import ConfigError
from spikefed.federated import samplers
from spikefed.federated.samplers import Ask, hadamard_rows, mean_distance
from spikefed.networks import empty_blocks

BLOCKS = {15: (5, 5, 5), 31: (6, 5, 5, 5, 5, 5)}
COSTS = (0.0, 0.04, 0.3, 0.3, 0.0)


def ask(n: int = 15, seed: int = 0, **changes) -> Ask:
    most = n // 2
    far = samplers.farthest_distance(n, most)
    made = Ask(BLOCKS[n], most, far, far, (0.0,) * n, torch.Generator().manual_seed(seed))
    return replace(made, **changes)


def distances(rows) -> list[int]:
    gates = np.array(rows)
    return [int((a ^ b).sum()) for i, a in enumerate(gates) for b in gates[:i]]


@pytest.mark.parametrize("n", [15, 31])
def test_whole_hadamard_rows_are_all_equally_far_from_each_other(n):
    rows = hadamard_rows(n)
    assert set(distances(rows)) == {(n + 1) // 2} and {sum(row) for row in rows} == {(n + 1) // 2 - 1}
    assert len(rows) == n
    assert np.array_equal(np.array(rows), sylvester(n + 1)[1:, 1:] > 0)


def test_cut_hadamard_rows_are_not():
    """Spec 2, 5.2: n = 24 of 31 gives distances 9 to 16 and 8 to 15 open gates."""
    rows = hadamard_rows(24)
    assert (min(distances(rows)), max(distances(rows))) == (9, 16)
    assert (min(map(sum, rows)), max(map(sum, rows))) == (8, 15)


@pytest.mark.parametrize("clients", [3, 8, 20])
@pytest.mark.parametrize("n", [15, 31])
def test_diversified_samples_follow_the_schedule_within_a_bit(n, clients):
    for seed, part in enumerate((0.0, 0.25, 0.5, 0.75, 1.0)):
        first = ask(n).farthest
        d = samplers.target_distance(part, first, 2.0, "linear")
        gates = samplers.diversified(ask(n, seed, distance=d), clients)
        assert abs(mean_distance(gates) - d) <= 1, part
        assert {sum(row) for row in gates.tolist()} == {n // 2}


def test_the_schedule_goes_from_first_to_last():
    for schedule in ("linear", "cosine"):
        way = [samplers.target_distance(part, 7.5, 2.0, schedule) for part in np.linspace(0, 1, 9)]
        assert way[0] == 7.5 and way[-1] == pytest.approx(2.0) and way[4] == pytest.approx(4.75)
        assert sorted(way, reverse=True) == way


def test_late_samples_gather_around_the_preferred_branches():
    preference = tuple(3.0 if j % 2 else -3.0 for j in range(15))
    mode = torch.tensor([j % 2 == 1 for j in range(15)])
    spread = {}
    for d in (7.0, 2.0):
        gates = samplers.diversified(ask(distance=d, preference=preference), 8)
        spread[d] = float((gates ^ mode).sum(dim=1).float().mean())
    assert spread[2.0] <= 2.0 < spread[7.0]


@pytest.mark.parametrize("name", samplers.SAMPLERS)
@pytest.mark.parametrize("n", [15, 31])
def test_any_draw_keeps_blocks_and_limits_and_is_the_beginning_of_a_longer_one(name, n):
    costs = tuple(COSTS[j % 5] / 3 for j in range(n))
    limits = {"costs": (costs, tuple(1 / n for _ in range(n))), "room": (0.45, 0.5)}
    for seed in range(5):
        asked = ask(n, seed, distance=4.0, **limits)
        gates = samplers.sampler(name)(asked, 16)
        assert samplers.check_drawn(gates, asked, name, 16) is gates and gates.shape == (16, n)
        again = samplers.sampler(name)(ask(n, seed, distance=4.0, **limits), 5)
        assert torch.equal(again, gates[:5])
        other = samplers.sampler(name)(ask(n, seed + 100, distance=4.0, **limits), 16)
        assert name == "full" or not torch.equal(other, gates)


def test_uniform_draws_every_branch_alike():
    gates = torch.cat([samplers.uniform(ask(seed=seed), 32) for seed in range(40)]).float().mean(dim=0)
    assert float(gates.min()) > 0.42 and float(gates.max()) < 0.52  # 7 of 15


def test_repair_opens_the_best_of_an_empty_block_and_closes_the_worst():
    scores = [float(j) for j in range(15)]
    gates = [j >= 5 for j in range(15)]  # nothing of the first block, ten open
    mended = samplers.repaired(gates, ask(), scores)
    assert mended == [j == 4 or j >= 9 for j in range(15)]  # 9 is all that is left of the second block
    assert samplers.repaired(mended, ask(), scores) == mended


def test_repair_takes_cheap_branches_where_the_best_leave_no_room():
    costs = (COSTS * 3,)
    best = [j % 5 == 2 for j in range(15)]  # the dear one of every block
    mended = samplers.repaired(best, ask(costs=costs, room=(0.7,)), [0.0] * 15)
    assert not empty_blocks(mended, (5, 5, 5)) and sum(c for c, g in zip(costs[0], mended, strict=True) if g) <= 0.7
    with pytest.raises(ConfigError, match="not even the cheapest branch of every block"):
        samplers.repaired(best, ask(costs=((0.3,) * 15,), room=(0.7,)), [0.0] * 15)


def sparing(asked: Ask, count: int) -> torch.Tensor:
    """A sampler of one's own: the first branch of every block."""
    return torch.tensor([[j % 5 == 0 for j in range(15)]] * count)


def greedy(asked: Ask, count: int) -> torch.Tensor:
    return torch.ones(count, 15, dtype=torch.bool)


def test_samplers_of_ones_own():
    found = samplers.sampler("federated.test_samplers:sparing")
    assert samplers.check_drawn(found(ask(), 2), ask(), "own", 2).sum() == 6
    with pytest.raises(ConfigError, match="opened 15 gates of 15 where 7 at most fit"):
        samplers.check_drawn(greedy(ask(), 2), ask(), "own", 2)
    with pytest.raises(ConfigError, match=r"gave torch.float32 \[2, 15\]; give a bool tensor of k x 15 gates"):
        samplers.check_drawn(torch.ones(2, 15), ask(), "own", 2)
    with pytest.raises(ConfigError, match="gave 2 rows of gates and was asked for 4; give as many"):
        samplers.check_drawn(sparing(ask(), 2), ask(), "own", 4)
    for name, why in (
        ("random", "is not known; use one of diversified, full"),
        ("math:pi", "cannot be called"),
        ("fractions:Fraction", "is a class"),
    ):
        with pytest.raises(ConfigError, match=why):
            samplers.sampler(name)
