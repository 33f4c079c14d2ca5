"""The network under attack: its loss, the gradient of its input alone, and what it says when it is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikefed.errors import ConfigError
from spikefed.networks.monitor import device_of
from spikefed.neurons import Bernoulli, ChainLayer, Latency, SignedPoisson
from spikefed.neurons.encoding import Gradient
from spikefed.training.attacks.draws import ATTACK, JUDGE, SEARCH, uniform
from spikefed.training.attacks.first import carried, first_layer
from spikefed.training.attacks.groups import groups
from spikefed.training.attacks.rate import RateGradient, rate_layer
from spikefed.training.attacks.surrogates import turn_to

SLOPES: dict[type, float] = {Bernoulli: 1.0, SignedPoisson: 0.5}
"""Of the expected spikes by the input."""

Loss = Literal["ce", "margin"]
"""Cross-entropy of the mean outputs, or the largest wrong one minus the true one."""


def at_least_one(what: str, count: int) -> None:
    """Raise ConfigError where an attack is asked for none of something."""
    if count < 1:
        raise ConfigError(f"{what} = {count} is no attack; choose 1 or more")


@dataclass(frozen=True, eq=False)
class Given:
    """A coder whose random numbers are given: ``uniform [T, B, ...]``."""

    coder: Bernoulli | SignedPoisson
    uniform: Tensor
    widens: int = 1

    @property
    def name(self) -> str:
        """Of the coder."""
        return self.coder.name

    def encode(self, x: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
        """The spikes of ``x [B, ...]``."""
        return self.coder.spikes(x, self.uniform)

    def encode_steps(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The spikes of ``x [T, B, ...]``."""
        return self.coder.spikes(x, self.uniform)


@dataclass(frozen=True, eq=False)
class Goal:
    """What an attack wants of B images.

    Attributes:
        images: their numbers in the set: random numbers belong to them.
        labels: int64 ``[B]``: the true classes; with ``targeted`` those that the network shall say.
        targeted: make it say these, instead of anything but these.
    """

    images: Sequence[int]
    labels: Tensor
    targeted: bool = False

    def __post_init__(self) -> None:
        if self.labels.dim() != 1 or len(self.labels) != len(self.images):
            raise ConfigError(
                f"{len(self.images)} images have labels of shape {tuple(self.labels.shape)}; give one label for each"
            )

    def at(self, chosen: Tensor | slice) -> Goal:
        """Some of the images. ``chosen`` is ``[n]``, numbers or bool, or a slice."""
        rows = torch.arange(len(self.images))[chosen].tolist()
        return Goal([self.images[row] for row in rows], self.labels[chosen], self.targeted)

    def met(self, scores: Tensor) -> Tensor:
        """Whether scores ``[B, C]`` are what the attack wants."""
        said = scores.argmax(dim=1) == self.labels
        return said if self.targeted else ~said

    def loss(self, scores: Tensor, kind: Loss, draws: int = 1) -> Tensor:
        """What the attack makes large: ``[B]`` of ``[draws * B, C]``, mean over the draws."""
        self._check(scores.shape[1])
        labels = self.labels.repeat(draws)
        if kind == "ce":
            each = functional.cross_entropy(scores, labels, reduction="none")
        else:
            true = functional.one_hot(labels, scores.shape[1]).bool()
            each = scores.masked_fill(true, -torch.inf).amax(dim=1) - scores.gather(1, labels[:, None])[:, 0]
        each = each.view(draws, -1).mean(dim=0)
        return -each if self.targeted else each

    def _check(self, classes: int) -> None:
        """Raise ConfigError where a label is none of the classes."""
        beyond = self.labels[(self.labels < 0) | (self.labels >= classes)]
        if len(beyond):
            what = "target" if self.targeted else "label"
            raise ConfigError(f"{what} {int(beyond[0])} is none of the network's classes; give 0 to {classes - 1}")


@dataclass(frozen=True, eq=False)
class Victim:
    """A network as an attack sees it.

    Only the input's gradient is computed: weights ask for none while an attack runs. All draws of the coder go through
    the network as one batch, of as few images at a time as fill the processor's cache.

    Attributes:
        net: in the mode that it is used in.
        preprocess: pixels to network input.
        seed: of all random numbers.
        gradient: what reaches the image through a coder that draws or rounds, ``stop`` or ``straight``.
        draws: of the coder for one gradient (expectation over transformation: Athalye et al., ICML 2018).
        fresh: other draws at every step; else an image keeps its own.
        loss: what the attack makes large.
        scale: factor on the mean outputs before the softmax of the loss.
    """

    net: nn.Module
    preprocess: Callable[[Tensor], Tensor]
    seed: int = 0
    gradient: Gradient = "straight"
    draws: int = 1
    fresh: bool = True
    loss: Loss = "ce"
    scale: float = 1.0

    def __post_init__(self) -> None:
        at_least_one("draws", self.draws)

    def but(self, **changes: Any) -> Victim:
        """The same with other settings."""
        return replace(self, **changes)

    @property
    def coder(self) -> Any:
        """The network's input coding; None where it has none."""
        return getattr(self.net, "encoder", None)

    @property
    def draws_spikes(self) -> bool:
        """Whether the coder is random."""
        return isinstance(self.coder, Bernoulli | SignedPoisson)

    def ascent(self, images: Tensor, goal: Goal, moment: int) -> tuple[Tensor, Tensor, Tensor]:
        """What the attack makes large, its gradient, and the scores behind it.

        Args:
            images: float32 ``[B, ...]``, in pixels.
            goal: of these images.
            moment: number of the step, for the draws.

        Returns:
            the loss ``[B]``, its gradient shaped as the images, mean scores ``[B, C]``.

        Raises:
            ConfigError: the network passes no gradient on.
        """
        first = rate_layer(self.net) if self._straight_spikes(images) else None
        if first is not None:
            return self._rate_ascent(first, images, goal, moment)
        found = []
        for rows in groups(self.net, len(images), self._count(self.draws)):
            turn_to(self.net, rows.start)
            found.append(self._ascent(images[rows], goal.at(rows), moment))
        losses, gradients, scores = zip(*found, strict=True)
        return torch.cat(losses), torch.cat(gradients), torch.cat(scores)

    def _ascent(self, images: Tensor, goal: Goal, moment: int) -> tuple[Tensor, Tensor, Tensor]:
        """`ascent` of a group of images ``[B, ...]``."""
        x = images.detach().clone().requires_grad_()
        with torch.enable_grad(), self.frozen():
            scores = self._scores(x, goal.images, ATTACK, moment if self.fresh else 0, self.draws)
            each = goal.loss(scores.flatten(0, 1) * self.scale, self.loss, len(scores))
            if each.requires_grad:
                (gradient,) = torch.autograd.grad(each.sum(), x)
            elif self.gradient == "stop" and isinstance(self.coder, Bernoulli | SignedPoisson | Latency):
                gradient = torch.zeros_like(images)
            else:
                raise ConfigError(
                    f"network {getattr(self.net, 'name', type(self.net).__name__)} passes no gradient to its input; "
                    "attack it with 'square' and 'noise', which need none"
                )
        return each.detach(), gradient, scores.detach().mean(dim=0)

    def _rate_ascent(self, first: ChainLayer, images: Tensor, goal: Goal, moment: int) -> tuple[Tensor, Tensor, Tensor]:
        """`ascent` where the first layer is one pass over all draws and steps.

        Args:
            first: that layer.
            images: ``[B, 1, H, W]``.
            goal: of these images.
            moment: number of the step.
        """
        net: Any = self.net
        shape = (self.draws, net.steps, *images.shape[1:])
        found = []
        with self.frozen():
            rate = RateGradient(net, first, images, self.preprocess)
            for rows in groups(net, len(images), self.draws, behind_first=True):
                wanted = goal.at(rows)
                numbers = uniform(self.seed, ATTACK, wanted.images, moment if self.fresh else 0, shape)
                loss = lambda scores, wanted=wanted: wanted.loss(  # noqa: E731
                    scores.flatten(0, 1) * self.scale, self.loss, len(scores)
                )
                found.append(rate.ascent(rows, numbers, loss))
            gradient = rate.gradient()
        return torch.cat([each for each, _ in found]), gradient, torch.cat([s.mean(dim=0) for _, s in found])

    @torch.no_grad()
    def scores(self, images: Tensor, numbers: Sequence[int], moment: int, queries: int | None = None) -> Tensor:
        """Mean outputs ``[B, C]`` over the draws of a query.

        Args:
            images: ``[B, C, H, W]``.
            numbers: of the images in the subject; they seed the draws.
            moment: of the attack; another one draws anew.
            queries: a batch of draws, where not the victim's own.
        """
        count = self.draws if queries is None else queries
        return self._grouped(images, numbers, SEARCH, moment if self.fresh else 0, count).mean(dim=0)

    @torch.no_grad()
    def judged(self, images: Tensor, numbers: Sequence[int], count: int, purpose: int = JUDGE) -> Tensor:
        """Scores ``[J, B, C]`` under J draws that no attack sees, the same whatever the pixels are; 1 if none draws.

        Args:
            images: ``[B, C, H, W]``.
            numbers: of the images in the subject; they seed the draws.
            count: J.
            purpose: what the draws are for.
        """
        return self._grouped(images, numbers, purpose, 0, count)

    def _count(self, draws: int) -> int:
        return draws if self.draws_spikes else 1

    def _grouped(self, images: Tensor, numbers: Sequence[int], purpose: int, moment: int, count: int) -> Tensor:
        """`_scores` without a gradient, a group of images after the other."""
        parts = groups(self.net, len(images), self._count(count))
        found = [self._scores(images[rows], numbers[rows], purpose, moment, count) for rows in parts]
        return torch.cat(found, dim=1)

    def _scores(self, images: Tensor, numbers: Sequence[int], purpose: int, moment: int, count: int) -> Tensor:
        """Mean outputs over time ``[draws, B, C]``."""
        count = self._count(count)
        x = self.preprocess(images).to(device_of(self.net))
        wide = x if count == 1 else x.repeat(count, *[1] * (x.dim() - 1))
        layer = first_layer(self.net) if self._shares(x) else None
        if layer is None:
            with self._coding(x, numbers, purpose, moment, count, self.gradient):
                return self._means(wide, images)
        slope = SLOPES[type(self.coder)]
        binary = isinstance(self.coder, Bernoulli)
        with self._coding(x, numbers, purpose, moment, count, "stop"), carried(layer, slope * x, binary):
            return self._means(wide.detach(), images)

    def _means(self, wide: Tensor, images: Tensor) -> Tensor:
        """Outputs of ``wide [draws * B, ...]``, mean over time, ``[draws, B, C]``."""
        return self.net(wide).float().mean(dim=0).to(images.device).unflatten(0, (-1, len(images)))

    def _shares(self, x: Tensor) -> bool:
        """Whether the first layer's gradient may be added up over draws and steps."""
        return self.draws_spikes and self.gradient == "straight" and x.requires_grad and x.dim() == 4

    def _straight_spikes(self, images: Tensor) -> bool:
        """Whether binary spikes of images ``[B, 1, H, W]`` pass their gradient on as it is."""
        straight = isinstance(self.coder, Bernoulli) and self.gradient == "straight"
        return straight and images.dim() == 4 and images.shape[1] == 1 and images.device.type == "cpu"

    @contextmanager
    def _coding(
        self, x: Tensor, numbers: Sequence[int], purpose: int, moment: int, count: int, gradient: Gradient
    ) -> Iterator[None]:
        """The coder with the gradient that was chosen, and with the random numbers of these images."""
        coder = self.coder
        if not isinstance(coder, Bernoulli | SignedPoisson | Latency):
            yield
            return
        given: Any = replace(coder, gradient=gradient)
        if self.draws_spikes:
            steps = int(getattr(self.net, "steps", 1))
            shape = tuple(x.shape[1:]) if x.dim() == 4 else tuple(x.shape[2:])
            found = uniform(self.seed, purpose, numbers, moment, (count, steps, *shape))
            given = Given(given, found.movedim((1, 2), (1, 0)).flatten(1, 2).to(x.device))
        net: Any = self.net
        net.encoder = given
        try:
            yield
        finally:
            net.encoder = coder

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """No weight asks for a gradient inside."""
        wanted = [p for p in self.net.parameters() if p.requires_grad]
        for parameter in wanted:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in wanted:
                parameter.requires_grad_(True)
