"""Where the seconds of a round went."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager


class Watch:
    """Wall seconds by phase; a phase entered again goes on, and one inside another counts for both.

    >>> watch = Watch()
    >>> with watch("wire"):
    ...     pass
    >>> watch["wire"] >= 0, watch["server"]
    (True, 0.0)
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Generator[None, None, None]:
        """Count the seconds of the block for a phase, also when it raises."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[phase] = self[phase] + time.perf_counter() - started

    def __getitem__(self, phase: str) -> float:
        """Seconds of a phase so far; 0 for one that never began."""
        return self._seconds.get(phase, 0.0)
