"""Early-Time: the profile in the paper's direction, and the step that it names."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikefed.training import early_steps, kl_profile


def test_the_direction_is_the_papers() -> None:
    """Defect 1 of the released code: KL(P_T || P_t) instead of KL(P_t || P_T)."""
    outputs = torch.tensor([[[4.0, 0.0], [0.0, 0.0], [0.0, 2.0]]])  # [N=1, C=3, T=2]
    p1 = torch.tensor([4.0, 0.0, 0.0]).softmax(0)
    p2 = torch.tensor([2.0, 0.0, 1.0]).softmax(0)
    papers, codes = (p1 * (p1 / p2).log()).sum(), (p2 * (p2 / p1).log()).sum()
    found = kl_profile(outputs)
    assert found == pytest.approx([float(papers), 0.0], abs=1e-6)
    assert abs(found[0] - float(codes)) > 0.1


def test_no_divergence_where_nothing_changes() -> None:
    still = torch.rand(5, 4, 1).expand(5, 4, 6)
    assert kl_profile(still) == pytest.approx([0.0] * 6, abs=1e-6)
    assert early_steps([0.0] * 6, 0.6) == 2


def test_the_papers_example() -> None:
    assert early_steps([2.0, 1.0, 0.5, 0.2, 0.0], 0.6) == 3  # T_early = 3 of 5 at lambda = 0.6


@given(st.lists(st.floats(0, 5), min_size=3, max_size=10), st.floats(0.01, 1), st.floats(0.01, 1))
def test_more_tolerance_never_asks_for_more_steps(profile: list[float], one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert early_steps(profile, large) <= early_steps(profile, small)
    assert 2 <= early_steps(profile, large) <= len(profile)


@pytest.mark.parametrize("steps", [1, 2])
def test_with_two_steps_there_is_nothing_to_save(steps: int) -> None:
    assert early_steps([1.0, 0.5][:steps], 0.6) == steps


def test_answers_that_differ_by_rounding_are_the_same_answer() -> None:
    """The largest weights of a pruned network may be gone, and its answer that of the bias from the first step on."""
    outputs = torch.tensor([3.1, -0.7, 0.2, 1.9]).view(1, 4, 1).repeat(6, 1, 5)
    noise = torch.rand(outputs.shape, generator=torch.Generator().manual_seed(3)) - 0.5
    profile = kl_profile(outputs * (1 + 1e-7 * noise))
    assert profile == [0.0] * 5 and early_steps(profile, 0.6) == 2
    assert all(d > 0 for d in kl_profile(outputs * (1 + 1e-3 * noise))[:-1])
