"""Probes of a run: when they measure, what they leave, that nothing they do costs the run, and after its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import spikefed
from experiment.runs import Told, fingerprint
from spikefed.errors import CheckpointError, ConfigError, DataError
from spikefed.experiment import RunFolder, from_tree, probe_run, toml
from spikefed.experiment import config as configs

BROKEN = """
from spikefed.probes import Probe

class Broken(Probe):
    name = "broken"
    summary = "fails"
    def measure(self, net, subject, ctx):
        return 1 / 0

class Dying(Probe):
    name = "dying"
    summary = "dies in round 2, once"
    alive = False
    def measure(self, net, subject, ctx):
        if ctx.round == 2 and not Dying.alive:
            Dying.alive = True
            raise KeyboardInterrupt
        return [{"round_seen": ctx.round}]

class Unready(Probe):
    name = "unready"
    summary = "lacks something"
    def check(self, hyper):
        from spikefed.errors import ConfigError
        raise ConfigError("probe 'unready' needs a package; install it")
    def measure(self, net, subject, ctx):
        return [{}]
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "ownprobes.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("ownprobes", None)


def file_of(run: Path, label: str) -> dict[str, Any]:
    return json.loads((run / "probes" / f"{label}.json").read_text())


def measurements(run: Path, label: str) -> list[dict[str, Any]]:
    return [{k: v for k, v in m.items() if k != "seconds"} for m in file_of(run, label)["measurements"]]


def test_it_measures_when_it_is_asked_and_changes_nothing(tiny: dict[str, Any], tmp_path: Path) -> None:
    plain = fingerprint(spikefed.run(tiny, out=tmp_path / "plain"))
    tables = [{"name": "accuracy", "every": 2}, {"name": "accuracy", "label": "at-the-end", "images": 30}]
    run = spikefed.run(tiny | {"probe": tables}, out=tmp_path / "probed")
    assert fingerprint(run) == plain
    assert [m["round"] for m in measurements(run, "accuracy")] == [2, 3]
    [last] = measurements(run, "at-the-end")
    assert last["round"] == 3 and last["images"] == 30 and last["seed"] == 0
    assert {path.name for path in (run / "probes").iterdir()} == {"accuracy.json", "at-the-end.json"}


@pytest.mark.parametrize("coding", ["direct", "bernoulli"])
def test_its_accuracy_is_the_run_s_own(tiny: dict[str, Any], tmp_path: Path, coding: str) -> None:
    tiny["network"]["coding"] = coding
    run = spikefed.run(tiny | {"probe": [{"name": "accuracy", "every": 1}]}, out=tmp_path / "run")
    lines = RunFolder(run).read_lines(RunFolder(run).metrics)
    told = [m["headline"]["accuracy"] for m in measurements(run, "accuracy")]
    assert told == [line["server_accuracy"] for line in lines]
    again = probe_run(run, "accuracy", label="again")
    assert again["measurements"][-1]["records"] == measurements(run, "accuracy")[-1]["records"]
    assert again["measurements"][-1]["weights_sha256"] == measurements(run, "accuracy")[-1]["weights_sha256"]


def test_the_clients_own_networks_and_their_vote_are_measured_too(tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny["method"] = {"name": "local"}
    run = spikefed.run(tiny | {"probe": [{"name": "accuracy"}]}, out=tmp_path / "run")
    [found] = measurements(run, "accuracy")
    networks = {row["network"]: row["accuracy"] for row in found["records"] if row["part"] == "networks"}
    assert list(networks) == ["client 0", "client 1", "merged vote"], "there is no server"
    line = RunFolder(run).read_lines(RunFolder(run).metrics)[-1]
    assert (networks["client 0"] + networks["client 1"]) / 2 == pytest.approx(line["server_accuracy"])
    assert found["headline"]["accuracy"] == pytest.approx(line["server_accuracy"])
    assert probe_run(run, "accuracy", label="again")["measurements"][0]["records"] == found["records"]


def test_stopped_and_resumed_it_ends_where_it_would_have(tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny["probe"] = [{"name": "accuracy", "every": 1}]
    whole = spikefed.run(tiny, out=tmp_path / "whole")
    for rounds in (1, 2, 3):
        spikefed.run(tiny | {"rounds": rounds}, out=tmp_path / "parts", resume=True)
    assert measurements(tmp_path / "parts", "accuracy") == measurements(whole, "accuracy")


def test_killed_inside_a_probe_it_is_made_up_for(tiny: dict[str, Any], tmp_path: Path, own: None) -> None:
    tiny["probe"] = [{"name": "ownprobes:Dying", "every": 1}]
    with pytest.raises(KeyboardInterrupt):
        spikefed.run(tiny, out=tmp_path / "run")
    assert [m["round"] for m in measurements(tmp_path / "run", "dying")] == [1]
    spikefed.run(tiny, out=tmp_path / "run", resume=True)
    assert [m["records"] for m in measurements(tmp_path / "run", "dying")] == [[{"round_seen": r}] for r in (1, 2, 3)]


def test_a_probe_that_fails_is_named_and_the_run_is_whole(tiny: dict[str, Any], tmp_path: Path, own: None) -> None:
    plain = fingerprint(spikefed.run(tiny, out=tmp_path / "plain"))
    tiny["probe"] = [{"name": "ownprobes:Broken"}, {"name": "accuracy"}]
    heard = Told()
    run = spikefed.run(tiny, out=tmp_path / "run", progress=heard)
    assert fingerprint(run) == plain and (run / "result.json").is_file()
    [said] = heard.said
    assert "probe 'broken' failed after round 3" in said and "ZeroDivisionError" in said and "ownprobes.py" in said
    assert measurements(run, "accuracy") and not (run / "probes" / "broken.json").exists()
    with pytest.raises(ConfigError, match=r"probe 'broken' failed: ZeroDivisionError.*ownprobes.py, line"):
        probe_run(run, "broken")


def test_what_a_probe_lacks_is_said_before_the_run(tiny: dict[str, Any], tmp_path: Path, own: None) -> None:
    with pytest.raises(ConfigError, match="needs a package"):
        spikefed.run(tiny | {"probe": [{"name": "ownprobes:Unready"}]}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_probes_change_no_hash_and_may_come_later(tiny: dict[str, Any], tmp_path: Path) -> None:
    asked = tiny | {"probe": [{"name": "accuracy"}]}
    assert from_tree(tiny).hash() == from_tree(asked).hash()
    assert "probe" not in from_tree(tiny).resolved()
    spikefed.run(tiny, out=tmp_path / "run")
    run = spikefed.run(asked, out=tmp_path / "run", resume=True)
    assert [m["round"] for m in measurements(run, "accuracy")] == [3]


def test_a_config_with_probes_comes_back_from_its_file(tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny["probe"] = [{"name": "accuracy", "every": 5}, {"name": "accuracy", "label": "few", "images": 10}]
    run = spikefed.run(tiny, out=tmp_path / "run")
    assert configs.load(run / "config.toml").resolved() == from_tree(tiny).resolved() | {"run": {
        **from_tree(tiny).resolved()["run"], "threads": 1}}  # fmt: skip
    assert file_of(run, "few")["hyper"]["images"] == 10
    assert probe_run(run, "few")["measurements"][0]["images"] == 10  # the label brings its settings


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"name": "accuracy"}, r"is one table; write its heading with two brackets, as \[\[probe\]\]"),
        (["accuracy"], r"must be tables, each under a heading \[\[probe\]\]"),
        ([{"label": "x"}], "names no probe"),
        ([{"nme": "accuracy"}], r"names no probe \(it has 'nme'\)"),
        ([{"name": "acuracy"}], "probe 'acuracy' is not known; the nearest is 'accuracy'"),
        ([{"name": "accuracy", "imges": 3}], "'imges' of probe 'accuracy'; the nearest known key is 'images'"),
        ([{"name": "accuracy", "evry": 3}], "the nearest known key is 'every'"),
        ([{"name": "accuracy", "images": 0}], "'images' = 0 of probe 'accuracy'"),
        ([{"name": "accuracy", "every": -1}], "'every' = -1 of probe 'accuracy'"),
        ([{"name": "accuracy", "every": 1.5}], "'every' = 1.5 of probe 'accuracy'"),
        ([{"name": "accuracy", "label": "../x"}], "label '../x' of a probe may hold letters"),
        ([{"name": "accuracy", "label": ".x"}], "no dot first"),
        ([{"name": "accuracy"}, {"name": "accuracy"}], "are called 'accuracy'; give each its own label"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_one_sentence(tiny: dict[str, Any], tables: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        from_tree(tiny | {"probe": tables})


def test_other_settings_never_overwrite_a_measurement(tiny: dict[str, Any], tmp_path: Path) -> None:
    run = spikefed.run(tiny, out=tmp_path / "run")
    probe_run(run, "accuracy", {"images": 20})
    before = (run / "probes" / "accuracy.json").read_bytes()
    with pytest.raises(ConfigError, match="measured with images = 20, and now images is 30; keep both by giving"):
        probe_run(run, "accuracy", {"images": 30})
    assert (run / "probes" / "accuracy.json").read_bytes() == before
    probe_run(run, "accuracy", {"images": 30}, label="thirty")
    assert file_of(run, "thirty")["hyper"]["images"] == 30


def test_a_run_that_cannot_be_probed_is_one_sentence(tiny: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no run folder"):
        probe_run(tmp_path / "nowhere", "accuracy")
    run = spikefed.run(tiny, out=tmp_path / "run")
    with pytest.raises(ConfigError, match="unknown key 'imges' of probe 'accuracy'"):
        probe_run(run, "accuracy", {"imges": 3})
    with pytest.raises(ConfigError, match="the nearest is 'accuracy'"):
        probe_run(run, "akkuracy")
    model = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").write_bytes(model[:100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        probe_run(run, "accuracy")
    (run / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has no model yet; finish it with --resume"):
        probe_run(run, "accuracy")


def test_the_model_file_stands_for_its_run(tiny: dict[str, Any], tmp_path: Path) -> None:
    run = spikefed.run(tiny, out=tmp_path / "run")
    assert probe_run(run / "model.safetensors", "accuracy")["measurements"][0]["round"] == 3


def test_the_data_may_have_moved(tiny: dict[str, Any], tmp_path: Path) -> None:
    run = spikefed.run(tiny, out=tmp_path / "run")
    text = (run / "config.toml").read_text().replace('dataset = "digits"', 'dataset = "npz:moved.npz"')
    (run / "config.toml").write_text(text)
    with pytest.raises(DataError):
        probe_run(run, "accuracy", data_dir=tmp_path)


COUNTING = """
import os, pathlib, signal
from spikefed.probes import Probe

class Counting(Probe):
    name = "counting"
    summary = "class by class, with draws of its own; killed once in between"
    def measure(self, net, subject, ctx):
        done = ctx.restore() or {"rows": []}
        for label in range(len(done["rows"]), 10):
            drawn = float(__import__("torch").rand((), generator=ctx.generator))
            done["rows"].append({"label": label, "images": int((subject.labels == label).sum()), "drawn": drawn})
            ctx.save(done)
            mark = pathlib.Path("killed-once")
            if label == 4 and os.environ.get("KILL") and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return done["rows"]
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["in a run", "afterwards"])
def test_a_probe_that_is_killed_goes_on_where_it_was(when: str, tiny: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "counts.py").write_text(COUNTING)
    tables = (
        tiny | {"rounds": 1} | ({"probe": [{"name": "counts:Counting", "label": "c"}]} if when == "in a run" else {})
    )
    (tmp_path / "exp.toml").write_text(toml.dump(tables))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}

    def spikefed_(*arguments: str, kill: str = "") -> int:
        command = [sys.executable, "-m", "spikefed", *arguments, "--quiet"]
        return subprocess.run(
            command, cwd=tmp_path, env={**environment, "KILL": kill}, check=False, capture_output=True
        ).returncode

    def measure(folder: str, kill: str = "") -> int:
        if when == "in a run":
            return spikefed_("run", "exp.toml", "--out", folder, "--resume", kill=kill)
        return spikefed_("probe", folder, "counts:Counting", "--label", "c", kill=kill)

    if when == "afterwards":
        assert spikefed_("run", "exp.toml", "--out", "whole") == spikefed_("run", "exp.toml", "--out", "parts") == 0
    assert measure("whole") == 0 and measure("parts", kill="yes") == -signal.SIGKILL
    left = [path.name for path in (tmp_path / "parts" / "probes").iterdir()]
    assert left and "c.json" not in left  # what it had done is there, and no result
    assert measure("parts") == 0 and not (tmp_path / "parts" / "probes" / left[0]).exists()
    found = [json.loads((tmp_path / name / "probes" / "c.json").read_text()) for name in ("whole", "parts")]
    assert found[0]["measurements"][0]["records"] == found[1]["measurements"][0]["records"]
    assert len(found[1]["measurements"][0]["records"]) == 10
