"""Training and evaluation loops: data resident as uint8, batches cut by index, randomness from an explicit
generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks.monitor import device_of
from spikefed.neurons import Direct
from spikefed.training.hooks import Loss, StepHook
from spikefed.training.smallsteps import small_steps

Network = nn.Module
"""A module called as ``net(x [B, C, H, W], generator=...) -> [T, B, classes]``."""

FEW, MANY = 50, 250
"""Images of one forward pass in evaluation, see `rows_at_once`."""


@dataclass(frozen=True)
class Preprocess:
    """Pixels 0..255, counts or real numbers to network input.

    Attributes:
        mode: ``unit`` [0, 1]; ``signed`` [-1, 1]; ``standard`` subtracts the mean and divides by the deviation; ``raw``
            takes the numbers as they are (counts of events).
        mean: per-channel mean in the data's units, for ``standard``.
        std: per-channel standard deviation in the data's units, for ``standard``.
    """

    mode: Literal["unit", "signed", "standard", "raw"] = "unit"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __call__(self, images: Tensor) -> Tensor:
        """``[B, C, H, W]`` or ``[B, T, C, H, W]`` to float32 of the same shape."""
        x = images.to(torch.float32, copy=True)
        if self.mode == "raw":
            return x
        if self.mode == "unit":
            return x.div_(255.0)
        if self.mode == "signed":
            return x.div_(127.5).sub_(1.0)
        mean, std = (x.new_tensor(value).view(-1, 1, 1) for value in (self.mean, self.std))
        return x.sub_(mean).div_(std)


def batches(
    count: int, batch_size: int, *, shuffle: bool, generator: torch.Generator, drop_last: bool = False
) -> Iterator[Tensor]:
    """Index tensors that cover ``range(count)`` once; a trailing batch of one joins its neighbour.

    Batch statistics of one sample and one pixel are undefined, hence no batch of one unless ``count`` is one.

    Args:
        count: items.
        batch_size: items of a batch.
        shuffle: draw the order, or go through in order.
        generator: draws it.
        drop_last: leave out a batch that is not full.
    """
    order = torch.randperm(count, generator=generator) if shuffle else torch.arange(count)
    cuts = list(range(0, count, batch_size)) + [count]
    if len(cuts) > 2 and cuts[-1] - cuts[-2] < (batch_size if drop_last else 2):
        cuts.pop(-1 if drop_last else -2)
    for start, stop in zip(cuts, cuts[1:], strict=False):
        yield order[start:stop]


def poisson_batches(count: int, batch_size: int, *, generator: torch.Generator) -> Iterator[Tensor]:
    """As many index tensors ``[n]`` as an epoch has batches; each sample is in each by chance, batch_size / count.

    The chance that accountants of differential privacy count on. A batch without any sample is drawn again.
    """
    share = min(1.0, batch_size / count)
    for _ in range(-(-count // batch_size)):
        chosen = torch.empty(0, dtype=torch.int64)
        while not len(chosen):
            chosen = (torch.rand(count, generator=generator) < share).nonzero().flatten()
        yield chosen


def train(
    net: Network,
    images: Tensor,
    targets: Tensor,
    loss: Loss,
    optim: torch.optim.Optimizer,
    *,
    epochs: int,
    batch_size: int,
    preprocess: Preprocess,
    generator: torch.Generator,
    shuffle: bool = True,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    drop_last: bool = False,
    hooks: Sequence[StepHook] = (),
    poisson: bool = False,
) -> float:
    """Train in place; one function for labels (``targets [N]``) and for distillation (``targets [N, C, T]``).

    Steps of small networks keep what they looked up when the call began. So what ``preprocess``, ``augment`` or
    ``loss`` do to the network's build while it trains (a module's hooks, ``requires_grad_``, parameters that take
    another one's place, as ``load_state_dict(assign=True)`` has it, ``eval()`` of single layers) counts from the next
    call on; numbers written into its tensors count at once. Use ``hooks`` for the former: steps with hooks look anew.

    Args:
        images: uint8 ``[N, C, H, W]``.
        loss: ``(outputs [T, B, C], targets of the batch) -> scalar``.
        generator: source of order, augmentation and input coding.
        hooks: what else happens in a step, in this order.
        poisson: batches of `poisson_batches`, whatever ``shuffle`` and ``drop_last``.

    Returns:
        mean loss over the samples of the last epoch (nan when there is nothing to train on).
    """
    for hook in hooks:
        hook.begin(net, generator)
    net.train()
    device = device_of(net)
    total = torch.zeros((), dtype=torch.float64, device=device)
    seen = 0
    small = None if hooks else small_steps(net, optim)
    for _ in range(epochs if len(images) else 0):
        total = torch.zeros_like(total)
        seen = 0
        cut = batches(len(images), batch_size, shuffle=shuffle, generator=generator, drop_last=drop_last)
        for index in poisson_batches(len(images), batch_size, generator=generator) if poisson else cut:
            x = preprocess(images[index].to(device))
            if augment is not None:
                x = augment(x, generator)
            wanted = targets[index].to(device)
            value = small(x, wanted, loss, generator) if small is not None else None
            if value is None:
                value = _step(net, x, wanted, loss, optim, hooks, generator)
            total += value.double() * len(index)
            seen += len(index)
    for hook in hooks:
        hook.end(net, generator)
    return float(total / seen) if seen else float("nan")


def _step(
    net: Network,
    x: Tensor,
    wanted: Tensor,
    loss: Loss,
    optim: torch.optim.Optimizer,
    hooks: Sequence[StepHook],
    generator: torch.Generator,
) -> Tensor:
    """One step of `train`; the loss, scalar, without a graph.

    Args:
        x: input of the network, ``[B, ...]``.
        wanted: targets of the batch.
        loss, optim, hooks, generator: of `train`.
    """
    for hook in hooks:
        x = hook.inputs(net, x, wanted, loss, generator)
    with ExitStack() as stack:
        for hook in hooks:
            stack.enter_context(hook.around(net, generator))
        out = net(x, generator=generator)
        value = loss(out, wanted)
        for hook in hooks:
            term = hook.term(net, x, out, generator)
            value = value if term is None else value + term
        optim.zero_grad(set_to_none=True)
        value.backward()
    optim.step()
    return value.detach()


def rows_at_once(net: Network, train_bn: bool = False) -> int:
    """Images of one forward pass in evaluation: `FEW`, whose trains stay in a core's caches, or `MANY`.

    `FEW` on a CPU alone, and only where an image's outputs do not depend on who shares its batch: not with a coder or
    a chip that draws, whose draws would move, not with batch statistics, and not where currents are read, whose last
    bit a matrix product of another height may round differently.

    Args:
        net: a network; of one that is not ours nothing is known, so `MANY`.
        train_bn: batch statistics are kept.
    """
    steady = type(getattr(net, "encoder", None)) is Direct and getattr(net, "readout", None) == "spike"
    on_chip = any("product" in vars(module) for module in net.modules())
    return FEW if steady and not train_bn and not on_chip and device_of(net).type == "cpu" else MANY


@torch.no_grad()
def outputs(
    net: Network,
    images: Tensor,
    *,
    preprocess: Preprocess,
    generator: torch.Generator,
    batch_size: int | None = None,
    train_bn: bool = False,
) -> Tensor:
    """Network outputs on all images, ``[N, C, T]`` float32, in the order given.

    Args:
        net: in any mode; it comes back as it was.
        images: uint8 ``[N, C, H, W]``.
        preprocess: pixels to network input.
        generator: source of input coding.
        batch_size: images of one forward pass; None: `rows_at_once`.
        train_bn: keep batch statistics (and update the running ones), as the FSD authors' code does at evaluation.
    """
    was_training = net.training
    device = device_of(net)
    net.train(train_bn)
    count = batch_size or rows_at_once(net, train_bn)
    parts = [
        net(preprocess(images[i : i + count].to(device)), generator=generator).float().permute(1, 2, 0).cpu()
        for i in range(0, len(images), count)
    ]
    net.train(was_training)
    return torch.cat(parts).contiguous()


def output_spikes(net: Network, images: Tensor, **kwargs: Any) -> np.ndarray:
    """Output spike trains on all images: uint8 0/1, ``[N, C, T]`` (arguments of `outputs`).

    Raises:
        ConfigError: the network's readout does not spike.
    """
    values = outputs(net, images, **kwargs)
    spikes = values.to(torch.uint8)
    if not torch.equal(spikes.to(values.dtype), values) or (len(spikes) and int(spikes.max()) > 1):
        raise ConfigError('the network\'s outputs are not spikes; set network.readout = "spike" to exchange spikes')
    return spikes.numpy()


@dataclass(frozen=True)
class Evaluation:
    """What a labelled set says of a network.

    Attributes:
        accuracy: share of samples whose largest mean output is the label (first class wins a tie).
        loss: cross-entropy of the mean outputs as logits, nats.
        confusion: counts, rows true class, columns predicted.
        class_activity: mean output by class unit and time step, ``[C][T]``.
        tasks: in a run of stages, for each task the accuracy where the task is known and where it is not (one of them
            is None where it has no meaning).
    """

    accuracy: float
    loss: float
    confusion: list[list[int]]
    class_activity: list[list[float]]
    tasks: tuple[tuple[float | None, float | None], ...] = ()


def evaluate(
    net: Network, images: Tensor, labels: Tensor, *, own: Sequence[int] | None = None, **kwargs: Any
) -> Evaluation:
    """Evaluate on uint8 images and int64 labels (further arguments of `outputs`).

    Args:
        net: in any mode; it comes back as it was.
        images: uint8 ``[N, C, H, W]``.
        labels: int64 ``[N]``.
        own: choose among these outputs alone, where the task is known; None: among all.
        **kwargs: batch size, generator and the rest of `outputs`.
    """
    values = outputs(net, images, **kwargs)
    return judged(values, labels, own)


def judged(values: Tensor, labels: Tensor, own: Sequence[int] | None = None) -> Evaluation:
    """What outputs ``[N, C, T]`` say of labels ``[N]``; with ``own`` chosen among these outputs alone."""
    scores = values.mean(dim=2)
    if own is not None:
        others = torch.ones(scores.shape[1], dtype=torch.bool)
        others[list(own)] = False
        scores = scores.masked_fill(others, -1e9)
    classes = scores.shape[1]
    predicted = scores.argmax(dim=1)
    confusion = torch.bincount(labels * classes + predicted, minlength=classes * classes).view(classes, classes)
    return Evaluation(
        accuracy=float((predicted == labels).sum()) / max(len(labels), 1),
        loss=float(nn.functional.cross_entropy(scores, labels)),
        confusion=confusion.tolist(),
        class_activity=[[round(v, 5) for v in row] for row in values.mean(dim=0).tolist()],
    )


def mean_evaluation(parts: Sequence[Evaluation]) -> Evaluation:
    """Several networks on one labelled set: mean accuracy, loss and activity, summed confusion counts.

    Args:
        parts: at least one.
    """
    count = len(parts)
    return Evaluation(
        accuracy=sum(part.accuracy for part in parts) / count,
        loss=sum(part.loss for part in parts) / count,
        confusion=np.sum([part.confusion for part in parts], axis=0).tolist(),
        class_activity=np.round(np.mean([part.class_activity for part in parts], axis=0), 5).tolist(),
        tasks=tuple(_mean_pair(pairs) for pairs in zip(*(part.tasks for part in parts), strict=True)),
    )


def _mean_pair(pairs: Sequence[tuple[float | None, float | None]]) -> tuple[float | None, float | None]:
    known, unknown = ([p for p in side if p is not None] for side in zip(*pairs, strict=True))
    return sum(known) / len(known) if known else None, sum(unknown) / len(unknown) if unknown else None
