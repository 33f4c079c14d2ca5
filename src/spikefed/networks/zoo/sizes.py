"""Sizes behind the name of a network that spells its own design: ``cell:ROWS:width=32,hidden=256``."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar, cast

from spikefed.errors import ConfigError

Sizes = TypeVar("Sizes")


def read_sizes(kind: type[Sizes], text: str, name: str) -> Sizes:
    """A dataclass of whole numbers, and of floats where a field says so, from ``key=value`` joined by commas.

    Args:
        kind: the dataclass; what the text leaves out keeps its default.
        text: what stands behind the design.
        name: the whole of ``network.name``, for errors.

    Raises:
        ConfigError: an unknown key, one that stands twice, or a value of another kind.
    """
    known = {field.name: float if field.type == "float" else int for field in fields(cast(Any, kind))}
    given: dict[str, int | float] = {}
    for part in filter(None, text.split(",")):
        key, _, value = part.partition("=")
        if key not in known:
            raise ConfigError(f"'{key}' in network.name '{name}' is not known; use {', '.join(known)}")
        if key in given:
            raise ConfigError(f"'{key}' stands twice in network.name '{name}'; give it once")
        try:
            given[key] = known[key](value)
        except ValueError:
            wanted = "a number" if known[key] is float else "a whole number"
            raise ConfigError(f"'{part}' in network.name '{name}' needs {wanted}, as in {key}=2") from None
    return kind(**cast(Any, given))
