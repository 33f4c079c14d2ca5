"""What README and docs promise: the demo's accuracy, and the method and the probe of the guides as printed."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import spikefed
from spikefed.errors import ConfigError
from spikefed.experiment import RunFolder, probe_run

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_demo_reaches_92_percent(tmp_path: Path) -> None:
    path = spikefed.run(ROOT / "experiments" / "fsd-digits.toml", out=tmp_path / "run")
    assert json.loads((path / "result.json").read_text())["accuracy"] >= 0.92


def test_the_documented_method_runs_as_printed(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "adding-a-method.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    (tmp_path / "mymethods.py").write_text(code[1])
    monkeypatch.syspath_prepend(str(tmp_path))
    tiny["data"]["clients"] = 3
    tiny["method"] = {**tiny["method"], "name": "mymethods:MedianVote"}
    tiny["run"]["record_streams"] = True
    folder = RunFolder(spikefed.run(tiny, out=tmp_path / "run"))
    assert len(folder.read_lines(folder.metrics)) == 3
    import numpy as np

    with np.load(folder.streams / "round-0001.npz") as arrays:
        up = np.stack([np.unpackbits(arrays[f"up_{c}"]) for c in range(3)])
        assert np.array_equal(np.unpackbits(arrays["down"]), (up.sum(axis=0) >= 2).astype(np.uint8))
    sys.modules.pop("mymethods")


def test_the_documented_pruning_runs_as_printed(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "weights-in-part.md").read_text(), re.DOTALL)[0]
    (tmp_path / "pruning.py").write_text(code.replace("ctx.round % 10", "ctx.round % 2"))
    monkeypatch.syspath_prepend(str(tmp_path))
    tiny["method"] = {"name": "pruning:Pruning"}
    tiny["rounds"] = 5
    folder = RunFolder(spikefed.run(tiny, out=tmp_path / "run"))
    left = [line["diagnostics"]["mask_density"] for line in folder.read_lines(folder.metrics)]
    assert left[0] == 1.0 and left == sorted(left, reverse=True) and 0.6 < left[-1] < 0.7
    sys.modules.pop("pruning")


def test_a_method_that_lacks_a_step_is_named(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "halfmethod.py").write_text("class Half:\n    name = 'half'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    tiny["method"] = {"name": "halfmethod:Half"}
    with pytest.raises(ConfigError, match="lacks hyperparameters, uplink_kind"):
        spikefed.run(tiny, out=tmp_path / "run")
    sys.modules.pop("halfmethod")


def test_the_documented_probe_runs_as_printed(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "adding-a-probe.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    (tmp_path / "myprobes.py").write_text(code[1])
    monkeypatch.syspath_prepend(str(tmp_path))
    tiny["probe"] = [{"name": "myprobes:Margin", "every": 2, "narrow": 0.2}]
    run = spikefed.run(tiny, out=tmp_path / "run")
    tree = json.loads((run / "probes" / "margin.json").read_text())
    assert [m["round"] for m in tree["measurements"]] == [2, 3] and tree["hyper"] == {"images": None, "narrow": 0.2}
    *classes, whole = tree["measurements"][-1]["records"]
    assert whole["images"] == sum(row["images"] for row in classes) == 60 and 0 <= whole["margin"] <= 1
    mean = sum(row["margin"] * row["images"] for row in classes) / 60
    assert whole["margin"] == pytest.approx(mean, abs=1e-5)
    few = probe_run(run, "myprobes:Margin", {"images": 10}, label="few")
    assert few["measurements"][0]["images"] == 10
    sys.modules.pop("myprobes")
