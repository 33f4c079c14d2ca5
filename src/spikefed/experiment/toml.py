"""Writing a config as TOML (the standard library reads TOML only)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(v)}" for key, v in value.items() if v is not None) + " }"
    return repr(value)


def dump(tree: Mapping[str, Any], prefix: str = "") -> str:
    """Nested tables as TOML; None values are left out (TOML has none: absent means default)."""
    plain = {key: v for key, v in tree.items() if v is not None and not isinstance(v, Mapping) and not _tables(v)}
    lines = [f"{key} = {_value(v)}" for key, v in plain.items()]
    text = "\n".join(lines) + ("\n" if lines else "")
    for key, table in tree.items():
        if isinstance(table, Mapping):
            name = f"{prefix}{key}"
            text += f"\n[{name}]\n{dump(table, f'{name}.')}"
        for one in table if _tables(table) else ():
            text += f"\n[[{prefix}{key}]]\n{dump(one, f'{prefix}{key}.')}"
    return text


def _tables(value: Any) -> bool:
    """Whether the value is a list of tables."""
    return isinstance(value, list) and bool(value) and all(isinstance(entry, Mapping) for entry in value)
