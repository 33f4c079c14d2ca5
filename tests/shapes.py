"""What the shape hook of `conftest.py` checks: annotations that state a shape, and nothing else.

Tests hand functions what they must refuse in a sentence of their own (an unknown word, a negative number); a checker of
every type would refuse it before them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from beartype import beartype

_SHAPED = re.compile(r"\b(Float|Int|UInt|Bool|Num|Shaped|Integer|Inexact)\d*\[")


def shaped_only(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its annotations of shapes checked by beartype."""
    notes = getattr(function, "__annotations__", {})
    function.__annotations__ = {name: note if _SHAPED.search(_text(note)) else Any for name, note in notes.items()}
    return beartype(function)


def _text(note: Any) -> str:
    return note if isinstance(note, str) else repr(note)
