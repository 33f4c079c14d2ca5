"""PrivateSNN whole: one file, one folder, gone on with where it was killed; bad files are one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import spikefed
from experiment.test_conversion import ANN
from spikefed.cli.main import whole
from spikefed.errors import ConfigError
from spikefed.experiment import toml
from spikefed.experiment.privatesnn import PrivateFolder, read_private, run_private

PRIVATE = {"steps": 2, "images": 30, "synthesis_steps": 4, "calibration": 20, "epochs": 2, "attacked": 10, "lr": 5e-3}


def written(folder: Path, **tables: Any) -> Path:
    path = folder / "file.toml"
    path.write_text(toml.dump({**ANN, "rounds": 1, "privatesnn": PRIVATE, **tables}))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> PrivateFolder:
    place = tmp_path_factory.mktemp("private")
    return PrivateFolder(run_private(written(place), out=place / "out"))


def test_it_says_what_came_out(made: PrivateFolder) -> None:
    found = json.loads(made.result.read_text())
    assert found["what"].startswith("obfuscation") and found["steps"] == 2
    for key in ("ann_accuracy", "converted_accuracy", "accuracy", "ann_view_accuracy", "judge_accuracy"):
        assert 0 <= found[key] <= 1
    assert {row["tensor"] for row in found["weights"]} >= {"conv1.weight", "fc2.bias"}
    assert all(0.5 < row["cosine"] <= 1 + 1e-9 for row in found["weights"] if row["tensor"].endswith("weight"))
    assert any(row["change_share"] > 1e-4 for row in found["weights"])
    assert [row["through"] for row in found["attacks"]][0] == "ann" and len(found["attacks"]) == 4
    assert all(0 <= row["hit_share"] <= 1 and (made.path / row["sheet"]).is_file() for row in found["attacks"])


def test_what_is_left_is_a_model_like_any_other(made: PrivateFolder) -> None:
    model = spikefed.load_model(made.model)
    assert model.steps == 2 and model.facts.extra["retrained"]["epochs"] == 2
    assert model.facts.extra["converted"]["calibrate"] == "synthetic"


def test_a_killed_one_goes_on_and_ends_alike(made: PrivateFolder, tmp_path: Path) -> None:
    place = tmp_path / "out"
    file = written(tmp_path)
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_private(file, out=place, tell=lambda text: _kill(text, "training the spiking"))
    assert not (place / "private.json").exists() and (place / "converted.safetensors").is_file()
    run_private(file, out=place, tell=said.append)
    assert "training the ANN of seed 0" not in said and not any("converting" in text for text in said)
    assert (place / "model.safetensors").read_bytes() == made.model.read_bytes()
    assert json.loads((place / "private.json").read_text()) == json.loads(made.result.read_text())
    run_private(file, out=place, tell=said.append)
    assert said[-1].endswith("finished already")
    with pytest.raises(ConfigError, match="other settings"):
        run_private(file, overrides=["privatesnn.steps=3"], out=place)


def _kill(text: str, at: str) -> None:
    if text.startswith(at):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"privatesnn": {"step": 2}}, "nearest known key is 'privatesnn.steps'"),
        ({"privatesnn": {"steps": 0}}, "'privatesnn.steps' = 0"),
        ({"privatesnn": 3}, "must be a table"),
        ({"network": {"name": "6C3-AP2-16FC"}}, "set network.twin = 'ann'"),
        ({"network": {"name": "6C3-AP2-16FC", "twin": "ann", "pooling": "max"}}, "'average' or 'stride'"),
        ({"network": {"name": "6C3-16FC", "twin": "ann", "norm": "none"}}, "no batch norm"),
    ],
)
def test_files_that_cannot_be_done(tables: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        run_private(written(tmp_path, **tables), out=tmp_path / "out")
    assert not (tmp_path / "out" / "ann").exists()


def test_a_file_without_the_table(tmp_path: Path) -> None:
    path = tmp_path / "plain.toml"
    path.write_text(toml.dump(ANN))
    with pytest.raises(ConfigError, match=r"no table \[privatesnn\]"):
        read_private(path)


def test_the_command_and_its_page(made: PrivateFolder) -> None:
    arguments = ["privatesnn", str(made.path.parent / "file.toml"), "--out", str(made.path)]
    done = CliRunner().invoke(whole(), arguments)
    assert done.exit_code == 0 and "obfuscation, not encryption" in done.stdout
    page = (made.path / "private.html").read_text()
    assert page.count("data:image/png;base64,") == 5 and "encryption" in page
    told = CliRunner().invoke(whole(), [*arguments, "-q", "--json"])
    assert json.loads(told.stdout)["what"].startswith("obfuscation")


@pytest.mark.parametrize("name", ["digits", "fashion-mnist"])
def test_files_that_come_with_it(name: str) -> None:
    path = Path(__file__).parents[2] / "experiments" / "private" / f"{name}.toml"
    if not path.is_file():
        pytest.skip("no checkout")
    assert read_private(path).config.data.dataset == name
