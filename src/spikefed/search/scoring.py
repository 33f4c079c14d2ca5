"""Scoring cells: one process or several, each with its own memory; the figures of a cell do not depend on it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from time import process_time
from typing import Any

import torch
from torch import Tensor

from spikefed import native
from spikefed.networks.cells import Cell
from spikefed.search.candidate import Macro, answers, saliency, size_of
from spikefed.search.scores import SCORES
from spikefed.search.shared import Memory
from spikefed.search.space import Limits

MEMORY_BYTES = 512 << 20
"""Of remembered results, for each process."""

Record = dict[str, Any]
"""A scored cell: ``cell``, its ``network`` name, its figures, ``over`` (the limit that it breaks, or None), processor
``seconds``."""


@dataclass(frozen=True)
class Task:
    """What every scoring process has to know.

    Attributes:
        macro: the network around the cells.
        seed: of the weights.
        shown: for each viewer (a server, or each client) batches of preprocessed images ``[B, C, H, W]``.
        limits: cells beyond them are not shown any image.
        gradients: scores that need gradients are measured too.
    """

    macro: Macro
    seed: int
    shown: tuple[tuple[Tensor, ...], ...]
    limits: Limits
    gradients: bool = False


class Scorer:
    """Scores cells one after another, with what neighbours share computed once."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._memory = Memory(MEMORY_BYTES)
        self._batches = [batch for batches in task.shown for batch in batches]

    def score(self, cell: Cell) -> Record:
        """Everything that can be told of a cell without training it."""
        task = self._task
        started = process_time()
        net = task.macro.network(cell, task.seed)
        size = size_of(net)
        figures: dict[str, float] = asdict(size)
        record: Record = {"cell": str(cell), "network": task.macro.name(cell), **figures}
        over = task.limits.exceeded(figures)
        if over is None:
            if task.gradients:  # before the network is watched
                each = iter(saliency(net, self._batches, task.seed))
                means = [sum(islice(each, len(batches))) / len(batches) for batches in task.shown]
                record |= _told("snip", means)
            shown = iter(answers(net, cell, self._batches, self._memory))
            viewers = [list(islice(shown, len(batches))) for batches in task.shown]
            for name, score in SCORES.items():
                if score.looks:
                    record |= _told(name, [score.of(size, of_one) for of_one in viewers])
            over = task.limits.exceeded(record)
        return {**record, "over": over, "seconds": round(process_time() - started, 6)}


def _told(name: str, by_viewer: list[float]) -> Record:
    """A figure as a record has it: its mean over viewers, and where there are several each one's."""
    mean = {name: sum(by_viewer) / len(by_viewer)}
    return mean | ({f"{name}_by_client": by_viewer} if len(by_viewer) > 1 else {})


@contextmanager
def scoring(task: Task, workers: int) -> Iterator[Any]:
    """Gives a function from cells to records, in their order.

    Args:
        workers: processes; with 1 the cells are scored in this one. All compute with one thread, so that the figures
            are the same for any number.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if workers <= 1:
            scorer = Scorer(task)
            yield lambda cells: [scorer.score(cell) for cell in cells]
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(task,)) as pool:
            yield lambda cells: _spread(pool, cells, workers)
    finally:
        torch.set_num_threads(threads)


def _spread(pool: ProcessPoolExecutor, cells: Sequence[Cell], workers: int) -> list[Record]:
    """Neighbours stay together: they share their beginnings."""
    size = max(1, -(-len(cells) // workers))
    parts = [[str(cell) for cell in cells[at : at + size]] for at in range(0, len(cells), size)]
    return [record for part in pool.map(_score, parts) for record in part]


_scorer: Scorer | None = None


def _begin(task: Task) -> None:
    global _scorer  # noqa: PLW0603 - one for each process
    torch.set_num_threads(1)
    native.keep_memory()  # a process of our own
    _scorer = Scorer(task)


def _score(cells: Sequence[str]) -> list[Record]:
    assert _scorer is not None
    return [_scorer.score(Cell.parse(cell)) for cell in cells]
