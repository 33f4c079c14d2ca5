"""Sequences of tasks for continual learning: what each task shows, and the order in which each client meets them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from spikefed.data.federation import ClientIndices, FederatedSplit
from spikefed.data.images import ImageSet, resize, to_channels
from spikefed.errors import DataError

TASK = "task"
"""Column that says of which task an item is, int64 from 0."""

Heads = Literal["one", "task"]
"""``one``: all tasks share the outputs. ``task``: each has outputs of its own."""


@dataclass(frozen=True, eq=False)
class TaskData:
    """One task's images and how its training images are dealt out.

    Attributes:
        train, test: images with labels from 0.
        split: who holds which rows of ``train``; its public rows are in the task's look.
    """

    train: ImageSet
    test: ImageSet
    split: FederatedSplit


def rotated(images: UInt8[Tensor, "N C H W"], degrees: float) -> UInt8[Tensor, "N C H W"]:
    """Turned counter-clockwise about the centre: quarters of square images exactly, else bilinear with 0 outside."""
    quarters, rest = divmod(degrees, 90)
    if not rest and (images.shape[-1] == images.shape[-2] or quarters % 2 == 0):
        return images.rot90(int(quarters), (-2, -1)).contiguous()
    angle = math.radians(degrees)
    height, width = images.shape[-2:]
    turn = torch.tensor(
        [
            [math.cos(angle), -math.sin(angle) * height / width, 0.0],
            [math.sin(angle) * width / height, math.cos(angle), 0.0],
        ]
    )
    blocks = []
    for block in images.split(4096):
        grid = F.affine_grid(turn.expand(len(block), 2, 3), list(block.shape), align_corners=False)
        blocks.append(F.grid_sample(block.float(), grid, align_corners=False).round_().clamp_(0, 255).to(torch.uint8))
    return torch.cat(blocks)


def permuted(images: UInt8[Tensor, "N C H W"], seed: int) -> UInt8[Tensor, "N C H W"]:
    """All pixel places in one random order that the seed draws, the same in every channel and image."""
    places = np.random.default_rng(seed).permutation(images.shape[-2] * images.shape[-1])
    return images.flatten(2)[:, :, torch.from_numpy(places)].unflatten(2, images.shape[-2:]).contiguous()


def ranged(images: UInt8[Tensor, "N C H W"], low: int, high: int) -> UInt8[Tensor, "N C H W"]:
    """Levels 0..255 mapped linearly to ``low``..``high``, rounded; ``low`` above ``high`` gives the negative."""
    levels = torch.linspace(float(low), float(high), 256).round().to(torch.uint8)
    return levels[images.long()]


def brought_to(images: ImageSet, like: ImageSet) -> ImageSet:
    """A set in the shape of another: channels by `to_channels`, then `resize` where height or width differ.

    Raises:
        DataError: not pixels in memory, or no rule turns these channels into those.
    """
    if images.shape == like.shape:
        return images
    check_pictures(images)
    shown = to_channels(images.images, like.shape[0])
    return replace(images, images=shown if shown.shape[-2:] == like.shape[1:] else resize(shown, like.shape[1:]))


def check_pictures(images: ImageSet) -> None:
    """Refuse what has no pixels in memory to transform.

    Raises:
        DataError: names the set.
    """
    if images.values != "pixels" or images.steps is not None or not isinstance(images.images, Tensor):
        raise DataError(
            f"stages: {images.name} has no pictures in memory (it holds {images.values}"
            f"{', with time steps' if images.steps is not None else ''}); split it by classes with stages.classes"
        )


def by_class(images: ImageSet, groups: Sequence[Sequence[int]]) -> ImageSet:
    """The items of the classes in these groups, with their task in column `TASK`; labels stay."""
    task_of = torch.full((images.classes,), -1, dtype=torch.int64)
    for task, group in enumerate(groups):
        task_of[list(group)] = task
    tasks = task_of[images.labels]
    kept = images if bool((tasks >= 0).all()) else images.subset(torch.nonzero(tasks >= 0).flatten())
    column = task_of[kept.labels].numpy()
    return replace(kept, columns={**kept.columns, TASK: column})


def class_groups(classes: int, tasks: int) -> list[list[int]]:
    """The classes in so many groups of consecutive ones, sizes differing by one at most.

    Raises:
        DataError: more tasks than classes.
    """
    if tasks > classes:
        raise DataError(f"stages: {classes} classes cannot be split into {tasks} tasks; set stages.classes lower")
    return [part.tolist() for part in np.array_split(np.arange(classes), tasks)]


def joined(parts: Sequence[TaskData], heads: Heads) -> TaskData:
    """All tasks as one set, with their task in column `TASK`; every client holds its rows of all of them.

    With heads ``task`` the labels of a task follow those of the task before. Public row i is in the look of task
    i mod K, K tasks.
    """
    first = [sum(part.train.classes for part in parts[:task]) for task in range(len(parts) + 1)]
    classes = first[-1] if heads == "task" else max(part.train.classes for part in parts)
    shifts = first[:-1] if heads == "task" else [0] * len(parts)
    offsets = np.cumsum([0, *(len(part.train) for part in parts)])[:-1]
    train = _stacked([part.train for part in parts], shifts, classes)
    test = _stacked([part.test for part in parts], shifts, classes)
    clients = [
        ClientIndices(
            *(torch.cat([getattr(part.split.clients[c], use) + int(offset)
                         for part, offset in zip(parts, offsets, strict=True)])
              for use in ("train", "validation", "test"))
        )
        for c in range(len(parts[0].split.clients))
    ]  # fmt: skip
    rows = torch.arange(len(parts[0].split.public_images))
    public = torch.stack([part.split.public_images for part in parts])[rows % len(parts), rows]
    split = parts[0].split
    return TaskData(train, test, FederatedSplit(public, split.public_indices, clients, split.names))


def _stacked(sets: Sequence[ImageSet], shifts: Sequence[int], classes: int) -> ImageSet:
    images = torch.cat([each.images for each in sets])
    labels = torch.cat([each.labels + shift for each, shift in zip(sets, shifts, strict=True)])
    tasks = np.repeat(np.arange(len(sets)), [len(each) for each in sets])
    names = "+".join(dict.fromkeys(each.name for each in sets))
    kept = sets[0].class_names if classes == sets[0].classes and len({each.name for each in sets}) == 1 else ()
    columns = {key: np.concatenate([each.columns[key] for each in sets]) for key in _shared_columns(sets)}
    notes = tuple(dict.fromkeys(note for each in sets for note in each.notes))
    return ImageSet(
        names, sets[0].split, images, labels, classes, kept, sets[0].values, {**columns, TASK: tasks}, notes
    )


def _shared_columns(sets: Sequence[ImageSet]) -> list[str]:
    return [key for key in sets[0].columns if all(key in each.columns for each in sets)]


def orders(
    kind: Literal["same", "random", "latin"], tasks: int, clients: int, generator: np.random.Generator
) -> list[list[int]]:
    """The tasks of every client in the order in which it meets them.

    ``same``: 0, 1, ... for everybody. ``random``: a permutation each. ``latin``: client c begins with task c mod K and
    goes on in the ring, so that with K clients or more all tasks are there in every stage.

    Args:
        kind: see above.
        tasks: K.
        clients: how many.
        generator: of ``random``.
    """
    if kind == "random":
        return [generator.permutation(tasks).tolist() for _ in range(clients)]
    shift = 1 if kind == "latin" else 0
    return [[(task + shift * client) % tasks for task in range(tasks)] for client in range(clients)]
