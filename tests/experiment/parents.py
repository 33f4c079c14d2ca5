"""A trained network to adapt, made once for all tests that need one."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import spikefed


@cache
def parent(name: str, steps: int) -> str:
    """Run folder of a network for digits, as it was drawn."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tables = {
        "name": "parent",
        "rounds": 1,
        "data": {"clients": 2, "private_per_client": 20, "public": 20, "test_limit": 30},
        "network": {"name": name, "steps": steps},
        "training": {"local_epochs": 0},
        "method": {"name": "fedavg"},
        "run": {"threads": 1},
    }
    return str(spikefed.run(tables, out=Path(folder) / "run"))


def adapted(name: str, steps: int = 4) -> dict[str, Any]:
    """A table ``[network]`` with adapters in such a network."""
    return {"name": name, "steps": steps, "start": parent(name, steps), "adapters": {"kinds": ["thresholds", "head"]}}
