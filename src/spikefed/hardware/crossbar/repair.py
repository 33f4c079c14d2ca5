"""Repairs of a network on a chip by its normalisations alone; weights stay as they were programmed.

==============  =====================================================================================================
adapt           statistics measured on the chip, cumulative over the images: no labels
labels          then scale and shift trained through the chip's forward pass, on labels
soft            the same on what the network itself said before it was on a chip: no labels
==============  =====================================================================================================

Where statistics or scales belong to a time step (BNTT), each step's are repaired. Bhattacharjee et al., GLSVLSI 2023,
train 5 epochs at 0.01, divided by 5 every 2 epochs; optimiser, batch and calibration size are not published: ours are
Adam, 64 and what is given. Statistics move on while scale and shift are trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks.norms import Norm
from spikefed.training import Preprocess, batches, optimiser, outputs, rate_cross_entropy, train

Repair = Literal["none", "adapt", "labels", "soft"]
REPAIRS: tuple[Repair, ...] = ("none", "adapt", "labels", "soft")
"""By the names that a probe and a config use."""

EPOCHS = 5
RATE = 0.01
BATCH = 64


def norms(net: nn.Module) -> list[Any]:
    """The batch normalisations of a network.

    Raises:
        ConfigError: it has none with running statistics, so that nothing can be repaired.
    """
    kinds = (Norm, nn.modules.batchnorm._BatchNorm)
    found = [m for m in net.modules() if isinstance(m, kinds) and m.running_mean is not None]
    if not found:
        raise ConfigError(
            "this network has no batch normalisation to repair a chip by; build it with norm 'bn', 'tdbn' or 'bntt', "
            "or leave the repair out"
        )
    return found


def adapt(net: nn.Module, images: Tensor, *, preprocess: Preprocess, generator: torch.Generator) -> None:
    """Measure running statistics anew, in place: their plain mean over the batches of these images.

    Args:
        net: as it runs on the chip (`OnChip.running`).
        images: uint8 ``[N, C, H, W]``, shuffled into batches of 64.
        preprocess: pixels to network input.
        generator: order, input coding.

    Raises:
        ConfigError: no batch normalisation.
    """
    with _cumulative(norms(net)), torch.no_grad():
        for index in batches(len(images), BATCH, shuffle=True, generator=generator):
            net(preprocess(images[index]), generator=generator)


def soft_answers(net: nn.Module, images: Tensor, *, preprocess: Preprocess, generator: torch.Generator) -> Tensor:
    """What a network says of the images off the chip, mean outputs ``[N, C]``: the targets of repair ``soft``.

    Args:
        net: off the chip.
        images: uint8 ``[N, C, H, W]``.
        preprocess: pixels to network input.
        generator: draws of the encoding.
    """
    return outputs(net, images, preprocess=preprocess, generator=generator).mean(dim=2)


def fine_tune(
    net: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    preprocess: Preprocess,
    generator: torch.Generator,
    epochs: int = EPOCHS,
    lr: float = RATE,
    logit_scale: float = 1.0,
) -> float:
    """Train scale and shift of the normalisations, in place; returns the last epoch's mean loss.

    Args:
        net: as it runs on the chip.
        images: uint8 ``[N, C, H, W]``.
        targets: labels ``[N]``, or mean outputs ``[N, C]`` of `soft_answers`.
        preprocess: pixels to network input.
        generator: order, input coding, dropout.
        epochs: passes over the images.
        lr: of Adam, divided by 5 after every second epoch.
        logit_scale: factor on mean outputs before the cross-entropy on labels.

    Raises:
        ConfigError: no batch normalisation with a scale or shift to train.
    """
    tuned = [p for norm in norms(net) for p in (norm.weight, norm.bias) if isinstance(p, nn.Parameter)]
    if not tuned:
        raise ConfigError("this network's normalisations have no scale or shift to train; use repair 'adapt'")
    loss = _to_labels(logit_scale) if targets.dim() == 1 else _to_rates
    last = float("nan")
    with _only(net, tuned):
        optim = optimiser(net, "adam", lr)
        for epoch in range(epochs):
            optim.param_groups[0]["lr"] = lr / 5 ** (epoch // 2)
            last = train(
                net,
                images,
                targets,
                loss,
                optim,
                epochs=1,
                batch_size=BATCH,
                preprocess=preprocess,
                generator=generator,
            )
    net.eval()
    return last


def repair(
    net: nn.Module,
    how: Repair,
    images: Tensor,
    targets: Tensor | None,
    *,
    preprocess: Preprocess,
    generator: torch.Generator,
    logit_scale: float = 1.0,
) -> None:
    """One of `REPAIRS`, in place.

    Args:
        net: as it runs on the chip.
        how: which.
        images: uint8 ``[N, C, H, W]``.
        targets: labels, or soft answers, where the repair needs them.
        preprocess: pixels to network input.
        generator: all randomness of the repair.
        logit_scale: as in `fine_tune`.

    Raises:
        ConfigError: no batch normalisation, no such repair, or no images.
    """
    if how not in REPAIRS:
        raise ConfigError(f"repair '{how}' is not known; use one of {', '.join(REPAIRS)}")
    if how == "none":
        return
    norms(net)
    if not len(images):
        raise ConfigError(f"repair '{how}' has no image to measure on; give at least one")
    adapt(net, images, preprocess=preprocess, generator=generator)
    if how != "adapt":
        assert targets is not None
        fine_tune(net, images, targets, preprocess=preprocess, generator=generator, logit_scale=logit_scale)


def _to_labels(scale: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda outputs, labels: rate_cross_entropy(outputs, labels, scale)


def _to_rates(outputs: Tensor, rates: Tensor) -> Tensor:
    return F.mse_loss(outputs.mean(dim=0), rates)


@contextmanager
def _cumulative(found: list[Any]) -> Iterator[None]:
    """Inside, these normalisations take batch statistics, and their running ones are plain means from here on."""
    before = [(norm, norm.training, norm.momentum, getattr(norm, "warm_up", None)) for norm in found]
    for norm in found:
        norm.train()
        norm.num_batches_tracked.zero_()
        norm.momentum = 0.0 if hasattr(norm, "warm_up") else None  # torch's None: a plain mean
        if hasattr(norm, "warm_up"):
            norm.warm_up = True
    try:
        yield
    finally:
        for norm, training, momentum, warm_up in before:
            norm.train(training)
            norm.momentum = momentum
            if warm_up is not None:
                norm.warm_up = warm_up


@contextmanager
def _only(net: nn.Module, parameters: list[nn.Parameter]) -> Iterator[None]:
    """Inside, these parameters alone learn."""
    before = [(parameter, parameter.requires_grad) for parameter in net.parameters()]
    chosen = {id(parameter) for parameter in parameters}
    for parameter, _ in before:
        parameter.requires_grad_(id(parameter) in chosen)
    try:
        yield
    finally:
        for parameter, wanted in before:
            parameter.requires_grad_(wanted)
