"""What docs/results.md says of the smartwatches is what the JSONs beside it hold."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("watch")


def test_the_section_is_made_from_the_files(watch: ModuleType) -> None:
    page = watch.PAGE.read_text(encoding="utf-8")
    assert page.split(watch.BEGIN)[1].split(watch.END)[0].strip() == watch.section().strip()
    assert len(list(watch.FOLDER.glob("*-seed*.json"))) == 15


def test_the_ridge_finds_what_means_and_spreads_tell_apart(watch: ModuleType) -> None:
    draw = np.random.default_rng(0)
    people = np.repeat(np.arange(4), 60)
    labels = np.tile(np.arange(3), 80)
    series = draw.normal(size=(240, 20, 2, 1, 1)) * (1 + labels[:, None, None, None, None])
    found = watch.fitted(watch.features(series), labels, people < 3, people == 3, people)
    guessed = watch.fitted(watch.features(series), draw.permutation(labels), people < 3, people == 3, people)
    assert found > 0.9 and guessed < 0.6
