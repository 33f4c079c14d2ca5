"""docs/figures.md holds the table of slow links that its script makes of results/."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "scripts").is_dir(), reason="no checkout")


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("slow_links")


def test_the_table_is_made_from_the_files(links: ModuleType) -> None:
    page = links.PAGE.read_text(encoding="utf-8")
    section = links.section(links.FOLDER)
    assert page.split(links.BEGIN)[1].split(links.END)[0].strip() == section.strip()
    assert len(section.splitlines()) == 2 + len(links.TARGETS) * len(links.LABELS)
