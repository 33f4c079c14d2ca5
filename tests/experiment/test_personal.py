"""Personal models: what is kept is what the client holds, the same everywhere, whole, and loaded like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import spikefed
from experiment.test_take_home import VARIANTS, config, lines_of
from spikefed.deploy.status import status_of, status_text
from spikefed.errors import CheckpointError, ConfigError
from spikefed.experiment import RunFolder, build
from spikefed.experiment import config as configs
from spikefed.models import export, read_model

KEPT = {"threads": 1, "take_home": True, "keep_clients": True}


def kept(path: Path) -> dict[int, bytes]:
    return {client: file.read_bytes() for client, file in RunFolder(path).personal_models().items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_kept_is_what_was_measured_over_processes_and_after_a_resume(variant: str, tmp_path: Path) -> None:
    tables = config(variant, run=KEPT)
    assert configs.from_tree(tables).hash() == configs.from_tree(config(variant)).hash()
    run = spikefed.run(tables, out=tmp_path / "whole")
    whole = kept(run)
    assert sorted(whole) == [0, 1, 2]
    for rounds in (1, 2):
        pool = config(variant, rounds=rounds, run={**KEPT, "workers": 2})
        spikefed.run(pool, out=tmp_path / "pool", resume=True)
    assert kept(tmp_path / "pool") == whole
    test = build(configs.from_tree(tables)).test
    for told in lines_of(run)[-1]["clients"]:
        model = spikefed.load_model(run, client=told["client"])
        found = model.predict((test.images, test.labels))
        assert found.accuracy == told["test_accuracy"]
        assert (model.facts.client, model.facts.round) == (told["client"], 2)
    assert spikefed.load_model(run).facts.client is None


def test_a_run_that_dies_after_a_file_was_written_writes_the_same_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = config("never reset", run=KEPT)
    whole = kept(spikefed.run(tables, out=tmp_path / "whole"))

    class Killed(Exception):
        pass

    append = RunFolder.append

    def dies(self: RunFolder, path: Path, entries: list[dict[str, Any]]) -> None:
        if entries and entries[0].get("round") == 2:
            raise Killed  # the files of round 2 are there, its metrics and checkpoint are not
        append(self, path, entries)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append", dies)
        with pytest.raises(Killed):
            spikefed.run(tables, out=tmp_path / "run")
    torn = tmp_path / "run" / "clients" / ".client-0.safetensors.1.tmp"
    torn.write_bytes(b"half")
    spikefed.run(tables, out=tmp_path / "run", resume=True)
    assert kept(tmp_path / "run") == whole and not torn.exists()


def test_a_client_that_missed_rounds_has_its_last_network(tmp_path: Path) -> None:
    rounds = {"schedule": "list", "rounds": [[0, 2], [1]]}
    run = spikefed.run(config("weights", participation=rounds, run=KEPT), out=tmp_path / "run")
    assert {c: read_model(p)[1].round for c, p in RunFolder(run).personal_models().items()} == {0: 1, 1: 2, 2: 1}
    accuracy = {c["client"]: c["test_accuracy"] for line in lines_of(run) for c in line["clients"]}
    test = build(configs.from_tree(config("weights"))).test
    assert spikefed.load_model(run, client=2).predict((test.images, test.labels)).accuracy == accuracy[2]


def test_files_load_alone_and_go_everywhere(tmp_path: Path) -> None:
    run = spikefed.run(config("weights", run=KEPT), out=tmp_path / "run")
    file = RunFolder(run).personal(1)
    images = torch.randint(0, 255, (5, 1, 8, 8), dtype=torch.uint8)
    model = spikefed.load_model(run, client=1)
    elsewhere = tmp_path / "mine.safetensors"
    elsewhere.write_bytes(file.read_bytes())
    assert torch.equal(spikefed.load_model(elsewhere).outputs(images), model.outputs(images))
    assert export(model, "torch", tmp_path / "mine").path.is_file()
    other = spikefed.load_model(run, client=0).outputs(images)
    assert not torch.equal(other, model.outputs(images)), "two clients, one network"


def test_what_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    run = spikefed.run(config("weights"), out=tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"run it again with run\.keep_clients = true"):
        spikefed.load_model(run, client=1)
    run = spikefed.run(config("weights", run=KEPT), out=tmp_path / "kept")
    with pytest.raises(CheckpointError, match="has nothing of client 7; it has clients 0, 1, 2"):
        spikefed.load_model(run, client=7)
    with pytest.raises(CheckpointError, match="leave @2 out to load the one after its last step"):
        spikefed.load_model(f"{run}@2", client=1)
    RunFolder(run).personal(1).write_bytes(RunFolder(run).personal(1).read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="cannot be read as a model file"):
        spikefed.load_model(run, client=1)
    with pytest.raises(ConfigError, match="stay with their clients; leave it out"):
        spikefed.run(
            config("weights", run={"threads": 1, "keep_clients": True}),
            out=tmp_path / "fleet",
            transport=lambda federation, folder: None,
        )
    assert not (tmp_path / "fleet").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_refuses_is_one_sentence_and_the_run_goes_on_later(workers: int, tmp_path: Path) -> None:
    tables = config("weights", run={**KEPT, "workers": workers})
    whole = kept(spikefed.run(tables, out=tmp_path / "whole"))
    path = tmp_path / "run"
    spikefed.run({**tables, "rounds": 1}, out=path)
    for file in RunFolder(path).personal_models().values():
        file.unlink()
    RunFolder(path).clients.rmdir()
    RunFolder(path).clients.write_text("in the way")
    with pytest.raises(CheckpointError, match="own network could not be written"):
        spikefed.run(tables, out=path, resume=True)
    RunFolder(path).clients.unlink()
    spikefed.run(tables, out=path, resume=True)
    assert kept(path) == whole


def test_status_lists_them(tmp_path: Path) -> None:
    run = spikefed.run(config("weights", run=KEPT), out=tmp_path / "run")
    found = status_of(run)
    told = {c["client"]: c["test_accuracy"] for c in lines_of(run)[-1]["clients"]}
    assert {c["client"]: c["test_accuracy"] for c in found["clients"]} == told
    assert [c["model"] for c in found["clients"]] == [str(RunFolder(run).personal(c)) for c in range(3)]
    text = status_text(found)
    assert found["run"] == str(run) and text.startswith(f"{run}: finished")
    assert f"its own network {told[2]:.4f}; kept in {RunFolder(run).personal(2)}" in text
