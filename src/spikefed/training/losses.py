"""Losses on output spike trains.

Network outputs are time-first ``[T, B, C]``; distillation targets are ``[B, C, T]`` as they travel (design: output
trains).
Sources: FSD = Liu et al. 2022, eq. 4-7; CFD = Sattler et al. 2022 (probability clip).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor

PROBABILITY_FLOOR = 1e-7
"""Smallest rate inside the logarithm of eq. 6 (the clip that CFD uses); keeps L_F and its gradient finite at p = 0."""


def firing_rate(spikes: Float[Tensor, "T B C"]) -> Float[Tensor, "B C"]:
    """Mean over the T time steps: the class score of a spiking readout, in [0, 1]."""
    return spikes.mean(dim=0)


def spike_mse(spikes: Float[Tensor, "T B C"], target: Float[Tensor, "B C T"]) -> Float[Tensor, ""]:
    """L_T (FSD eq. 5): mean squared difference at every class and time step, averaged over the batch."""
    return F.mse_loss(spikes, target.permute(2, 0, 1))


@dataclass(frozen=True)
class CrossTerm:
    """How L_F (FSD eq. 6) is computed; the defaults follow the paper, the switches reach the authors' code.

    Attributes:
        normalise: ``sum`` divides target rates by their sum (uniform if silent) and clips the student's rates;
            ``softmax`` sends both sides through a softmax over classes (authors' code).
        direction: ``paper`` is ``-sum p_target log p_student``; ``reversed`` swaps the roles (authors' code).
        reduction: ``mean`` over samples, or ``sum`` over every row of p (authors' code).
        axis: p averages over ``time``, or over the ``batch`` (the released layout's defect).
    """

    normalise: Literal["sum", "softmax"] = "sum"
    direction: Literal["paper", "reversed"] = "paper"
    reduction: Literal["mean", "sum"] = "mean"
    axis: Literal["time", "batch"] = "time"

    def __call__(self, spikes: Float[Tensor, "T B C"], target: Float[Tensor, "B C T"]) -> Float[Tensor, ""]:
        """L_F in nats; rows of p are samples (``axis="time"``) or time steps (``axis="batch"``)."""
        if self.axis == "time":
            student = spikes.mean(dim=0)
            teacher = target.mean(dim=2)
        else:
            student = spikes.mean(dim=1)
            teacher = target.mean(dim=0).T
        if self.normalise == "softmax":
            log_student = F.log_softmax(student, dim=-1)
            log_teacher = F.log_softmax(teacher, dim=-1)
            p_student = log_student.exp()
            p_teacher = log_teacher.exp()
        else:
            p_teacher = rate_shares(teacher)
            p_student = student
            log_student = student.clamp_min(PROBABILITY_FLOOR).log()
            log_teacher = p_teacher.clamp_min(PROBABILITY_FLOOR).log()
        weight, log = (p_teacher, log_student) if self.direction == "paper" else (p_student, log_teacher)
        rows = -(weight * log).sum(dim=-1)
        return rows.mean() if self.reduction == "mean" else rows.sum()


def distillation_loss(
    spikes: Float[Tensor, "T B C"], target: Float[Tensor, "B C T"], lambda_: float, cross_term: CrossTerm
) -> Float[Tensor, ""]:
    """L = L_T + lambda L_F (FSD eq. 4). ``lambda_ = 0`` skips the cross term.

    Args:
        spikes: the student's output spikes.
        target: the teacher's, as they travel.
        lambda_: weight of the cross term.
        cross_term: which reading of the paper's L_F.
    """
    loss = spike_mse(spikes, target)
    return loss + lambda_ * cross_term(spikes, target) if lambda_ else loss


@dataclass(frozen=True)
class DistillationLoss:
    """`distillation_loss` with its settings, as a function of outputs and targets, and its gradient in closed form."""

    lambda_: float
    cross_term: CrossTerm = CrossTerm()

    def __call__(self, spikes: Float[Tensor, "T B C"], target: Float[Tensor, "B C T"]) -> Float[Tensor, ""]:
        """The loss."""
        return distillation_loss(spikes, target, self.lambda_, self.cross_term)

    @torch.no_grad()
    def with_gradient(
        self, spikes: Float[Tensor, "T B C"], target: Float[Tensor, "B C T"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "T B C"]] | None:
        """The loss and its gradient by ``spikes``, with the bits of autograd's but without a graph.

        None where L_F is not the paper's, which has no closed form here, where the targets have another type than the
        spikes (sums would be rounded elsewhere), and for a class built on this one, whose loss may be another.
        """
        term = self.cross_term
        if target.dtype != spikes.dtype:
            return None
        if type(self) is not DistillationLoss or type(term) is not CrossTerm:
            return None
        if self.lambda_ and (term.normalise, term.direction, term.axis) != ("sum", "paper", "time"):
            return None
        goal = target.permute(2, 0, 1)
        loss = F.mse_loss(spikes, goal)
        gradient = (spikes - goal).mul_(2.0 / spikes.numel())
        if not self.lambda_:
            return loss, gradient
        student = spikes.mean(dim=0)
        p_teacher = rate_shares(target.mean(dim=2))
        floored = student.clamp_min(PROBABILITY_FLOOR)
        rows = -(p_teacher * floored.log()).sum(dim=-1)
        scale = torch.tensor(self.lambda_)
        if term.reduction == "mean":
            scale = scale / len(rows)
        by_rate = (p_teacher * -scale).div_(floored).masked_fill_(student < PROBABILITY_FLOOR, 0.0)
        cross = rows.mean() if term.reduction == "mean" else rows.sum()
        return loss + self.lambda_ * cross, gradient.add_(by_rate.div_(len(spikes)))


def rate_shares(rates: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
    """Rates divided by their sum; uniform where all are silent."""
    total = rates.sum(dim=-1, keepdim=True)
    uniform = torch.full_like(rates, 1.0 / rates.shape[-1])
    return torch.where(total > 0, rates / total.clamp_min(PROBABILITY_FLOOR), uniform)


def rate_cross_entropy(
    outputs: Float[Tensor, "T B C"], labels: Integer[Tensor, " B"], scale: float = 1.0
) -> Float[Tensor, ""]:
    """Cross-entropy with ``scale`` x the mean output over time as logits.

    With scale 1 and a spiking readout this is the local loss of the FSD authors' code; with currents it is V-SNN's.
    """
    return F.cross_entropy(scale * outputs.mean(dim=0), labels)


def rate_mse(outputs: Float[Tensor, "T B C"], labels: Integer[Tensor, " B"], scale: float = 1.0) -> Float[Tensor, ""]:
    """Squared difference of the mean output to the one-hot label (DTSNN's loss), times ``scale``."""
    rate = outputs.mean(dim=0)
    return scale * F.mse_loss(rate, F.one_hot(labels, rate.shape[1]).to(rate.dtype))


def step_cross_entropy(
    outputs: Float[Tensor, "T B C"], labels: Integer[Tensor, " B"], scale: float = 1.0
) -> Float[Tensor, ""]:
    """Mean over the time steps of the cross-entropy of each step's output (TET, Deng et al. 2022)."""
    steps, batch, classes = outputs.shape
    return F.cross_entropy(scale * outputs.reshape(steps * batch, classes), labels.repeat(steps))


LABEL_LOSSES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "ce-rate": rate_cross_entropy,
    "mse-rate": rate_mse,
    "tet": step_cross_entropy,
}
"""Losses of labelled data by the name that a config uses."""


def own_outputs(
    outputs: Float[Tensor, "T B C"], labels: Integer[Tensor, " B"], own: tuple[int, ...]
) -> tuple[Float[Tensor, "T B c"], Integer[Tensor, " B"]]:
    """The outputs of one task's head, and the labels counted among them."""
    places = torch.full((outputs.shape[-1],), -1, dtype=torch.int64, device=labels.device)
    places[list(own)] = torch.arange(len(own), device=labels.device)
    return outputs[..., list(own)], places[labels]
