"""READMEs of the folders name what is there; decisions and glossary are where the pages say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import spikefed

SOURCES = Path(spikefed.__file__).parent
DOCS = Path(__file__).parents[1] / "docs"
FOLDERS = sorted(path.parent for path in SOURCES.glob("*/__init__.py"))


def _line(folder: Path, title: str) -> list[str]:
    """What stands in backticks on one line of a folder's README."""
    text = (folder / "README.md").read_text()
    found = re.search(rf"^\*\*{title}:\*\* (.*)$", text, re.MULTILINE)
    assert found is not None, f"{folder.name} has no line '{title}'"
    return re.findall(r"`([^`]+)`", found[1])


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_readme_names_what_is_there(folder: Path) -> None:
    code = "\n".join(path.read_text() for path in folder.rglob("*.py"))
    for name in _line(folder, "Public names"):
        if name != "__init__.py":
            assert re.search(rf"^(class|def) {name}\b|^{name}\b.*=", code, re.MULTILINE), f"{folder.name}: {name}"
    for name in _line(folder, "Read in this order"):
        assert (folder / name).exists(), f"{folder.name}: {name}"


def test_every_decision_is_listed() -> None:
    folder = DOCS / "decisions"
    records = {path.name for path in folder.glob("0*.md")}
    assert set(re.findall(r"\]\(([^)]+)\)", (folder / "README.md").read_text())) == records
    for name in records:
        text = (folder / name).read_text()
        assert all(f"**{part}.**" in text for part in ("Situation", "Choice", "Price")), name


def test_a_word_stands_once() -> None:
    words = re.findall(r"^\| ([^|]+) \|", (DOCS / "glossary.md").read_text(), re.MULTILINE)[2:]
    assert words == sorted(words) and len(words) == len(set(words)) > 30
