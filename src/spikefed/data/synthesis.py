"""Images out of a trained network, all at once: pixels that gradients move until the network sees what it shall see.

    loss of an image = cross-entropy(softmax(z / temperature), target) + smoothness * total variation
    with ``statistics``  + weight * sum over norms of |mean - running mean|^2 + |var - running var|^2, per channel

The first line is the class impressions of PrivateSNN; the second the feature regularisation of DeepInversion (Yin et
al., CVPR 2020), in units of the running deviation. Pixels move by Adam, which keeps them apart: without ``statistics``
an image is the same whether it is made alone or among a thousand, but for rounding. The network may spike: surrogate
gradients then lead to the pixels. ``generator`` moves a generator's weights in place of pixels
(`spikefed.data.generator`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from spikefed.data.generator import LATENT, Generator
from spikefed.data.madepublic import noise
from spikefed.data.synthetic import SyntheticSet, similarity, soft_targets
from spikefed.errors import ConfigError
from spikefed.networks.layers import WeightedLayer
from spikefed.networks.monitor import in_eval_mode

Preprocessing = Callable[[Tensor], Tensor]
"""Pixels 0..255 ``[N, C, H, W]`` to network input."""
Kind = Literal["impressions", "statistics", "generator"]
Make = Callable[[slice, Tensor], Tensor]
"""Pixels uint8 ``[n, C, H, W]`` of some places among all images, for their targets ``[n, C]``."""


@dataclass(frozen=True)
class SynthesisPlan:
    """How images are made.

    Attributes:
        kind: ``impressions``, ``statistics`` (those with batch norm's statistics), or ``generator`` (made by a small
            network that learns what the network recognises; with statistics where there is batch norm).
        images: how many; classes take turns.
        steps: of Adam [PrivateSNN: 2,500 at 1e-3, MNIST 1,500].
        lr: of pixels in [0, 1]; a generator's is a tenth of it [DENSE: 1e-3].
        temperature: of the softmax [PrivateSNN: 20].
        scale: of the concentrations, see `spikefed.data.soft_targets`.
        smoothness: weight of the total variation, mean absolute difference of neighbours.
        weight: of the statistics.
        batch: images made together.
        begin: what pixels are before the first step: ``uniform`` noise of single pixels, or ``areas``, noise on grids
            of all sizes (`spikefed.data.noise`).
    """

    kind: Kind = "statistics"
    images: int = 1000
    steps: int = 200
    lr: float = 0.05
    temperature: float = 20.0
    scale: float = 1.0
    smoothness: float = 0.0
    weight: float = 1.0
    batch: int = 250
    begin: Literal["uniform", "areas"] = "uniform"

    def check(self) -> None:
        """Raise ConfigError for a number or word that is none."""
        if self.kind not in get_args(Kind):
            raise ConfigError(
                f"synthetic images of kind '{self.kind}' are not known; use one of {', '.join(get_args(Kind))}"
            )
        for name in ("images", "steps", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"synthesis with {name} = {getattr(self, name)} makes nothing; use at least 1")
        for name in ("lr", "temperature", "scale"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"synthesis with {name} = {getattr(self, name)} cannot be; use a number above 0")


def synthesise(
    net: nn.Module,
    plan: SynthesisPlan,
    *,
    shape: tuple[int, ...],
    classes: int,
    preprocess: Preprocessing,
    seed: int = 0,
    provenance: dict[str, Any] | None = None,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> SyntheticSet:
    """Images of every class, from a network alone.

    Args:
        net: trained, spiking or not; it stays as it is.
        plan: how.
        shape: ``(C, H, W)`` of an image.
        classes: number of outputs.
        preprocess: pixels 0..255 to network input, differentiable.
        seed: of targets and first noise.
        provenance: what else the set shall say of where it comes from.
        tell: told how many images are done, and of how many.

    Raises:
        ConfigError: a network without a classifier, or without batch norm where its statistics are asked for.
    """
    check_synthesis(net, plan)
    targets = _targets(net, plan, classes, seed)
    make = (_generated if plan.kind == "generator" else _moved)(net, plan, shape, classes, preprocess, seed)
    made = []
    outputs = []
    with held(net):
        for first in range(0, plan.images, plan.batch):
            part = slice(first, min(first + plan.batch, plan.images))
            images = make(part, targets[part])
            made.append(images)
            with torch.no_grad():
                outputs.append(_logits(net, preprocess(images), seed))
            tell(first + len(images), plan.images)
    facts = {**(provenance or {}), **asdict(plan), "seed": seed}
    return SyntheticSet(torch.cat(made), targets, torch.cat(outputs), facts)


def _targets(net: nn.Module, plan: SynthesisPlan, classes: int, seed: int) -> Tensor:
    """What is asked for, ``[N, C]``: the classes in turn; of a generator they alone, else shares drawn for each."""
    asked = torch.arange(plan.images) % classes
    if plan.kind == "generator":
        return F.one_hot(asked, classes).float()
    return soft_targets(similarity(classifier(net, classes)), asked, plan.scale, seed)


def check_synthesis(net: nn.Module, plan: SynthesisPlan) -> None:
    """Raise ConfigError for a plan that is none, or one whose statistics the network does not have."""
    plan.check()
    if plan.kind == "statistics" and not normed_layers(net):
        raise ConfigError(
            "the network has no batch norm, whose statistics the images would match; make images of kind 'impressions'"
        )


def _moved(
    net: nn.Module, plan: SynthesisPlan, shape: tuple[int, ...], classes: int, preprocess: Preprocessing, seed: int
) -> Make:
    """Pixels that gradients move, from noise in [0, 1] on.

    Args:
        net: with fixed tensors.
        plan: how.
        shape: ``(C, H, W)`` of an image.
        classes: number of outputs.
        preprocess: pixels to network input.
        seed: of the noise, and of an input coding's draws.
    """
    if plan.begin == "areas":
        channels, height, width = shape
        pixels = noise(plan.images, (channels, height, width), seed) / 255
    else:
        pixels = torch.rand((plan.images, *shape), generator=torch.Generator().manual_seed(seed))

    def make(part: slice, targets: Tensor) -> Tensor:
        x = pixels[part].clone().requires_grad_()
        optim = torch.optim.Adam([x], lr=plan.lr)
        with Statistics(net, plan.kind == "statistics") as statistics:
            for step in range(plan.steps):
                loss = _loss(net, plan, x, targets, preprocess, seed + step, statistics)
                (x.grad,) = torch.autograd.grad(loss, x)
                optim.step()
                with torch.no_grad():
                    x.clamp_(0, 1)
        return (255 * x.detach()).round().to(torch.uint8)

    return make


def _generated(
    net: nn.Module, plan: SynthesisPlan, shape: tuple[int, ...], classes: int, preprocess: Preprocessing, seed: int
) -> Make:
    """Images of a generator that learns while they are made.

    Args:
        net: with fixed tensors.
        plan: how.
        shape: ``(C, H, W)`` of an image.
        classes: number of outputs.
        preprocess: pixels to network input.
        seed: of weights and noise, and of an input coding's draws.
    """
    generator = Generator(shape, classes, seed)
    noise = torch.randn((plan.images, LATENT), generator=torch.Generator().manual_seed(seed + 1))
    optim = torch.optim.Adam(generator.parameters(), lr=plan.lr / 10)

    def make(part: slice, targets: Tensor) -> Tensor:
        labels = targets.argmax(dim=1)
        with Statistics(net, bool(normed_layers(net))) as statistics:
            for step in range(plan.steps):
                optim.zero_grad(set_to_none=True)
                x = generator(noise[part], labels)
                _loss(net, plan, x, targets, preprocess, seed + step, statistics).backward()
                optim.step()
        with torch.no_grad():
            return (255 * generator(noise[part], labels)).round().to(torch.uint8)

    return make


def _loss(
    net: nn.Module,
    plan: SynthesisPlan,
    x: Tensor,
    targets: Tensor,
    preprocess: Preprocessing,
    seed: int,
    statistics: Statistics,
) -> Tensor:
    """What images lack, summed over ``x``.

    Args:
        net: with fixed tensors.
        plan: its weights.
        x: pixels in [0, 1] ``[n, C, H, W]``.
        targets: shares of classes ``[n, C]``.
        preprocess: pixels to network input.
        seed: of an input coding's draws.
        statistics: entered.
    """
    logits = _logits(net, preprocess(255 * x), seed)
    loss = F.cross_entropy(logits / plan.temperature, targets, reduction="sum")
    if plan.smoothness:
        loss = loss + plan.smoothness * len(x) * total_variation(x)
    return loss + plan.weight * len(x) * statistics.gap() if statistics.on else loss


def classifier(net: nn.Module, classes: int) -> Float[Tensor, "C F"]:
    """Weight of the last linear layer, a row for each class.

    Raises:
        ConfigError: there is none.
    """
    found = [
        module.weight
        for module in net.modules()
        if isinstance(module, nn.Linear | WeightedLayer) and module.weight.dim() == 2
    ]
    if not found or len(found[-1]) != classes:
        raise ConfigError(
            f"the network has no linear classifier of {classes} rows, which say how alike classes are; give a network "
            "that ends in one"
        )
    return found[-1]


def total_variation(x: Float[Tensor, "N C H W"]) -> Float[Tensor, ""]:
    """Mean absolute difference of neighbouring pixels; 0 where there are no neighbours."""
    parts = [x.diff(dim=axis).abs() for axis in (2, 3) if x.shape[axis] > 1]
    return sum((part.mean() for part in parts), x.new_zeros(()))


def normed_layers(net: nn.Module) -> list[WeightedLayer]:
    """Layers whose currents a batch norm with running statistics takes."""
    return [m for m in net.modules() if isinstance(m, WeightedLayer) and m.norm is not None]


class Statistics:
    """While it is entered, it sees the currents of every normed layer and knows how far they are from what was usual.

    Args:
        net: a network of this package.
        on: look at all.
    """

    def __init__(self, net: nn.Module, on: bool) -> None:
        self.on = on
        self._seen = [_Seen(layer) for layer in normed_layers(net)] if on else []

    def __enter__(self) -> Statistics:
        for seen in self._seen:
            seen.layer.product = seen
        return self

    def __exit__(self, *_: object) -> None:
        for seen in self._seen:
            seen.layer.product = seen.before

    def gap(self) -> Float[Tensor, ""]:
        """Mean over layers and channels of the squared gaps of mean and deviation, in running deviations."""
        return torch.stack([seen.gap() for seen in self._seen]).mean()


class _Seen:
    """A layer's product that keeps what it gave; it has no plain weight, so that no kernel goes around it."""

    def __init__(self, layer: WeightedLayer) -> None:
        self.layer = layer
        self.before = layer.product
        self.currents = torch.empty(0)

    def __call__(self, x: Tensor) -> Tensor:
        self.layer.product = self.before
        self.currents = self.layer.currents(x)
        self.layer.product = self
        return self.currents

    def plain(self) -> Tensor | None:
        return None

    def gap(self) -> Tensor:
        norm = self.layer.norm
        assert norm is not None
        running = norm.running_mean.detach()
        deviation = (norm.running_var.detach() + norm.eps).sqrt()
        groups = self.currents.unsqueeze(0)
        if norm.steps is not None and len(self.currents) % norm.steps == 0:  # BNTT has statistics of every step
            groups = self.currents.unflatten(0, (norm.steps, -1))
        over = tuple(d for d in range(groups.dim()) if d not in (0, 2))
        var, mean = torch.var_mean(groups, dim=over, correction=0)
        off = ((mean - running) / deviation).square().mean()
        return off + ((var + norm.eps).sqrt() / deviation - 1).square().mean()


def _logits(net: nn.Module, x: Tensor, seed: int) -> Tensor:
    """Mean outputs ``[N, C]``."""
    return net(x, generator=torch.Generator().manual_seed(seed)).mean(dim=0)


@contextmanager
def held(net: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients for its parameters inside; afterwards all is what it was."""
    wanted = [(parameter, parameter.requires_grad) for parameter in net.parameters()]
    for parameter, _ in wanted:
        parameter.requires_grad_(False)
    try:
        with in_eval_mode(net):
            yield
    finally:
        for parameter, needed in wanted:
            parameter.requires_grad_(needed)
