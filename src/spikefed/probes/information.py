"""Information by prefix of the time steps: of samples and of batches, profiles, centroids with errors, choices of T."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from spikefed.networks import PerSample, roles
from spikefed.training import prefix_means

OWN = (".norm", ".bn")
"""What a layer calls a normalisation of its own, whose parameters count as the layer's."""


def score_gradients(
    outputs: Float[Tensor, "T B C"], chosen: Integer[Tensor, "T B"], scale: float = 1.0
) -> Iterator[tuple[int, Float[Tensor, "T B C"]]]:
    """t and the gradient of -log p_t(y) of each sample with respect to its outputs, for t = 1..T.

    scale (p_t - e_y) / t at the first t steps, 0 behind them.

    Args:
        outputs: of the network.
        chosen: y, for each prefix.
        scale: factor on the mean outputs.
    """
    answers = (scale * prefix_means(outputs)).softmax(dim=2)
    for t, (answer, label) in enumerate(zip(answers, chosen, strict=True), start=1):
        gradient = torch.zeros_like(outputs)
        gradient[:t] = scale * (answer - F.one_hot(label, outputs.shape[2])) / t
        yield t, gradient


def chosen_labels(
    outputs: Float[Tensor, "T B C"],
    labels: Integer[Tensor, " B"],
    scale: float = 1.0,
    generator: torch.Generator | None = None,
) -> Integer[Tensor, "T B"]:
    """The labels for each prefix: the true ones, or with a generator drawn from p_t.

    Args:
        outputs: one vector a step.
        labels: class of each item.
        scale: sharpens the prefix means before the softmax.
        generator: draws labels; None: the true ones.
    """
    if generator is None:
        return labels.expand(len(outputs), -1)
    answers = (scale * prefix_means(outputs)).softmax(dim=2).cpu()
    return torch.multinomial(answers.flatten(0, 1), 1, generator=generator).view(answers.shape[:2]).to(labels.device)


def sample_information(
    way: PerSample, outputs: Tensor, chosen: Tensor, scale: float, counted: Sequence[str]
) -> dict[str, Float[Tensor, "B T"]]:
    """||grad log p_t(y)||^2 of each sample, by layer.

    Args:
        way: has just given ``outputs``.
        outputs: ``[T, B, C]``.
        chosen: y of each prefix, ``[T, B]``.
        scale: factor on the mean outputs.
        counted: names of the parameters that count.
    """
    found: dict[str, list[Tensor]] = {}
    for t, gradient in score_gradients(outputs, chosen, scale):
        norms = way.squared_norms(gradient, t)
        for name in counted:
            column = found.setdefault(
                layer_of(name), [torch.zeros(outputs.shape[1], dtype=torch.float64)] * len(outputs)
            )
            column[t - 1] = column[t - 1] + norms[name]
    return {layer: torch.stack(columns, dim=1) for layer, columns in found.items()}


def expected_information(
    way: PerSample, outputs: Tensor, scale: float, counted: Sequence[str]
) -> dict[str, Float[Tensor, "B T"]]:
    """sum_y p_t(y) ||grad log p_t(y)||^2 of each sample, by layer: what labels drawn from p_t give in the mean.

    C times the backward passes of `sample_information`, and none of a draw's variance.

    Args:
        way: has just given ``outputs``.
        outputs: ``[T, B, C]``.
        scale: factor on the mean outputs.
        counted: names of the parameters that count.
    """
    answers = (scale * prefix_means(outputs)).softmax(dim=2).double().cpu()
    found: dict[str, Tensor] = {}
    for label in range(outputs.shape[2]):
        chosen = torch.full(outputs.shape[:2], label, device=outputs.device)
        for layer, norms in sample_information(way, outputs, chosen, scale, counted).items():
            found[layer] = found.get(layer, 0) + answers[:, :, label].T * norms.cpu()
    return found


def batch_information(
    net: nn.Module, x: Tensor, chosen: Tensor, scale: float, counted: Sequence[str], generator: torch.Generator
) -> dict[str, Float[Tensor, "1 T"]]:
    """The released procedure on one batch: for each t a forward pass, and the square of the mean loss's gradient.

    Args:
        net: in eval mode.
        x: network input ``[B, ...]``.
        chosen: y of each prefix, ``[T, B]``.
        scale: factor on the mean outputs.
        counted: names of the parameters that count.
        generator: source of the input coding's randomness, drawn anew for each t.
    """
    parameters = {name: p for name, p in net.named_parameters() if name in set(counted)}
    found = {layer_of(name): torch.zeros(1, len(chosen), dtype=torch.float64) for name in counted}
    for t in range(1, len(chosen) + 1):
        with torch.enable_grad():
            loss = F.cross_entropy(scale * net(x, generator=generator)[:t].mean(0), chosen[t - 1])
        grads = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        for name, grad in zip(parameters, grads, strict=True):
            if grad is not None:
                found[layer_of(name)][0, t - 1] += grad.double().square().sum().cpu()
    return found


def counted_parameters(net: nn.Module, affine: bool) -> list[str]:
    """Trainable parameters, those of normalisations only if ``affine``."""
    role = roles(net)
    names = [name for name, p in net.named_parameters() if p.requires_grad]
    return [name for name in names if affine or role.get(name) != "bn_affine"]


def layer_of(parameter: str) -> str:
    """The layer that a parameter belongs to, its normalisation counted in."""
    owner = parameter.rpartition(".")[0]
    for own in OWN:
        owner = owner.removesuffix(own)
    return owner or parameter


def centroid_of(information: Float[Tensor, "N T"]) -> tuple[float, float]:
    """IC = sum_t t I_t / sum_t I_t of the means over rows, and its standard error by the delta method.

    Both are nan without any information, the error also for a single row.
    """
    rows, steps = information.shape
    t = torch.arange(1, steps + 1, dtype=torch.float64)
    total = float(information.mean(0).sum())
    if total <= 0:
        return math.nan, math.nan
    centre = float((information.mean(0) * t).sum()) / total
    if rows < 2:
        return centre, math.nan
    residual = (information * (t - centre)).sum(1) / total
    return centre, float(residual.std()) / math.sqrt(rows)


def early_by_kl(ratio: Sequence[float], level: float = 0.6) -> int:
    """T_early: the fewest steps t from 2 to T with Dhat_t below the level (Kim et al., ECCV 2022, Algorithm 1).

    Args:
        ratio: Dhat_1 .. Dhat_T; the last is 0 or, where D_2 is 0, not a number.
        level: lambda.
    """
    steps = len(ratio)
    return next((t for t in range(2, steps) if not ratio[t - 1] >= level), steps)


def early_by_information(information: Sequence[float], level: float = 0.9) -> int | None:
    """The fewest steps with this share of the information, min {t : sum_{s <= t} I_s >= level * sum_s I_s}."""
    total = sum(information)
    until = 0.0
    if total <= 0:
        return None
    for t, value in enumerate(information, start=1):
        until += value
        if until >= level * total:
            return t
    return len(information)
