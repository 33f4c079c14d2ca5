"""A small federation on a supernet, for tests of `dc-nas`."""

from __future__ import annotations

from typing import Any

NETWORK = {"name": "supernet:123-134-133:width=6", "steps": 3}
SEARCH = {"name": "dc-nas", "search_rounds": 2, "limit": 0.6}


def config(method: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Tables of an experiment of seconds: three clients, four rounds, two of which search."""
    return {
        "name": "tiny",
        "rounds": 4,
        "data": {"clients": 3, "private_per_client": 40, "public": 40, "test_limit": 40},
        "network": NETWORK,
        "training": {"local_epochs": 1, "local_batch": 16},
        "method": {**SEARCH, **(method or {})},
        "run": {"threads": 1},
        **changes,
    }
