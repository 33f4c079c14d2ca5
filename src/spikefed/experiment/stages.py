"""The table ``[stages]``: tasks out of an experiment's data, who learns which when, and what came of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spikefed import data, networks
from spikefed.errors import ConfigError, DataError
from spikefed.experiment.config import AdapterConfig, Experiment, StagesConfig
from spikefed.federated import continual
from spikefed.federated.calendar import Calendar
from spikefed.federated.randomness import STAGES, derive_seed
from spikefed.training import Evaluation, judged, mean_evaluation

Dealt = tuple[data.ImageSet, data.ImageSet, data.FederatedSplit]
"""Training set, test set, and who holds what."""


@dataclass(frozen=True)
class Stages:
    """The stages of one run.

    Attributes:
        calendar: who learns which task when.
        outputs: by task its own outputs; None: all tasks share them.
    """

    calendar: Calendar
    outputs: tuple[tuple[int, ...], ...] | None

    def own(self, task: int) -> tuple[int, ...] | None:
        """Outputs of a task's head."""
        return None if self.outputs is None else self.outputs[task]


def calendar_of(config: Experiment) -> Calendar | None:
    """The calendar of an experiment; None without stages.

    Raises:
        ConfigError: orders that do not fit tasks and clients.
    """
    stages = config.stages
    if not stages.on:
        return None
    tasks = stages.tasks
    clients = 1 if config.data.pooled else config.data.clients
    if isinstance(stages.order, str):
        seed = derive_seed(config.seed, STAGES)
        found = data.orders(stages.order, tasks, clients, data.generator_of(seed))
    else:
        found = stages.order
        _check_orders(found, tasks, clients)
    return Calendar(tuple(map(tuple, found)), stages.rounds)


def _check_orders(orders: Sequence[Sequence[int]], tasks: int, clients: int) -> None:
    if len(orders) != clients:
        raise ConfigError(
            f"stages.order has {len(orders)} order{'s' * (len(orders) != 1)} for {clients} client"
            f"{'s' * (clients != 1)}; give one a client, or 'same', 'random' or 'latin'"
        )
    for client, order in enumerate(orders):
        if sorted(order) != list(range(tasks)):
            raise ConfigError(
                f"stages.order of client {client} is {list(order)}, which is no order of the {tasks} tasks; name each "
                f"of 0 to {tasks - 1} once"
            )


def staged(config: Experiment, found: data.Sources, deal: Callable[[data.Sources], Dealt]) -> Dealt:
    """Training set, test set and split of all tasks, with their task in a column.

    Args:
        config: with ``[stages]``.
        found: the data set, its test part and its public source.
        deal: splits one set among the clients.

    Raises:
        DataError: tasks that the data do not allow, or a client without images of one.
    """
    stages = config.stages
    if stages.classes is not None:
        groups = _groups(stages.classes, found.train)
        train, test = (data.by_class(each, groups) for each in (found.train, found.test))
        whole = data.TaskData(*deal(data.Sources(train, test, found.public)))
    else:
        parts = [data.TaskData(*deal(look)) for look in _looks(config, found)]
        whole = data.joined(parts, stages.heads)
    _check_rows(whole, stages.tasks)
    return whole.train, whole.test, whole.split


def _groups(asked: int | Sequence[Sequence[int]], train: data.ImageSet) -> list[list[int]]:
    if isinstance(asked, int):
        return data.class_groups(train.classes, asked)
    strangers = [label for group in asked for label in group if label >= train.classes]
    if strangers:
        raise DataError(
            f"stages.classes names class {strangers[0]}, but {train.name} has classes 0 to {train.classes - 1}"
        )
    return [list(group) for group in asked]


def _looks(config: Experiment, found: data.Sources) -> list[data.Sources]:
    """Training set, test set and public source of each task that is a transform, or a set of its own."""
    stages = config.stages
    if stages.datasets:
        folder = Path(config.data.dir) if config.data.dir else None
        others = [data.load_sources(name, folder) for name in stages.datasets[1:]]
        sets = [(found.train, found.test), *((each.train, each.test) for each in others)]
        return [
            data.Sources(data.brought_to(train, found.train), data.brought_to(test, found.train), found.public)
            for train, test in sets
        ]
    data.check_pictures(found.train)
    seed = derive_seed(config.seed, STAGES, 1)
    looks: list[Callable[[torch.Tensor], torch.Tensor]]
    if stages.rotations:
        looks = [lambda x, by=by: data.rotated(x, by) for by in stages.rotations]
    elif stages.permutations:
        looks = [lambda x: x, *(lambda x, k=k: data.permuted(x, seed + k) for k in range(1, stages.permutations))]
    else:
        looks = [lambda x, ends=ends: data.ranged(x, *ends) for ends in stages.ranges]

    def shown(images: data.ImageSet | None, look: Callable[[torch.Tensor], torch.Tensor]) -> Any:
        return None if images is None else dataclasses.replace(images, images=look(images.images))

    return [data.Sources(*(shown(each, look) for each in (found.train, found.test, found.public))) for look in looks]


def _check_rows(whole: data.TaskData, tasks: int) -> None:
    """Refuse tasks without images, and clients without images of a task.

    Raises:
        DataError: names them.
    """
    column = torch.from_numpy(whole.train.columns[data.TASK].copy())
    tested = torch.from_numpy(whole.test.columns[data.TASK].copy())
    for task in range(tasks):
        for part, rows in (("training", column), ("test", tested)):
            if not bool((rows == task).any()):
                raise DataError(
                    f"stages: task {task} has no {part} images in {whole.train.name}; give it other classes"
                )
        for client, held in enumerate(whole.split.clients):
            if not bool((column[held.train] == task).any()):
                raise DataError(
                    f"stages: client {client} has no training images of task {task}; give clients more data, or "
                    "partition 'iid'"
                )


def stages_of(config: Experiment, classes: int) -> Stages | None:
    """The stages of an experiment whose network has so many outputs; None without."""
    calendar = calendar_of(config)
    if calendar is None:
        return None
    stages = config.stages
    if stages.heads == "one":
        return Stages(calendar, None)
    return Stages(calendar, outputs_of_tasks(stages, classes))


def outputs_of_tasks(stages: StagesConfig, classes: int) -> tuple[tuple[int, ...], ...]:
    """By task the outputs of its head."""
    if isinstance(stages.classes, int):
        return tuple(map(tuple, data.class_groups(classes, stages.classes)))
    if stages.classes is not None:
        return tuple(map(tuple, stages.classes))
    if stages.datasets:
        sizes = [data.dataset_info(name).classes for name in stages.datasets]
    else:
        sizes = [classes // stages.tasks] * stages.tasks
    ends = [sum(sizes[:task]) for task in range(len(sizes) + 1)]
    return tuple(tuple(range(a, b)) for a, b in zip(ends, ends[1:], strict=False))


def adapters_of(config: Experiment, classes: int) -> AdapterConfig:
    """The adapters of a network of so many outputs, with the tasks of ``[stages]`` and the outputs of their heads."""
    given = config.network.adapters
    stages = config.stages
    tasks = given.tasks or (stages.tasks if stages.on else 1)
    outputs = given.outputs
    if outputs is None and stages.on and stages.heads == "task":
        outputs = [list(own) for own in outputs_of_tasks(stages, classes)]
    return given.model_copy(update={"tasks": tasks, "outputs": outputs})


def evaluation(
    net: nn.Module,
    test: data.ImageSet,
    stages: Stages,
    outputs: Callable[[nn.Module, torch.Tensor, int], torch.Tensor],
) -> Evaluation:
    """A network on the test images of every task; accuracy is over all of them, of known tasks where heads differ.

    Args:
        net: any; one with parts for the tasks uses those of each.
        test: with column `spikefed.data.TASK`.
        stages: of the run.
        outputs: ``(network, images, task) -> [N, C, T]``.
    """
    tasks = torch.from_numpy(test.columns[data.TASK].copy())
    parts: list[Evaluation] = []
    pairs: list[tuple[float | None, float | None]] = []
    counts: list[int] = []
    for task in range(stages.calendar.tasks):
        rows = torch.nonzero(tasks == task).flatten()
        networks.select_task(net, task)
        values = outputs(net, test.images[rows], task)
        labels = test.labels[rows]
        own = stages.own(task)
        open_ = judged(values, labels)
        known = open_ if own is None else judged(values, labels, own)
        parts.append(known)
        parted = networks.tasks_of(net) > 1  # whose parts the task chooses: it has to be known
        pairs.append((None if own is None and not parted else known.accuracy, None if parted else open_.accuracy))
        counts.append(len(rows))
    shares = [count / sum(counts) for count in counts]
    mean = mean_evaluation(parts)
    return dataclasses.replace(
        mean,
        accuracy=sum(share * part.accuracy for share, part in zip(shares, parts, strict=True)),
        loss=sum(share * part.loss for share, part in zip(shares, parts, strict=True)),
        tasks=tuple(pairs),
    )


def line_of(stages: Stages | None, round: int, found: Evaluation) -> dict[str, Any]:
    """What a round's metrics say of its stage; nothing in a run without."""
    if stages is None:
        return {}
    known, unknown = ([pair[side] for pair in found.tasks] for side in (0, 1))
    return {"stage": stages.calendar.stage(round), "task_accuracy": {"known": known, "unknown": unknown}}


def told(stages: Stages | None, lines: Sequence[dict[str, Any]], start: Evaluation | None) -> dict[str, Any]:
    """What the result says of a run of stages.

    Args:
        stages: of the run, None: there are none.
        lines: the metrics.
        start: the network that the run began with, on the test images of every task.

    Returns:
        key ``stages``: orders, bytes a stage, and for task ``known`` and ``unknown`` the accuracy matrix with its
        measures (`spikefed.federated.continual`), fractions in [0, 1].
    """
    if stages is None or start is None:
        return {}
    calendar = stages.calendar
    ends = [line for line in lines if calendar.ends(line["round"])]
    learned = [calendar.present(stage) for stage in range(len(ends))]
    found: dict[str, Any] = {
        "tasks": calendar.tasks,
        "rounds": calendar.rounds,
        "orders": [list(order) for order in calendar.orders],
    }
    for way in ("upstream_bytes", "downstream_bytes"):
        found[way] = [sum(x[way] for x in lines if x["stage"] == s) for s in range(len(ends))]
    for side, key in enumerate(("known", "unknown")):
        matrix = [line["task_accuracy"][key] for line in ends]
        begin: list[Any] = [pair[side] for pair in start.tasks]
        if matrix and None not in begin and all(None not in row for row in matrix):
            found[key] = {
                "matrix": matrix,
                "start": begin,
                "average_accuracy": continual.average_accuracy(matrix, learned),
                "last_accuracy": continual.last_accuracy(matrix),
                "forgetting": continual.forgetting(matrix, learned),
                "forward_transfer": continual.forward_transfer(matrix, begin, learned),
            }
    return {"stages": found}
