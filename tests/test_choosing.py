"""docs/choosing.md holds the tables that its script makes of results/, and answers eleven questions."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def script() -> Any:
    found = importlib.util.spec_from_file_location("choosing", ROOT / "scripts" / "choosing.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_every_table_is_what_its_script_makes() -> None:
    page = (ROOT / "docs" / "choosing.md").read_text(encoding="utf-8")
    assert script().filled(page) == page
    assert [line.split(".")[0] for line in page.splitlines() if line.startswith("## ")] == [
        f"## {number}" for number in range(1, 12)
    ]
