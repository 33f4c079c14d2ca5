"""Losses that move information about the label to early or to late time steps, and the information of the last layer.

The loss of Kim, Li, Park, Venkatesha, Hambitzer and Panda (AAAI 2023) is not public; these three are ours. All read
prefixes: ybar_t, the mean output of the first t of T steps, and p_t = softmax(scale * ybar_t).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks import ANNNetwork, SpikingNetwork

TEMPORAL_LOSSES = ("prefix", "skip", "centroid")
"""Names of these losses, as ``training.local_loss`` has them."""


def prefix_means(outputs: Float[Tensor, "T B *rest"]) -> Float[Tensor, "T B *rest"]:
    """ybar_t, t = 1..T: means over the first t steps."""
    counts = torch.arange(1, len(outputs) + 1, device=outputs.device, dtype=outputs.dtype)
    return outputs.cumsum(0) / counts.view(-1, *[1] * (outputs.dim() - 1))


def prefix_weights(steps: int, kappa: float) -> Float[Tensor, " T"]:
    """w_t proportional to exp(kappa (t - (T + 1) / 2) / T), sum 1: early steps count for kappa < 0, late ones above."""
    t = torch.arange(1, steps + 1, dtype=torch.float64)
    return (kappa * (t - (steps + 1) / 2) / steps).softmax(0).float()


def prefix_cross_entropy(
    outputs: Float[Tensor, "T B C"], labels: Integer[Tensor, " B"], scale: float = 1.0, kappa: float = 0.0
) -> Float[Tensor, ""]:
    """sum_t w_t CE(scale * ybar_t, y) with `prefix_weights`; as kappa grows it becomes the plain loss on ybar_T.

    Args:
        outputs: one vector a step.
        labels: class of each item.
        scale: sharpens the prefix means before the softmax.
        kappa: how much later prefixes count.
    """
    steps, batch, classes = outputs.shape
    logits = scale * prefix_means(outputs).reshape(steps * batch, classes)
    each = F.cross_entropy(logits, labels.repeat(steps), reduction="none").view(steps, batch).mean(1)
    return (prefix_weights(steps, kappa).to(each) * each).sum()


def subset_cross_entropy(
    outputs: Float[Tensor, "T B C"], labels: Integer[Tensor, " B"], scale: float = 1.0, steps: Sequence[int] = ()
) -> Float[Tensor, ""]:
    """CE on the mean output over a subset of the steps; the other steps are left to themselves.

    Args:
        outputs: of the network.
        labels: class numbers.
        scale: factor on the mean outputs.
        steps: from 1 to T; none for all.

    Raises:
        ConfigError: a step that the network does not have.
    """
    beyond = [step for step in steps if not 1 <= step <= len(outputs)]
    if beyond:
        raise ConfigError(
            f"training.temporal.steps names step {beyond[0]}, but the network has steps 1 to {len(outputs)}"
        )
    kept = outputs[[step - 1 for step in steps]] if steps else outputs
    return F.cross_entropy(scale * kept.mean(0), labels)


def head_information(
    outputs: Float[Tensor, "T B C"],
    hidden: Float[Tensor, "T B F"],
    labels: Integer[Tensor, " B"],
    scale: float = 1.0,
) -> Float[Tensor, "T B"]:
    """Squared norm of the gradient of log p_t(y) in weights and bias of a linear readout, for each prefix and sample.

    scale^2 ||p_t - e_y||^2 (||mean_{s<=t} h_s||^2 + 1): exact where the readout gives currents. Behind a readout that
    normalises or spikes it stands for the information about the currents that the readout would need.

    Args:
        outputs: of the network.
        hidden: h, what enters the readout.
        labels: class numbers.
        scale: factor on the mean outputs.
    """
    missing = (scale * prefix_means(outputs)).softmax(dim=2) - F.one_hot(labels, outputs.shape[2])
    seen = prefix_means(hidden).square().sum(2) + 1
    return scale**2 * missing.square().sum(2) * seen


def centroid(information: Float[Tensor, " T"]) -> Float[Tensor, ""]:
    """IC = sum_t t I_t / sum_t I_t in [1, T]; (T + 1) / 2 where there is no information at all."""
    t = torch.arange(1, len(information) + 1, device=information.device, dtype=information.dtype)
    total = information.sum()
    return torch.where(total > 0, (t * information).sum() / total.clamp_min(1e-30), t.mean())


def centroid_loss(
    outputs: Float[Tensor, "T B C"],
    hidden: Float[Tensor, "T B F"],
    labels: Integer[Tensor, " B"],
    scale: float = 1.0,
    weight: float = 0.1,
) -> Float[Tensor, ""]:
    """CE(scale * ybar_T, y) + weight * IC / T, with the centroid of `head_information`; no second backward pass.

    Args:
        outputs: of the network.
        hidden: what enters the readout.
        labels: class numbers.
        scale: factor on the mean outputs.
        weight: above 0 it draws information to early steps, below 0 to late ones.
    """
    plain = F.cross_entropy(scale * outputs.mean(0), labels)
    return plain + weight * centroid(head_information(outputs, hidden, labels, scale).mean(1)) / len(outputs)


def readouts_of(net: nn.Module) -> list[nn.Module]:
    """The last layer with weights, whose input the centroid's head information needs; of others' networks all linear
    layers, of which only a call tells which is the last.

    Raises:
        ConfigError: there is no linear one.
    """
    if isinstance(net, SpikingNetwork | ANNNetwork):
        last = net.layers[-1]
        if last.plan.kind != "conv":
            return [last]
    else:
        found: list[nn.Module] = [module for module in net.modules() if isinstance(module, nn.Linear)]
        if found:
            return found
    name = getattr(net, "name", type(net).__name__)
    raise ConfigError(
        f"network {name} has no linear readout, which local_loss = 'centroid' needs; take 'prefix' or 'skip'"
    )


@contextmanager
def hidden_of(net: nn.Module) -> Iterator[Callable[[Tensor], Tensor]]:
    """While it is open: a function that takes outputs ``[T, B, C]`` and gives what entered the readout, ``[T, B, F]``.

    The readout may be called once for all steps, or once for each; what is the same at every step may come once. Of
    several linear layers it is the one that was called last, of those with an output a class if there are any: a
    recurrent layer may be called behind it, and layers may stand in any order in a module.

    Raises:
        ConfigError: there is no linear readout.
    """
    calls: list[tuple[nn.Module, Tensor]] = []

    def forget(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        calls.clear()

    def see(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        calls.append((module, given[0]))

    def hidden(outputs: Tensor) -> Tensor:
        steps, batch, classes = outputs.shape
        called = [module for module, _ in calls]
        if not called:
            raise ConfigError(
                f"no linear layer of {type(net).__name__} was called as a module, which local_loss = 'centroid' needs "
                "to see what enters the readout; call it, or take 'prefix' or 'skip'"
            )
        readout = next((m for m in reversed(called) if len(cast(Tensor, m.weight)) == classes), called[-1])
        features = cast(Tensor, readout.weight).shape[1]
        entered = [x for module, x in calls if module is readout]
        seen = torch.stack(entered) if len(entered) == steps else entered[-1]
        once = seen.numel() == batch * features
        return seen.reshape(1 if once else steps, batch, features).expand(steps, batch, features)

    readouts = readouts_of(net)
    hooks = [net.register_forward_pre_hook(forget), *(m.register_forward_pre_hook(see) for m in readouts)]
    try:
        yield hidden
    finally:
        for hook in hooks:
            hook.remove()
