"""`spikefed search` as a user types it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import typer

from spikefed.cli import app
from spikefed.experiment.search import LimitsTable, SearchTable

ROOT = Path(__file__).parents[2]


def spikefed(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spikefed", "search", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def test_the_shipped_file_runs_and_says_how_to_go_on(tmp_path: Path) -> None:
    given = (ROOT / "experiments" / "search" / "digits.toml", "--set", "search.cells=32", "--set", "search.images=8")
    told = spikefed(*given, "--out", tmp_path / "out")
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert lines[-1] == str((tmp_path / "out" / "search.html").resolve())
    assert any(line.startswith('to train it: network.name = "cell:') for line in lines)
    again = spikefed(*given, "--out", tmp_path / "out", "--json")
    found = json.loads(again.stdout)
    assert f'"{found["best"]}"' in told.stdout and found["front"]


def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    told = spikefed(ROOT / "experiments" / "fsd-digits.toml", "--out", tmp_path / "out")
    assert told.returncode == 2 and "has no table [search]" in told.stderr
    assert not (tmp_path / "out").exists()


def test_every_key_is_on_the_page() -> None:
    page = (ROOT / "docs" / "search.md").read_text()
    for model in (SearchTable, LimitsTable):
        assert [key for key in model.model_fields if key not in page] == []


def test_no_help_loses_a_word_in_brackets() -> None:
    """Rich takes [word] in a help text for a style and leaves it out."""
    commands = list(typer.main.get_group(app).commands.items())
    for name, command in commands:
        told = [command.help or "", *(getattr(param, "help", None) or "" for param in command.params)]
        assert not [text for text in told if re.search(r"(?<!\\)\[[a-z]", text)], name
    assert len(commands) > 10
