"""What a sequence of tasks did to a network: measures of the accuracy matrix.

A[s, t] is the accuracy on task t after stage s, both from 0. Lopez-Paz and Ranzato, "Gradient Episodic Memory", NeurIPS
2017 (forward transfer); Chaudhry et al., "Riemannian Walk", ECCV 2018 (forgetting).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

Matrix = Sequence[Sequence[float]]
"""A row a stage, a column a task; accuracies in [0, 1]."""


def last_accuracy(matrix: Matrix) -> float:
    """Mean over all tasks after the last stage."""
    return fmean(matrix[-1])


def average_accuracy(matrix: Matrix, learned: Sequence[Sequence[int]]) -> float:
    """Mean over the stages of the mean over the tasks learned by then ("average incremental accuracy").

    Args:
        matrix: A.
        learned: by stage, the tasks that somebody learned in it.
    """
    seen: set[int] = set()
    means: list[float] = []
    for row, tasks in zip(matrix, learned, strict=True):
        seen |= set(tasks)
        means.append(fmean(row[task] for task in sorted(seen)))
    return fmean(means)


def forgetting(matrix: Matrix, learned: Sequence[Sequence[int]]) -> float | None:
    """Mean over the tasks first learned before the last stage of max over s < S of A[s, t], minus A[S, t].

    The maximum is taken from the stage on in which the task was first learned. None after one stage, and where all
    tasks are new in the last: there is nothing yet that could be forgotten.

    Args:
        matrix: A.
        learned: by stage, the tasks that somebody learned in it.
    """
    first = first_learned(learned)
    last = len(matrix) - 1
    drops = [
        max(matrix[s][task] for s in range(stage, last)) - matrix[last][task]
        for task, stage in first.items()
        if stage < last
    ]
    return fmean(drops) if drops else None


def forward_transfer(matrix: Matrix, start: Sequence[float], learned: Sequence[Sequence[int]]) -> float | None:
    """Mean over the tasks first learned after the first stage of A[s - 1, t] - b[t], s the stage that first taught t.

    None where every task was there in the first stage.

    Args:
        matrix: A.
        start: b, accuracies of the network that the run began with.
        learned: by stage, the tasks that somebody learned in it.
    """
    gains = [matrix[stage - 1][task] - start[task] for task, stage in first_learned(learned).items() if stage]
    return fmean(gains) if gains else None


def first_learned(learned: Sequence[Sequence[int]]) -> dict[int, int]:
    """The stage in which each task was first learned."""
    found: dict[int, int] = {}
    for stage, tasks in enumerate(learned):
        for task in tasks:
            found.setdefault(task, stage)
    return found
