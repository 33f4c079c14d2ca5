"""The runner of paper-scale jobs, at toy size; its jobs at full size are valid experiments."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from spikefed.experiment import config as configs
from spikefed.experiment import jobs_of
from spikefed.experiment.checks import check

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("paper_scale")


def test_every_job_is_a_valid_experiment_of_the_papers_size(script: ModuleType, tmp_path: Path) -> None:
    names = [job.name for job in script.jobs()]
    assert len(set(names)) == len(names)
    for job in script.jobs():
        file = SCRIPTS.parent / job.file
        if job.only:
            (found,) = jobs_of([file], tmp_path, only=[job.only], seeds=[0], overrides=job.settings)
            config = found.config
        else:
            config = configs.load(file, job.settings)
            check(config)
        assert config.rounds >= 10
        study, _, net = job.name.partition("-cifar10-")
        if study in ("temporal", "tickets"):
            assert config.network.name == net and config.data.pooled and config.rounds >= 300
            assert config.method["name"] == ("tickets" if study == "tickets" else "fedavg")
            continue
        assert config.network.name in ("cifarnet", "vgg9", "vgg9-bntt")
        assert config.method["name"] == ("fedavg" if "fedsnn" in job.name else job.name.rsplit("-", 1)[1])


@pytest.mark.slow
def test_toy_jobs_end_as_json_once(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    chosen = ("table1-cifar10-fsd+", "fedsnn-snn-10-2-iid-seed0")
    words = ["paper_scale.py", "--toy", "--out", str(tmp_path / "out"), "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", [*words, *(word for name in chosen for word in ("--only", name))])
    assert script.main() == 0
    for name in chosen:
        record = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert record["rounds"] == 2 and record["upstream_bytes"] > 0 and record["seconds"] > 0
        assert str(SCRIPTS.parent) not in record["command"]
    capfd.readouterr()
    assert script.main() == 0  # all done already
    assert "accuracy" not in capfd.readouterr().out
    monkeypatch.setattr(sys, "argv", [*words, "--minutes", "0"])
    assert script.main() == 0
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["temporal-cifar10-resnet19", "tickets-cifar10-vgg16"])
def test_studies_of_large_networks_run_with_those_at_toy_size(
    name: str, script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--toy", "--only", name, "--out", str(tmp_path / "out"), "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", ["paper_scale.py", *words])
    assert script.main() == 0
    assert json.loads((tmp_path / "out" / f"{name}.json").read_text())["rounds"] == 2
    run = tmp_path / "runs" / name / "run"
    assert configs.load(run / "config.toml", ()).network.name == name.rpartition("-")[2]
    assert name.startswith("tickets") or (run / "probes" / "temporal.json").exists()
