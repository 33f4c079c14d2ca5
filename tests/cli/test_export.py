"""``spikefed export``: files beside the run or where one wants them, and its errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cli.test_predict import TINY
from tests.interop.nets import module_of
from typer.testing import CliRunner

import spikefed
from spikefed import data
from spikefed.cli.main import whole
from spikefed.errors import SpikefedError
from spikefed.experiment import run
from spikefed.models import export

TEST = data.limited(data.load("digits", "test"), 60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(TINY, out=tmp_path_factory.mktemp("export") / "run")


def invoke(*arguments: Any) -> Any:
    return CliRunner().invoke(whole(), ["export", *map(str, arguments)], catch_exceptions=True)


def test_a_run_leaves_as_a_torch_script(folder: Path, tmp_path: Path) -> None:
    told = invoke(folder, "--to", "torch")
    assert told.exit_code == 0 and f"wrote {folder / 'model.py'}" in told.stdout
    labels, _ = module_of((folder / "model.py").read_text()).predict(TEST.images)
    assert torch.equal(labels, spikefed.load_model(folder).predict(TEST.images).labels)
    elsewhere = json.loads(invoke(f"{folder}@1", "--to", "torch", "--out", tmp_path / "mine", "--json").stdout)
    assert elsewhere["path"] == str(tmp_path / "mine.py")
    assert invoke(f"{folder}@1", "--to", "torch").exit_code == 0 and (folder / "model-round1.py").is_file()


def test_a_run_leaves_as_c(folder: Path) -> None:
    made = json.loads(invoke(folder, "--to", "c", "--weights", "int8", "--json").stdout)
    assert made["path"] == str(folder / "model.c") and made["ram_bytes"] > 0
    assert f"NETWORK_FLASH_BYTES {made['flash_bytes']}L" in (folder / "model.c").read_text()
    assert "flash bytes" in invoke(folder, "--to", "c").stdout


def test_a_run_leaves_as_nir_with_the_pre_flight_table(folder: Path) -> None:
    pytest.importorskip("nir")
    told = invoke(folder, "--to", "nir")
    assert told.exit_code == 0 and "takes it" in told.stdout
    rows = {line.split("  ")[0]: line.split()[-1] for line in told.stdout.splitlines()[2:]}
    assert rows["SpikingJelly 2.0"] == "yes" and "does not read AvgPool2d" in told.stdout
    assert json.loads(invoke(folder, "--to", "nir", "--json").stdout)["readers"]["Norse 1.1"]["takes"] is False


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("{run}", "--to", "torch", "--weights", "int8"), "export to torch takes no option weights; leave it out"),
        (("{run}", "--to", "torch", "--out", "{run}"), "is a folder; give the name of a file"),
        (("{run}", "--to", "torch", "--out", "{run}/no/such.py"), "there is no folder"),
        (("{run}", "--to", "torch", "--out", "{run}/model.safetensors"), "is there already and is no .py file"),
        (("{run}", "--to", "c", "--out", "/dev/null"), "is there already and is no .c file; name another"),
        (("{run}", "--to", "c", "--out", "-"), "leaves as a file, not on standard output"),
        (("nowhere", "--to", "torch"), "there is no run folder or model file nowhere"),
        (("{run}", "--to", "torch", "--client", "7"), "has nothing of client 7"),
    ],
)
def test_mistakes_are_one_sentence(folder: Path, words: tuple[str, ...], text: str) -> None:
    told = invoke(*(word.format(run=folder) for word in words))
    assert isinstance(told.exception, SpikefedError) and text in str(told.exception)


def test_a_network_that_computes_in_bfloat16_is_said_to_round_otherwise(folder: Path, tmp_path: Path) -> None:
    model = spikefed.load_model(folder)
    assert export(model, "c", tmp_path / "a").notes == ()
    model.network.precision = "bfloat16"
    (note,) = export(model, "c", tmp_path / "a").notes
    assert note == "the network computes in bfloat16 and the file in float32, so single predictions differ"


def test_an_unknown_format_names_the_known(folder: Path) -> None:
    told = invoke(folder, "--to", "tflite")
    assert told.exit_code == 2 and "torch" in told.output
