"""What the commands print beside their results: errors, warnings, notes, on standard error."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console

errors = Console(stderr=True)


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


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
