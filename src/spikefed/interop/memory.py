"""Places in one block of memory for values that live for a while: what is not alive at once may lie in one place."""

from __future__ import annotations


class Arena:
    """Gives out places first-fit.

    >>> arena = Arena()
    >>> arena.take(10, 0, 1), arena.take(4, 1, 2), arena.take(8, 2, 3), arena.size
    (0, 10, 0, 14)
    """

    def __init__(self) -> None:
        self._taken: list[tuple[int, int, int]] = []  # place, size, last moment
        self.size = 0

    def take(self, size: int, first: int, last: int) -> int:
        """A place for ``size`` numbers that are written at moment ``first`` and last read at ``last``.

        Moments never go back from call to call.
        """
        alive = sorted((at, length) for at, length, until in self._taken if until >= first)
        place = 0
        for at, length in alive:
            if place + size <= at:
                break
            place = max(place, at + length)
        self._taken.append((place, size, last))
        self.size = max(self.size, place + size)
        return place
