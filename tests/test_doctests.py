"""Every example in a docstring runs."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
import torch

import spikefed

ROOT = Path(spikefed.__file__).parent
NEEDS_A_GPU = {"training/graphs.py"}
EXAMPLES = sorted(
    str(path.relative_to(ROOT))
    for path in ROOT.rglob("*.py")
    if ">>> " in path.read_text() and str(path.relative_to(ROOT)) not in NEEDS_A_GPU
)


@pytest.mark.parametrize("file", EXAMPLES)
def test_examples_run(file: str) -> None:
    module = importlib.import_module("spikefed." + file.removesuffix(".py").replace("/", ".").removesuffix(".__init__"))
    torch.manual_seed(0)
    outcome = doctest.testmod(module)
    assert outcome.attempted
    assert not outcome.failed


def test_examples_are_found() -> None:
    assert len(EXAMPLES) > 10
