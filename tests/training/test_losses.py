"""Losses: limits, hand-computed values, finite differences."""

from __future__ import annotations

import itertools

import pytest
import torch

from spikefed.training import (
    CrossTerm,
    DistillationLoss,
    distillation_loss,
    rate_cross_entropy,
    rate_mse,
    spike_mse,
    step_cross_entropy,
)
from spikefed.training.losses import PROBABILITY_FLOOR


def spikes(*shape: int, seed: int = 0, rate: float = 0.4) -> torch.Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def test_spike_mse_is_the_share_of_wrong_positions() -> None:
    student, target = spikes(8, 5, 10), spikes(5, 10, 8, seed=1)
    wrong = (student.permute(1, 2, 0) != target).float().mean()
    assert torch.isclose(spike_mse(student, target), wrong)


def test_cross_term_by_hand() -> None:
    # T = 2, one sample, two classes: student rates (1, 1/2), target rates (1/2, 1) -> normalised (1/3, 2/3)
    student = torch.tensor([[[1.0, 1.0]], [[1.0, 0.0]]])
    target = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
    assert torch.isclose(CrossTerm()(student, target), torch.tensor(2 / 3).mul(torch.tensor(2.0).log()))


def test_cross_term_of_a_silent_target_pulls_to_uniform() -> None:
    student = torch.full((4, 1, 5), 0.5)
    value = CrossTerm()(student, torch.zeros(1, 5, 4))
    assert torch.isclose(value, torch.tensor(2.0).log())


@pytest.mark.parametrize("rate", [0.0, 1.0])
@pytest.mark.parametrize("target_rate", [0.0, 1.0])
@pytest.mark.parametrize(
    "axis, normalise, direction", list(itertools.product(["time", "batch"], ["sum", "softmax"], ["paper", "reversed"]))
)
def test_finite_at_both_ends(rate: float, target_rate: float, axis: str, normalise: str, direction: str) -> None:
    student = torch.full((8, 3, 10), rate, requires_grad=True)
    term = CrossTerm(normalise=normalise, direction=direction, axis=axis)  # type: ignore[arg-type]
    loss = distillation_loss(student, torch.full((3, 10, 8), target_rate), 1.0, term)
    loss.backward()
    assert torch.isfinite(loss) and student.grad is not None and torch.isfinite(student.grad).all()
    if rate == 0.0 and target_rate == 0.0 and normalise == "sum" and direction == "paper":
        assert torch.isclose(loss, -torch.tensor(PROBABILITY_FLOOR).log(), rtol=1e-5)


@pytest.mark.parametrize("normalise, direction, reduction, axis", list(itertools.product(
    ["sum", "softmax"], ["paper", "reversed"], ["mean", "sum"], ["time", "batch"])))  # fmt: skip
def test_gradient_by_finite_differences(normalise: str, direction: str, reduction: str, axis: str) -> None:
    generator = torch.Generator().manual_seed(3)
    student = (0.1 + 0.8 * torch.rand(4, 3, 5, generator=generator)).double().requires_grad_()
    target = spikes(3, 5, 4, seed=4).double()
    term = CrossTerm(normalise, direction, reduction, axis)  # type: ignore[arg-type]
    assert torch.autograd.gradcheck(lambda s: distillation_loss(s, target, 0.3, term), student)


def test_sum_is_the_mean_times_the_rows() -> None:
    student, target = spikes(8, 6, 10), spikes(6, 10, 8, seed=1)
    assert torch.isclose(CrossTerm(reduction="sum")(student, target), 6 * CrossTerm()(student, target))
    by_batch = CrossTerm(reduction="sum", axis="batch")(student, target)
    assert torch.isclose(by_batch, 8 * CrossTerm(axis="batch")(student, target))


def test_lambda_zero_leaves_only_the_spike_term() -> None:
    student, target = spikes(8, 6, 10), spikes(6, 10, 8, seed=1)
    assert torch.equal(distillation_loss(student, target, 0.0, CrossTerm()), spike_mse(student, target))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("lambda_", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(("steps", "batch", "classes"), [(8, 20, 10), (5, 3, 7), (1, 1, 2)])
def test_the_closed_form_has_the_bits_of_autograd(reduction, lambda_, steps, batch, classes) -> None:
    generator = torch.Generator().manual_seed(0)
    spikes = (torch.rand(steps, batch, classes, generator=generator) < 0.3).float()
    target = torch.rand(batch, classes, steps, generator=generator)
    target[0] = 0  # a silent teacher; some of the student's classes are silent too
    loss = DistillationLoss(lambda_, CrossTerm(reduction=reduction))
    found = loss.with_gradient(spikes, target)
    assert found is not None and not found[0].requires_grad
    leaf = spikes.clone().requires_grad_()
    value = distillation_loss(leaf, target, lambda_, CrossTerm(reduction=reduction))
    value.backward()
    assert leaf.grad is not None
    assert torch.equal(found[0], value.detach()) and torch.equal(found[1], leaf.grad)


@pytest.mark.parametrize("other", [{"normalise": "softmax"}, {"direction": "reversed"}, {"axis": "batch"}])
def test_other_readings_of_the_cross_term_are_left_to_autograd(other) -> None:
    spikes, target = torch.ones(2, 3, 4), torch.ones(3, 4, 2)
    assert DistillationLoss(0.1, CrossTerm(**other)).with_gradient(spikes, target) is None
    assert DistillationLoss(0.0, CrossTerm(**other)).with_gradient(spikes, target) is not None


def test_targets_of_another_type_are_left_to_autograd() -> None:
    spikes, target = torch.ones(2, 3, 4), torch.ones(3, 4, 2)
    assert DistillationLoss(0.1).with_gradient(spikes, target.double()) is None
    assert DistillationLoss(0.1).with_gradient(spikes, target) is not None


def test_label_losses_agree_where_they_must() -> None:
    labels = torch.tensor([1, 3, 0])
    constant = torch.rand(1, 3, 5, generator=torch.Generator().manual_seed(0)).expand(6, 3, 5)
    # Outputs that do not change over time: loss of the mean = mean of the losses.
    assert torch.isclose(rate_cross_entropy(constant, labels), step_cross_entropy(constant, labels))
    varied = spikes(6, 3, 5)
    assert rate_cross_entropy(varied, labels) <= step_cross_entropy(varied, labels)  # Jensen
    perfect = torch.nn.functional.one_hot(labels, 5).float().expand(6, 3, 5)
    assert rate_mse(perfect, labels) == 0.0
    assert rate_cross_entropy(perfect, labels, 50.0) < 1e-6
