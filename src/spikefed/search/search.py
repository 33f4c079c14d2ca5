"""A search: strategy, scores, limits, a budget; every scored cell is handed on at once, so that nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from spikefed.errors import ConfigError
from spikefed.search.scores import Objective, dominated
from spikefed.search.scoring import Record, Task, scoring
from spikefed.search.space import Space
from spikefed.search.strategies import STRATEGIES, Values

RANKED = ("sahd", "macs", "+spikes")
"""What the score ``ensemble`` ranks by: none needs a gradient, and all have a part in how well cells train."""


@dataclass(frozen=True)
class Plan:
    """What a search does.

    Attributes:
        space: of cells.
        strategy: a name of `STRATEGIES`.
        objectives: what is good; the first decides which cell is best.
        cells: how many the strategy may ask for, repeats counted (a search that takes repeats as free never ends).
        seconds: processor seconds of scoring after which no more are asked for; None for no limit. A search with one
            depends on the machine's speed.
        seed: of the strategy.
    """

    space: Space
    strategy: str
    objectives: tuple[Objective, ...]
    cells: int
    seconds: float | None
    seed: int


Told = Callable[[Sequence[Record], int, int], None]
"""``(new records, asked so far, budget)``: called after every batch, to keep and to show them."""


def search(plan: Plan, task: Task, known: Iterable[Record], tell: Told, workers: int = 1) -> list[Record]:
    """Run a search, or go on with one: what ``known`` holds is not scored again and leads the same way.

    Args:
        known: records of an earlier, interrupted search of the same plan and task.
        tell: gets what is new.
        workers: processes that score.

    Returns:
        records of all cells that the strategy asked for, each once, in the order asked.

    Raises:
        ConfigError: no cell keeps within the limits; a strategy that has to know at once what is known at the end.
    """
    last = [o.score.name for o in plan.objectives if o.score.ranks]
    if last and STRATEGIES[plan.strategy].listens:
        raise ConfigError(
            f"score '{last[0]}' compares all cells of a search, and strategy '{plan.strategy}' has to know at once; "
            "set search.strategy = 'random' or 'exhaustive'"
        )
    strategy = STRATEGIES[plan.strategy](plan.space, plan.seed, len(plan.objectives))
    stored = {record["cell"]: record for record in known}
    found: dict[str, Record] = {}
    asked = 0
    used = 0.0
    with scoring(task, workers) as score:
        while asked < plan.cells and (plan.seconds is None or used < plan.seconds):
            cells = strategy.ask()
            if not cells:
                break
            cells = [cell.canonical for cell in cells]
            taken = cells[: plan.cells - asked]
            new = [cell for cell in dict.fromkeys(taken) if str(cell) not in stored]
            records = score(new) if new else []
            stored |= {record["cell"]: record for record in records}
            for cell in dict.fromkeys(str(cell) for cell in taken):
                if cell not in found:
                    found[cell] = stored[cell]
                    used += stored[cell]["seconds"]
            asked += len(taken)
            tell(records, asked, plan.cells)
            if len(taken) < len(cells):
                break
            if strategy.listens:
                strategy.tell(cells, [values_of(stored[str(cell)], plan.objectives) for cell in cells])
    kept = list(found.values())
    if kept and all(record["over"] is not None for record in kept):
        names = sorted({record["over"] for record in kept})
        raise ConfigError(
            f"none of {len(kept)} cells keeps within search.limits ({', '.join(names)}); raise the limit or make the "
            "network smaller (search.sizes)"
        )
    return with_ensemble(kept) if last else kept


def with_ensemble(found: Sequence[Record]) -> list[Record]:
    """The records of a search, those within the limits with their score ``ensemble``: the mean rank by `RANKED`."""
    ranks = mean_ranks(found, [Objective.parse(text) for text in RANKED])
    return [{**r, "ensemble": ranks[r["cell"]]} if r["over"] is None else r for r in found]


def values_of(record: Record, objectives: Sequence[Objective]) -> Values | None:
    """What a record says of the objectives, the more the better; None where a limit is broken."""
    if record["over"] is not None:
        return None
    return tuple(objective.sign * float(record[objective.score.name]) for objective in objectives)


def front(records: Sequence[Record], objectives: Sequence[Objective]) -> list[Record]:
    """Records that no other beats in every objective, the best of the first objective first.

    What clients scored is compared by its mean rank over clients (`mean_ranks`), all else by its value.
    """
    valid = [record for record in records if record["over"] is None]
    values = list(zip(*(_compared(valid, objective) for objective in objectives), strict=True))
    left = [(row, record) for row, record, out in zip(values, valid, dominated(values), strict=True) if not out]
    return [record for _, record in sorted(left, key=lambda each: (tuple(-v for v in each[0]), each[1]["cell"]))]


def _compared(valid: Sequence[Record], objective: Objective) -> list[float]:
    """One figure for every record, the more the better."""
    name = objective.score.name
    if any(f"{name}_by_client" in record for record in valid):
        ranks = mean_ranks(valid, [objective])
        return [ranks[record["cell"]] for record in valid]
    return [objective.sign * float(record[name]) for record in valid]


def mean_ranks(records: Sequence[Record], objectives: Sequence[Objective]) -> dict[str, float]:
    """Mean share of cells that each cell beats, over objectives and, where clients scored, over clients; in [0, 1].

    Ranks are what remains comparable where every client sees other images: scores of unlike data are not.
    """
    valid = [record for record in records if record["over"] is None]
    columns: list[list[float]] = []
    for objective in objectives:
        name = objective.score.name
        told = [record.get(f"{name}_by_client", [record[name]]) for record in valid]
        columns += [[objective.sign * row[client] for row in told] for client in range(len(told[0]))] if told else []
    total = [0.0] * len(valid)
    for column in columns:
        for at, rank in enumerate(_ranks(column)):
            total[at] += rank / len(columns)
    return {record["cell"]: value for record, value in zip(valid, total, strict=True)}


def _ranks(column: Sequence[float]) -> list[float]:
    """Share of the others that each value beats, half of its equals."""
    order = sorted(column)
    first: dict[float, int] = {}
    last: dict[float, int] = {}
    for at, value in enumerate(order):
        first.setdefault(value, at)
        last[value] = at
    return [(first[v] + last[v]) / 2 / max(len(column) - 1, 1) for v in column]
