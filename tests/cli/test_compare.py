"""`spikefed compare` when something is wrong: said once, in one sentence, before anything runs where that can be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spikefed.cli import app
from spikefed.errors import ConfigError, DataError, ReportError, UnfinishedError
from spikefed.experiment import Job, RunFolder, jobs, jobs_of, toml

from .test_cli import TINY


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(toml.dump(TINY | {"rounds": 1}))
    return path


def compare(file: Path, out: Path, *options: str) -> Any:
    return CliRunner().invoke(app, ["compare", str(file), "--out", str(out), *options])


@pytest.fixture
def no_job_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a job was started")

    monkeypatch.setattr(jobs, "run", refuse)
    monkeypatch.setattr(jobs, "_start", refuse)


@pytest.mark.parametrize("parallel", ["1", "2"])
@pytest.mark.usefixtures("no_job_runs")
def test_a_folder_that_cannot_be_written_is_refused_once(file: Path, tmp_path: Path, parallel: str) -> None:
    (tmp_path / "afile").write_text("mine")
    for out, text in (
        (tmp_path / "afile", "afile is a file; name a folder with --out"),
        (tmp_path / "afile" / "below", "cannot be written"),
    ):
        ended = compare(file, out, "--jobs", parallel, "--seeds", "0,1")
        assert type(ended.exception) is ConfigError and text in str(ended.exception)
    assert (tmp_path / "afile").read_text() == "mine"


def test_a_log_that_cannot_be_written_is_its_jobs_failure(file: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "logs").write_text("mine")
    ended = compare(file, tmp_path / "out", "--jobs", "2")
    assert isinstance(ended.exception, UnfinishedError) and "tiny-seed0: it cannot be started" in ended.stderr


@pytest.mark.usefixtures("no_job_runs")
@pytest.mark.parametrize("target", ["80", "0", "nan"])
def test_a_target_is_checked_before_any_job(file: Path, tmp_path: Path, target: str) -> None:
    ended = compare(file, tmp_path / "out", "--target", target)
    assert isinstance(ended.exception, ReportError) and "is no accuracy" in str(ended.exception)
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.jsonl").write_text("")
    report = CliRunner().invoke(app, ["report", str(run), "--target", target])
    assert str(report.exception) == str(ended.exception)  # one sentence for both commands
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_job_runs")
@pytest.mark.parametrize("seeds", ["", ",", "0,", "-1", "x"])
def test_seeds_are_whole_numbers(file: Path, tmp_path: Path, seeds: str) -> None:
    ended = compare(file, tmp_path / "out", f"--seeds={seeds}")
    assert isinstance(ended.exception, ConfigError)
    assert str(ended.exception) == f"--seeds '{seeds}' is not a list of whole numbers from 0 on; write --seeds 0,1,2"


@pytest.mark.usefixtures("no_job_runs")
def test_a_missing_data_set_is_told_once(file: Path, tmp_path: Path) -> None:
    ended = compare(
        file, tmp_path / "out", "--set", "data.dataset=mnist", "--data-dir", str(tmp_path), "--seeds", "0,1"
    )
    assert isinstance(ended.exception, DataError) and "MNIST" in str(ended.exception)
    assert ended.stderr == "" and not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["{}", "[]", "garbage", '{"rounds": true, "name": 3}', "\xff"])
def test_a_damaged_result_is_the_failure_of_its_job_alone(file: Path, tmp_path: Path, text: str) -> None:
    out = tmp_path / "out"
    assert compare(file, out, "-q").exit_code == 0
    whole = (out / "tiny-seed0" / "result.json").read_bytes()
    (out / "tiny-seed0" / "result.json").write_bytes(text.encode("latin-1"))
    ended = compare(file, out, "--seeds", "0,1", "--json")
    assert isinstance(ended.exception, UnfinishedError) and "1 of 2 jobs has no result" in str(ended.exception)
    assert "tiny-seed0: " in ended.stderr and "delete it and repeat the command" in ended.stderr
    assert "--resume" not in ended.stderr
    first, second = json.loads(ended.stdout)["jobs"]
    assert first["error"] and second["error"] is None and second["seed"] == 1
    (out / "tiny-seed0" / "result.json").unlink()
    assert compare(file, out, "--seeds", "0,1", "-q").exit_code == 0
    assert json.loads((out / "tiny-seed0" / "result.json").read_bytes()) == json.loads(whole)


def test_what_the_report_leaves_out_is_told(file: Path, tmp_path: Path) -> None:
    assert compare(file, tmp_path / "out", "-q").exit_code == 0
    (tmp_path / "out" / "tiny-seed0" / "provenance.json").write_text("{")
    ended = compare(file, tmp_path / "out", "-q")
    assert ended.exit_code == 0 and "warning: " in ended.stderr and "provenance.json cannot be read" in ended.stderr


@pytest.mark.parametrize("parallel", ["1", "2"])
def test_a_job_that_another_process_finished_meanwhile_is_done(
    file: Path, tmp_path: Path, parallel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert compare(file, out, "-q").exit_code == 0
    result = out / "tiny-seed0" / "result.json"
    text = result.read_text()
    result.unlink()
    told = jobs._told

    def finished_now(outcome: jobs.Outcome) -> str:
        result.write_text(text)
        return told(outcome)

    monkeypatch.setattr(jobs, "_told", finished_now)
    with RunFolder(out / "tiny-seed0").held():
        ended = compare(file, out, "--jobs", parallel)
    assert ended.exit_code == 0 and "another process is running it" in ended.stderr
    assert "seed 0" in ended.stdout


def test_a_child_refuses_a_file_that_changed_since_the_start(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = jobs._start

    def edited(job: Job, overrides: Any) -> Any:
        file.write_text(toml.dump(TINY | {"rounds": 2}))
        return start(job, overrides)

    monkeypatch.setattr(jobs, "_start", edited)
    ended = compare(file, tmp_path / "out", "--jobs", "2")
    assert isinstance(ended.exception, UnfinishedError) and "has changed since the comparison began" in ended.stderr
    assert not (tmp_path / "out" / "tiny-seed0").exists()


def test_the_summary_tells_the_seed_and_whose_accuracy_it_is(file: Path, tmp_path: Path) -> None:
    served = compare(file, tmp_path / "a", "--seeds", "3").stdout
    assert "tiny (fsd), seed 3: server accuracy " in served
    alone = compare(file, tmp_path / "b", "--set", "method={name='local'}").stdout
    assert "tiny (local), seed 0: mean accuracy of the clients " in alone and "server" not in alone


def test_fewer_rounds_than_a_folder_has_keep_what_is_there_and_say_so(file: Path, tmp_path: Path) -> None:
    assert compare(file, tmp_path / "out", "-q", "--set", "rounds=2").exit_code == 0
    ended = compare(file, tmp_path / "out", "--set", "rounds=1")
    told = "1 of 1 jobs are done already, 1 with more rounds than asked for, which are kept: tiny-seed0 has 2, not 1"
    assert ended.exit_code == 0 and told in ended.stderr
    assert "more rounds" not in compare(file, tmp_path / "out", "--set", "rounds=2").stderr


def test_a_recorded_run_goes_on_though_a_setting_of_it_has_no_effect(file: Path, tmp_path: Path) -> None:
    """What began before such settings were refused, or in Python, is not lost."""
    assert compare(file, tmp_path / "out", "-q").exit_code == 0
    folder = RunFolder(tmp_path / "out" / "tiny-seed0")
    recorded = folder.config.read_text()
    folder.config.write_text(recorded.replace("alpha = 0.5", "alpha = 0.1"))
    assert folder.config.read_text() != recorded
    (job,) = jobs_of([file], tmp_path / "out", overrides=["data.alpha=0.1"])
    assert job.done()
    with pytest.raises(ConfigError, match="has no effect"):
        jobs_of([file], tmp_path / "other", overrides=["data.alpha=0.1"])
