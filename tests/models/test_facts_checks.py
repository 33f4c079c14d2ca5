"""Facts of a model file that contradict each other are one sentence, whatever is asked of the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from spikefed.errors import CheckpointError
from spikefed.models import ModelFacts
from spikefed.models.file import model_file, read_model
from spikefed.networks import build

FACTS: dict[str, Any] = {
    "format": 2,
    "network": {"name": "small", "steps": 2},
    "input_shape": [1, 8, 8],
    "classes": 3,
    "pixels": {"mode": "standard", "mean": [4.0], "std": [2.0]},
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"class_names": ["a", "b"]}, "2 class names for 3 classes"),
        ({"pixels": {"mode": "zzz", "mean": [], "std": []}}, "pixels of mode 'zzz'"),
        ({"pixels": {"mode": "standard", "mean": [1, 2, 3], "std": [1, 2, 3]}}, "3 means and 3 deviations for 1 ch"),
        ({"pixels": {"mode": "standard", "mean": [1.0], "std": []}}, "1 means and 0 deviations"),
        ({"values": "smells"}, "images of 'smells'"),
        ({"pixels": {"mode": "standard", "mean": [1.0], "std": [0.0]}}, "deviations \\[0.0\\] that no pixels have"),
        ({"pixels": {"mode": "standard", "mean": "a", "std": [1.0]}}, "cannot be read \\(ValueError"),
        ({"seed": "x"}, "says seed = 'x'"),
        ({"seed": -1}, "says seed = -1"),
        ({"round": None}, "says round = None"),
        ({"round": 1.5}, "says round = 1.5"),
        ({"timed": "no"}, "says timed = 'no'"),
        ({"resample": "zork"}, "says resample = 'zork'"),
        ({"logit_scale": float("nan")}, "says logit_scale = nan"),
        ({"batch_statistics": "x"}, "says batch_statistics = 'x'"),
        ({"class_names": "abc"}, "says class_names = 'abc'"),
    ],
)
def test_facts_that_contradict_each_other(change: dict[str, Any], said: str) -> None:
    assert ModelFacts.from_dict(FACTS, "x").classes == 3
    with pytest.raises(CheckpointError, match=said):
        ModelFacts.from_dict(FACTS | change, "x")


def test_tensors_that_are_no_numbers(tmp_path: Path) -> None:
    net = build("small", input_shape=(1, 8, 8), classes=3, steps=2)
    with torch.no_grad():
        next(net.parameters())[0] = float("nan")
    path = tmp_path / "model.safetensors"
    path.write_bytes(model_file(net, ModelFacts.from_dict(FACTS, "x")))
    with pytest.raises(CheckpointError, match="holds values that are no numbers"):
        read_model(path)


def test_whose_own_network_it_is_comes_back_and_has_to_be_a_number() -> None:
    facts = ModelFacts({"name": "small"}, (1, 8, 8), 10, client=3)
    assert ModelFacts.from_dict(facts.to_dict(), "file") == facts
    assert "client" not in replace(facts, client=None).to_dict()
    with pytest.raises(CheckpointError, match="says client = 'me'"):
        ModelFacts.from_dict({**facts.to_dict(), "client": "me"}, "file")
