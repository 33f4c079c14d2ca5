"""Synthetic images of a run: kept and found again, thresholds from them, shown in the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import spikefed
from experiment.test_conversion import ANN
from spikefed.cli.main import whole
from spikefed.data import SynthesisPlan, SyntheticSet
from spikefed.errors import ConfigError
from spikefed.experiment.conversion import ConversionPlan, convert_run
from spikefed.experiment.synthesis import synthesise_run
from spikefed.report import write_report

PLAN = SynthesisPlan("statistics", images=30, steps=5)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spikefed.run(ANN, out=tmp_path_factory.mktemp("twin") / "ann")


def test_made_once_for_a_network_and_a_plan(run: Path) -> None:
    path, made = synthesise_run(run, PLAN)
    assert path == run / "synthetic.safetensors" and path.with_suffix(".png").is_file()
    told = made.provenance
    assert told["experiment"] == "ann" and told["round"] == 2 and len(told["network_sha256"]) == 64
    asked: list[int] = []
    synthesise_run(run, PLAN, tell=lambda done, total: asked.append(done))
    assert not asked
    path.write_bytes(path.read_bytes()[:100])  # killed while it wrote elsewhere
    synthesise_run(run, PLAN, tell=lambda done, total: asked.append(done))
    assert asked == [30] and SyntheticSet.load(path).provenance == told
    synthesise_run(run, SynthesisPlan("impressions", images=20, steps=2), out=run / "other.safetensors")
    assert len(SyntheticSet.load(run / "other.safetensors")) == 20


def test_thresholds_without_data(run: Path) -> None:
    synthesise_run(run, PLAN)
    said: list[str] = []
    done = convert_run(run, ConversionPlan(16, "synthetic", images=30), tell=said.append)
    assert done["images"] == 30 and "synthetic.safetensors" in said[0]
    fresh = convert_run(run, ConversionPlan(16, "synthetic", images=40), tell=said.append)
    assert fresh["images"] == 40 and said[-1].startswith("making 40 synthetic images")
    assert abs(done["snn_accuracy"] - done["ann_accuracy"]) < 0.2


def test_the_report_shows_the_sheet(run: Path, tmp_path: Path) -> None:
    synthesise_run(run, PLAN)
    page = write_report([run], tmp_path / "report.html").read_text()
    assert "<h3>Synthetic images</h3>" in page and "data:image/png;base64," in page


def test_the_command(run: Path, tmp_path: Path) -> None:
    arguments = ["synthesise", str(run / "model.safetensors"), "--images", "12", "--steps", "3", "-q"]
    out = tmp_path / "set.safetensors"
    done = CliRunner().invoke(whole(), [*arguments, "--out", str(out), "--json"])
    assert done.exit_code == 0 and sum(json.loads(done.stdout)["of_each_class"]) == 12 and out.is_file()
    shown = CliRunner().invoke(whole(), [*arguments, "--out", str(out)])
    assert "12 images" in shown.stdout
    assert isinstance(CliRunner().invoke(whole(), [*arguments, "--kind", "gan"]).exception, ConfigError)
    beside = CliRunner().invoke(whole(), arguments)
    assert beside.exit_code == 0 and (run / "model.synthetic.safetensors").is_file()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("", "is a folder; name a file in it"),
        ("sheet.png", "where the sheet of pictures goes"),
        ("file/under.safetensors", "cannot be written"),
    ],
)
def test_places_where_nothing_can_be_written(run: Path, tmp_path: Path, place: str, said: str) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigError, match=said):
        synthesise_run(run, SynthesisPlan("impressions", images=2, steps=1), out=tmp_path / place)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
