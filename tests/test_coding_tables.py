"""scripts/coding.py and its sibling: their tables stand in docs/coding.md, and an interval is that of the seeds."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script() -> Any:
    sys.path.insert(0, str(TOP / "scripts"))
    try:
        spec = importlib.util.spec_from_file_location("coding_federated", TOP / "scripts" / "coding_federated.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.pop(0)


def test_the_page_has_what_the_script_makes_of_the_records(script):
    page = (TOP / "docs" / "coding.md").read_text()
    made = script.tables(TOP / "results" / "coding-federated")
    assert all(line in page for line in made.splitlines())


def test_the_page_has_the_attacks_on_cifar10_by_eps(script):
    page = (TOP / "docs" / "coding.md").read_text()
    parts = sys.modules["coding"].tables(TOP / "results" / "coding-cifar10").split("\n\n")
    attacked = [part for part in parts if part.startswith("| accuracy under")]
    assert len(attacked) == 2 and all(part in page for part in attacked)


def test_differences_are_by_seed_with_student_s_interval(script):
    assert script.less([0.9, 0.8], [0.7, 0.9]) == pytest.approx([0.2, -0.1])
    assert script.points([0.01, 0.02, 0.03]) == "+2.0 (-0.5 to +4.5)"  # 4.303 * 1 / sqrt(3)
    assert script.points([0.01]) == "+1.0"
