"""Who learns which task when: stages of some rounds, each client in its own order."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Calendar:
    """The stages of a run.

    >>> calendar = Calendar(((0, 1), (1, 0)), rounds=3)
    >>> calendar.stage(4), calendar.task(client=1, round=4), calendar.ends(6)
    (1, 0, True)

    Attributes:
        orders: by client, its tasks in the order of the stages.
        rounds: of a stage.
    """

    orders: tuple[tuple[int, ...], ...]
    rounds: int

    @property
    def tasks(self) -> int:
        """K, as many as stages."""
        return len(self.orders[0])

    def stage(self, round: int) -> int:
        """Stage of a 1-based round, from 0; round 0 counts to the first."""
        return min(max(round - 1, 0) // self.rounds, self.tasks - 1)

    def task(self, client: int, round: int) -> int:
        """What a client learns in a round."""
        return self.orders[client][self.stage(round)]

    def ends(self, round: int) -> bool:
        """Whether a round is the last of its stage."""
        return round > 0 and round % self.rounds == 0

    def present(self, stage: int) -> list[int]:
        """The tasks that somebody learns in a stage."""
        return sorted({order[stage] for order in self.orders})
