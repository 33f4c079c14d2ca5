"""A short soak in CI; `benchmarks/soak.py --rounds 200` is the long one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_rounds_with_random_kills_lose_nothing_and_leak_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "soak.py"), "--rounds", "14", "--every", "3", "--seed", "1"]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, timeout=3500)
    (path,) = tmp_path.glob("soak-*.json")
    found = json.loads(path.read_text())
    assert done.returncode == 0, found
    assert found["rounds_in_order"] and found["differs_from_one_process"] == [] and found["dropped"] == 0
    assert sum(found["kills"].values()) >= 3
