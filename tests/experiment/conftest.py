"""A whole experiment that runs in a fraction of a second."""

from __future__ import annotations

from typing import Any

import pytest

TINY: dict[str, Any] = {
    "name": "tiny",
    "rounds": 3,
    "data": {"clients": 2, "private_per_client": 40, "public": 24, "test_limit": 60},
    "network": {"name": "4C3-AP2", "steps": 4},
    "training": {"local_epochs": 1, "local_batch": 16},
    "method": {"name": "fsd", "distil_epochs": 1, "server_epochs": 1, "distil_batch": 8, "client_reset": "never"},
    "run": {"threads": 1, "targets": [0.1, 0.99]},
}


@pytest.fixture
def tiny() -> dict[str, Any]:
    return {key: dict(value) if isinstance(value, dict) else value for key, value in TINY.items()}
