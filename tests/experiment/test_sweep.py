"""Sweeps: what a sweep file means, that it resumes, that jobs do not hurt each other, and that parallel is the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spikefed.cli import app
from spikefed.errors import ConfigError, UnfinishedError
from spikefed.experiment import RunFolder, compare, from_tree, jobs_of, load, run_missing, toml

from .test_run import fingerprint

ROOT = Path(__file__).parents[2]
SWEEP = """
rounds = 2
[sweep]
name = "pair"
title = "A pair"
base = "tiny.toml"
seeds = [0, 1]
[[sweep.methods]]
label = "fsd+"
training = { lr = 2e-3 }
[[sweep.methods]]
label = "fedavg"
method = { name = "fedavg" }
[[sweep.partitions]]
label = "iid"
[[sweep.partitions]]
label = "skewed"
data = { partition = "dirichlet", alpha = 0.5 }
"""


@pytest.fixture
def sweep(tiny: dict[str, Any], tmp_path: Path) -> Path:
    (tmp_path / "tiny.toml").write_text(toml.dump(tiny))
    (tmp_path / "sweep.toml").write_text(SWEEP)
    return tmp_path / "sweep.toml"


def test_a_sweep_is_the_product_of_its_axes_in_the_order_asked_for(sweep: Path, tmp_path: Path) -> None:
    jobs = jobs_of([sweep], tmp_path / "out")
    assert [job.name for job in jobs] == [
        "fsd+-iid-seed0", "fedavg-iid-seed0", "fsd+-skewed-seed0", "fedavg-skewed-seed0",
        "fsd+-iid-seed1", "fedavg-iid-seed1", "fsd+-skewed-seed1", "fedavg-skewed-seed1",
    ]  # fmt: skip
    sweep.write_text(SWEEP.replace("seeds = [0, 1]", 'seeds = [0, 1]\norder = ["methods", "partitions", "seeds"]'))
    ordered = jobs_of([sweep], tmp_path / "out")
    assert [job.name for job in ordered][:3] == ["fsd+-iid-seed0", "fsd+-iid-seed1", "fsd+-skewed-seed0"]
    assert {j.name: j.config.hash() for j in ordered} == {j.name: j.config.hash() for j in jobs}


def test_a_job_is_the_base_with_every_layer_on_top(sweep: Path, tmp_path: Path, tiny: dict[str, Any]) -> None:
    job = jobs_of([sweep], tmp_path / "out", only=["fsd+-skewed-seed1"])[0]
    by_hand = {**tiny, "seed": 1, "training": {**tiny["training"], "lr": 2e-3},
               "data": {**tiny["data"], "partition": "dirichlet", "alpha": 0.5}}  # fmt: skip
    assert job.config.hash() == from_tree(by_hand).hash()
    assert (job.config.rounds, job.config.label, job.config.name) == (2, "fsd+", "fsd+-skewed")
    # A method of another name does not inherit the hyperparameters of the base's.
    fedavg = jobs_of([sweep], tmp_path / "out", only=["fedavg"])[0]
    assert fedavg.config.hash() == from_tree(tiny | {"method": {"name": "fedavg"}}).hash()
    top = jobs_of([sweep], tmp_path / "out", only=["fsd+"], overrides=["training.lr=0.5"])[0]
    assert top.config.training["lr"] == 0.5


def test_several_bases_and_none_of_the_axes(sweep: Path, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text('extends = "tiny.toml"\nname = "other"\nrounds = 1\n')
    sweep.write_text('[sweep]\nbase = ["tiny.toml", "other.toml"]\n')
    assert [j.name for j in jobs_of([sweep], tmp_path / "out")] == ["tiny-seed0", "other-seed0"]
    sweep.write_text('[sweep]\nbase = ["tiny.toml", "other.toml"]\n[[sweep.methods]]\nlabel = "a"\n')
    assert [j.name for j in jobs_of([sweep], tmp_path / "out")] == ["tiny-a-seed0", "other-a-seed0"]


@pytest.mark.parametrize(
    "change, text",
    [
        (("seeds = [0, 1]", "sedes = [0, 1]"), "unknown key 'sweep.sedes'.*'sweep.seeds'"),
        (("lr = 2e-3", "rl = 2e-3"), "unknown key 'training.rl'"),
        (('label = "fsd+"', 'label = "a b"'), r"'sweep.methods.0.label' = 'a b' in .* letters, digits and the char"),
        (('label = "fsd+"\n', ""), "'sweep.methods.0.label' is missing in .*; give a text of letters"),
        (('base = "tiny.toml"\n', ""), "'sweep.base' is missing in .*; give an experiment file"),
        (
            ("seeds = [0, 1]", "seeds = []"),
            r"'sweep.seeds' = \[\] in .* cannot be used; give .* at least one whole num",
        ),
        (("seeds = [0, 1]", "order = [1]"), "'sweep.order.0' = 1 in .* cannot be used; give each of"),
        (('name = "pair"', 'name = "a pair"'), "'sweep.name' = 'a pair' in .* letters, digits"),
        (('base = "tiny.toml"', 'base = "sweep.toml"'), "'sweep.base' in .* names sweep.toml, a sweep file itself"),
        (("alpha = 0.5", "shards_per_client = 3"), "'data.shards_per_client' = 3 has no effect"),
        (('label = "skewed"', 'label = "iid"'), "two entries labelled 'iid'"),
        (('base = "tiny.toml"', 'base = "none.toml"'), "none.toml does not exist"),
        (("seeds = [0, 1]", 'order = ["seeds"]'), "must name seeds, partitions and methods once each"),
        (('name = "fedavg"', 'name = "fedavgg"'), "method 'fedavgg' is not known.*the nearest is 'fedavg'"),
        (("alpha = 0.5", "alpha = 0.5, clients = 2, quorum = 3"), "unknown key 'data.quorum'"),
        (('label = "fedavg"', 'label = "fedavg"\nseed = 7'), "'seed' in entry 'fedavg' of 'sweep.methods'.*no effect"),
        (('label = "skewed"', 'label = "skewed"\nname = "x"'), "'name' in entry 'skewed'.*use the entry's 'label'"),
        (('base = "tiny.toml"', "base = []"), r"'sweep.base' = \[\] in .* cannot be used; give an experiment file"),
        (("seeds = [0, 1]", "seeds = [true]"), "'sweep.seeds.0'"),
        (("lr = 2e-3 }", 'lr = 2e-3 }\nwire = { spikes_up = "float32" }'), "none for spikes"),
    ],
)
def test_every_job_is_checked_before_the_first_starts(
    sweep: Path, tmp_path: Path, change: tuple[str, str], text: str
) -> None:
    assert change[0] in SWEEP
    sweep.write_text(SWEEP.replace(*change))
    with pytest.raises(ConfigError, match=text):
        compare([sweep], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_would_have_no_effect_on_a_sweep_is_refused(sweep: Path, tmp_path: Path) -> None:
    for text, instead in (("seed=9", "--seeds"), ('name="x"', "'label'"), ('label="q"', "'label'")):
        with pytest.raises(ConfigError, match=f"would have no effect; use .*{instead}"):
            jobs_of([sweep], tmp_path, overrides=[text])
        sweep.write_text(f"{text}\n{SWEEP}")
        with pytest.raises(ConfigError, match=f"the sweep .* would have no effect; use .*{instead}"):
            jobs_of([sweep], tmp_path)
        sweep.write_text(SWEEP)


def test_a_wrong_label_names_the_nearest(sweep: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no job is labelled 'fedag'; the nearest label is 'fedavg'"):
        jobs_of([sweep], tmp_path, only=["fedag"])
    assert len(jobs_of([sweep], tmp_path, only=["skewed"])) == 4
    assert [j.name for j in jobs_of([sweep], tmp_path, only=["fedavg-iid"], seeds=[7])] == ["fedavg-iid-seed7"]


def test_a_failed_job_leaves_the_others_alone_and_is_named(sweep: Path, tmp_path: Path) -> None:
    sweep.write_text(SWEEP.replace("alpha = 0.5", "alpha = 0.5, public = 5000").replace("[0, 1]", "[0]"))
    outcomes = compare([sweep], tmp_path / "out")
    assert [o.job.name for o in outcomes if o.error is None] == ["fsd+-iid-seed0", "fedavg-iid-seed0"]
    assert all("public" in (o.error or "") for o in outcomes if o.error is not None)
    with pytest.raises(UnfinishedError, match="2 of 4 jobs have no result .fsd.-skewed-seed0: .*5,000"):
        run_missing([sweep], tmp_path / "out")
    done = CliRunner().invoke(app, ["compare", str(sweep), "--out", str(tmp_path / "out"), "-q"])
    assert isinstance(done.exception, UnfinishedError) and "2 of 4 jobs" in str(done.exception)
    assert "fsd+" in (tmp_path / "out" / "report.html").read_text()  # the report has those that finished


def test_a_job_of_another_process_is_left_to_it(sweep: Path, tmp_path: Path) -> None:
    compare([sweep], tmp_path / "out", only=["fsd+-iid-seed0"], overrides=["rounds=1"])
    folder = RunFolder(tmp_path / "out" / "fsd+-iid-seed0")
    assert not folder.busy()
    with folder.held():
        assert folder.busy()
        for jobs in (1, 2):
            outcomes = compare([sweep], tmp_path / "out", only=["fsd+-iid-seed0"], jobs=jobs)
            assert [o.busy for o in outcomes] == [True] and "another process" in (outcomes[0].error or "")
    assert json.loads(folder.result.read_text())["rounds"] == 1
    assert not compare([sweep], tmp_path / "out", only=["fsd+-iid-seed0"])[0].error
    assert json.loads(folder.result.read_text())["rounds"] == 2


def test_a_record_says_what_tables_need(sweep: Path, tmp_path: Path) -> None:
    compare([sweep], tmp_path / "out", only=["fsd+-skewed-seed1"])
    record = json.loads((tmp_path / "out" / "fsd+-skewed-seed1" / "result.json").read_text())
    assert [record[k] for k in ("name", "method", "label", "dataset", "partition", "seed", "rounds")] == [
        "fsd+-skewed", "fsd", "fsd+", "digits", "dirichlet-0.5", 1, 2,
    ]  # fmt: skip
    assert {"accuracy", "upstream_bytes", "downstream_bytes", "curve"} <= set(record)


def _command(sweep: Path, out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "spikefed", "compare", str(sweep), "--out", str(out), *options]


def test_a_job_runs_one_thread_unless_told_otherwise(tmp_path: Path, tiny: dict[str, Any]) -> None:
    """Results of a comparison depend neither on the machine's cores nor on how many jobs run at a time."""
    tiny["run"].pop("threads")
    base = tmp_path / "base.toml"
    base.write_text(toml.dump(tiny))
    assert [job.config.run.threads for job in jobs_of([base], tmp_path / "runs")] == [1]
    assert [job.config.run.threads for job in jobs_of([base], tmp_path / "runs", overrides=["run.threads=3"])] == [3]


def test_jobs_in_parallel_give_the_runs_of_one_after_the_other(sweep: Path, tmp_path: Path) -> None:
    """Also: a failed one is told in its own sentence, exit code 3; the recorded command repeats the run."""
    sweep.write_text(SWEEP.replace("alpha = 0.5", "alpha = 0.5, public = 5000"))
    done = subprocess.run(
        _command(sweep, tmp_path / "two", "--jobs", "2", "--seeds", "1"), capture_output=True, text=True
    )
    assert done.returncode == 3
    told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(told) == 3 and told[0].startswith("error: fsd+-skewed-seed1: ") and "5,000" in told[0]
    assert told[2] == "error: 2 of 4 jobs have no result; repeat the command to go on from there"
    assert (tmp_path / "two" / "report.html").is_file()
    compare([sweep], tmp_path / "one", seeds=[1])
    for name in ("fsd+-iid-seed1", "fedavg-iid-seed1"):
        assert fingerprint(tmp_path / "two" / name) == fingerprint(tmp_path / "one" / name)
        facts = json.loads((tmp_path / "two" / name / "provenance.json").read_text())
        assert f"--only {name}" in facts["command"]


def test_interrupted_in_parallel_then_taken_up(sweep: Path, tmp_path: Path) -> None:
    """Ctrl-C ends the children too; what they saved is used, and the end is that of a sweep left alone."""
    options = ("--jobs", "2", "--only", "iid", "--set", "rounds=8", "--seeds", "0")
    process = subprocess.Popen(
        _command(sweep, tmp_path / "cut", *options),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    metrics = [tmp_path / "cut" / f"{name}-iid-seed0" / "metrics.jsonl" for name in ("fsd+", "fedavg")]
    while not any(path.is_file() for path in metrics) and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=900)
    assert process.returncode == 130, said
    folders = [RunFolder(path.parent) for path in metrics]
    assert not any(folder.busy() for folder in folders)
    outcomes = compare([sweep], tmp_path / "cut", only=["iid"], seeds=[0], overrides=["rounds=8"])
    assert not any(outcome.error for outcome in outcomes)
    compare([sweep], tmp_path / "whole", only=["iid"], seeds=[0], overrides=["rounds=8"])
    for folder in folders:
        assert fingerprint(folder.path) == fingerprint(tmp_path / "whole" / folder.path.name)


def test_sweep_files_that_ship_are_valid(tmp_path: Path) -> None:
    files = sorted((ROOT / "experiments" / "sweeps").glob("*.toml"))
    assert files
    for file in files:
        jobs = jobs_of([file], tmp_path / file.stem)
        assert len(jobs) > 1 and len({job.name for job in jobs}) == len(jobs)


def test_a_preset_of_the_command_line_lies_on_top_of_a_file_and_never_of_a_sweep(sweep: Path, tmp_path: Path) -> None:
    (job,) = jobs_of([sweep.parent / "tiny.toml"], tmp_path / "out", overrides=["training.lr=0.3", "preset=faithful"])
    assert job.config.hyper().lr == load(sweep.parent / "tiny.toml", ["preset=faithful"]).hyper().lr != 0.3
    with pytest.raises(ConfigError, match="on top of every method"):
        jobs_of([sweep], tmp_path / "out", overrides=["preset=faithful"])
