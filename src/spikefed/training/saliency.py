"""What a pruning would cost and save: the rise of the loss, and the synaptic operations that go.

Sparsity alone saves no operation while the spikes stay, so operations belong in the objective (Shi et al., "Towards
Energy Efficient Spiking Neural Networks: An Unstructured Pruning Framework", ICLR 2024). Losses rise by the Fisher
information: to second order KL(before || after) = 1/2 w^2 F of a weight, 1/2 E[(sum s dL/ds)^2] of a neuron's output
s (Theis et al., "Faster gaze prediction with dense networks and Fisher pruning", 2018), both with labels drawn from
what the network says, so that unlabelled images serve.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks import as_input, geometry
from spikefed.networks.monitor import device_of, in_eval_mode
from spikefed.training.loops import Preprocess
from spikefed.training.masks import Mask
from spikefed.training.pruning import mask_of_best

BATCH = 10
"""Images of one backward pass. Drawn labels make gradients of different images uncorrelated, so that the square of
their sum has the mean of the sum of their squares."""


@dataclass(frozen=True)
class Saliencies:
    """What single weights and whole channels cost and save, on the images that were shown.

    Attributes:
        losses: by weight name, of its shape: rise of the loss without each weight, in nats.
        channels: by weight name, ``[Cout]``: rise of the loss without the output of each channel, in nats.
        operations: by weight name, ``[1, Cin, k, k]`` or ``[1, in]``: inputs that meet such a weight, an image, all
            steps together.
    """

    losses: dict[str, Tensor]
    channels: dict[str, Tensor]
    operations: dict[str, Tensor]


def saliencies_of(
    net: nn.Module,
    names: Iterable[str],
    images: Tensor,
    preprocess: Preprocess,
    generator: torch.Generator,
    scale: float = 1.0,
) -> Saliencies:
    """Measure all three in one pass, in evaluation.

    Args:
        net: comes back as it was.
        names: of weights ``[Cout, Cin, ...]`` of its modules.
        images: uint8 ``[N, C, H, W]``; no labels are needed.
        preprocess: pixels to input.
        generator: of the input coding, and of the labels.
        scale: factor on the mean outputs that makes them logits.

    Raises:
        ConfigError: a weight whose module does not see the input that it multiplies.
    """
    parameters = dict(net.named_parameters())
    seen = _Seen(net, {name: parameters[name] for name in names})
    device = device_of(net)
    with seen, in_eval_mode(net), torch.enable_grad():
        for start in range(0, len(images), BATCH):
            x = preprocess(images[start : start + BATCH].to(device))
            logits = scale * net(x, generator=generator).float().mean(0)
            said = logits.softmax(1).detach().cpu()
            labels = torch.multinomial(said, 1, generator=generator)[:, 0].to(device)
            seen.weigh(nn.functional.cross_entropy(logits, labels, reduction="sum"), len(x))
    return seen.told(max(len(images), 1))


class _Seen:
    """Sums over images, gathered by hooks while a ``with`` block runs."""

    def __init__(self, net: nn.Module, weights: dict[str, nn.Parameter]) -> None:
        self.net = net
        self.weights = weights
        self.squares = {name: torch.zeros_like(w, dtype=torch.float64) for name, w in weights.items()}
        self.gates = {name: torch.zeros(len(w), dtype=torch.float64, device=w.device) for name, w in weights.items()}
        self.met: dict[str, Tensor] = {}
        self.given: dict[str, list[Tensor]] = {}
        self.hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> _Seen:
        for name in self.weights:
            module = self.net.get_submodule(name.rpartition(".")[0])
            self.hooks.append(module.register_forward_pre_hook(partial(self._enters, name)))
            self.hooks.append(module.register_forward_hook(partial(self._leaves, name)))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _enters(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        counted = _met(name, module, self.weights[name], inputs[0].detach())
        self.met[name] = self.met[name] + counted if name in self.met else counted

    def _leaves(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], out: Any) -> None:
        # Layers of cells are called step by step and give a membrane beside.
        self.given.setdefault(name, []).append(out[0] if isinstance(out, tuple) else out)

    def weigh(self, loss: Tensor, images: int) -> None:
        """Take the gradients of a batch, whose losses are summed."""
        outs = [out for each in self.given.values() for out in each]
        wanted = [*self.weights.values(), *outs]
        found = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
        for name, gradient in zip(self.weights, found, strict=False):
            self.squares[name] += gradient.double().square()
        gradients = iter(found[len(self.weights) :])
        for name, each in self.given.items():
            effects = [_effect(out.detach(), next(gradients), images) for out in each]
            self.gates[name] += torch.stack(effects).sum(0).square().sum(0)
        self.given.clear()

    def told(self, images: int) -> Saliencies:
        """Means over so many images."""
        size = {name: w.detach().double().square() for name, w in self.weights.items()}
        return Saliencies(
            {name: (size[name] * square / (2 * images)).float().cpu() for name, square in self.squares.items()},
            {name: (gate / (2 * images)).float().cpu() for name, gate in self.gates.items()},
            {name: (met / images).float().cpu() for name, met in self.met.items()},
        )


def _met(name: str, module: nn.Module, weight: Tensor, x: Tensor) -> Tensor:
    """Inputs that each weight meets, of whatever output channel: ``[1, Cin, k, k]`` or ``[1, in]``, float64."""
    x = as_input(weight, x)
    if x.shape[1] != weight.shape[1]:
        raise ConfigError(f"what enters '{name}' is {list(x.shape)}, not what it multiplies; use 'magnitude'")
    active = (x != 0).to(torch.float32)
    if weight.dim() == 2:
        return active.sum(0, keepdim=True, dtype=torch.float64)
    tap = torch.zeros(1, *weight.shape[1:], device=weight.device, requires_grad=True)
    met = nn.functional.conv2d(active.double().sum(0, keepdim=True), tap.double(), **geometry(module))
    return torch.autograd.grad(met.sum(), tap)[0].double()


def _effect(out: Tensor, gradient: Tensor, images: int) -> Tensor:
    """What a gate on each channel would do to the loss of each image: ``[B, Cout]``, float64."""
    effect = (out * gradient).unflatten(0, (-1, images)).double()
    return effect.sum([0, *range(3, effect.dim())])


def per_operation(losses: Tensor, operations: Tensor) -> Tensor:
    """Rise of the loss for each operation saved; 0 where nothing is met, as nothing is lost there. Shapes broadcast."""
    return torch.where(operations > 0, losses / operations.clamp_min(torch.finfo(torch.float32).tiny), 0.0)


def mask_of_least_loss(
    losses: Mapping[str, Tensor],
    operations: Mapping[str, Tensor],
    sparsity: float,
    most: float,
    within: Mask | None = None,
) -> Mask:
    """The weights that keep the loss low and cause no more than so many operations at the present rates.

    Of all choices of that many weights the least of lost saliency + lambda times operations is to keep the largest of
    saliency - lambda operations (the objective of Shi et al., with its lambda found by halving).

    Args:
        losses: of single weights, at least 0, by name.
        operations: of each weight, an image, shapes that broadcast to those.
        sparsity: share that goes, in [0, 1].
        most: operations an image; where even the fewest are more, it is the mask with the fewest.
        within: entries outside it go first.
    """
    costs = {name: operations[name].expand_as(loss).double() for name, loss in losses.items()}

    def drawn(price: float) -> tuple[Mask, float]:
        worth = {n: loss.double() - price * costs[n] for n, loss in losses.items()}
        lowest = min(float(t.min()) for t in worth.values())
        mask = mask_of_best({n: t - lowest for n, t in worth.items()}, sparsity, within)
        return mask, operations_of(mask, operations)

    mask, met = drawn(0.0)
    if met <= most:
        return mask
    low, high = -30.0, 30.0  # of log10 lambda
    mask = drawn(10.0**high)[0]
    for _ in range(40):
        middle = (low + high) / 2
        tried, met = drawn(10.0**middle)
        if met <= most:
            mask, high = tried, middle
        else:
            low = middle
    return mask


def operations_of(mask: Mask, operations: Mapping[str, Tensor]) -> float:
    """Operations an image through the weights that a mask leaves, at the rates that were measured."""
    return sum(float((kept * operations[n].double()).sum()) for n, kept in mask.kept.items() if n in operations)
