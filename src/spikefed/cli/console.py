"""What the commands print beside their results: errors, warnings, notes, on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

errors = Console(stderr=True, emoji=False)


def error(text: str) -> None:
    """One sentence on what stopped the command."""
    errors.print(f"[bold red]error:[/] {_plain(text)}", highlight=False, soft_wrap=True)


def warn(text: str) -> None:
    """One sentence on what the command went on without."""
    errors.print(f"[yellow]warning:[/] {_plain(text)}", highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """One sentence on what the command does."""
    errors.print(_plain(text), highlight=False, soft_wrap=True)


def note(quiet: bool) -> Callable[[str], None]:
    """`say`, or nothing when ``quiet``."""
    return (lambda text: None) if quiet else say


@contextmanager
def bar(what: str, quiet: bool, pulse_s: float = 60.0) -> Iterator[Callable[[int, int], None]]:
    """Gives a function ``(done, total)`` that shows how far something is; in a log a line a minute.

    Args:
        what: the things that are counted.
        quiet: show nothing.
        pulse_s: seconds between lines of a log.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if quiet:
        yield lambda done, total: None
        return
    if errors.is_terminal and not errors.is_dumb_terminal:
        columns = (MofNCompleteColumn(), TextColumn(what), BarColumn(bar_width=24), TimeRemainingColumn())
        with Progress(*columns, console=errors) as shown:
            task = shown.add_task("", total=None)
            yield lambda done, total: shown.update(task, completed=done, total=total)
        return
    spoke = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal spoke
        if time.monotonic() - spoke >= pulse_s:
            spoke = time.monotonic()
            say(f"{done} of {total} {what}")

    yield tell


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
