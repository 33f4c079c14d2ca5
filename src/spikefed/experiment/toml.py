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
    return repr(value)


def dump(tree: Mapping[str, Any], prefix: str = "") -> str:
    """Nested tables as TOML; None values are left out (TOML has none: absent means default)."""
    lines = [f"{key} = {_value(v)}" for key, v in tree.items() if v is not None and not isinstance(v, Mapping)]
    text = "\n".join(lines) + ("\n" if lines else "")
    for key, table in tree.items():
        if isinstance(table, Mapping):
            name = f"{prefix}{key}"
            text += f"\n[{name}]\n{dump(table, f'{name}.')}"
    return text
