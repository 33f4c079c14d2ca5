"""An experiment on share folders gives what each machine of them computes, to the bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import spikefed
from experiment.shares import CLIENTS, write_elsewhere, write_file
from spikefed.cli import app
from spikefed.data import Reading, public_set_id, read_public
from spikefed.deploy.shares import own_folder, read_share, write_shares
from spikefed.errors import ConfigError, DataError
from spikefed.experiment import load
from spikefed.experiment.build import build
from spikefed.experiment.dealing import deal
from spikefed.federated import Request


@pytest.fixture
def shares(tmp_path: Path) -> Path:
    return write_elsewhere(tmp_path / "shares")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_file(tmp_path)


def same(one: Path, other: Path) -> bool:
    names = ("model.safetensors", "ledger.jsonl")
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def test_each_machine_computes_what_the_simulation_computes_for_it(shares: Path, file: Path) -> None:
    whole = build(load(file, [f'data.dataset="shares:{shares}"']))
    assert whole.train.class_names == ("row", "column") and len(whole.split.clients) == CLIENTS
    for client in range(CLIENTS):
        own = read_share(load(file), client, shares / f"client-{client}")
        assert own.public_facts() == whole.public_facts()
        request = Request(client, 1, None)
        assert own.worker(client).handle(request).uplink == whole.worker(client).handle(request).uplink
    server = build(load(file, [f'data.dataset="shares:{shares / "server"}"']))
    assert server.public_facts() == whole.public_facts() and not len(server.train)
    assert torch.equal(server.test.images, whole.test.images) and torch.equal(server.test.labels, whole.test.labels)
    for name in ("server", "client-1"):
        assert own_folder(shares, name) == own_folder(shares / name, name) == shares / name


def test_local_and_pool_give_the_same_run_and_a_resumed_one_goes_on(shares: Path, file: Path, tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["run", str(file), "--data", str(shares), "--out", str(tmp_path / "local"), "-q"])
    assert told.exit_code == 0, told.output
    given = [f'data.dataset="shares:{shares}"']
    pool = spikefed.run(file, overrides=[*given, "run.workers=2"], out=tmp_path / "pool")
    first = spikefed.run(file, overrides=[*given, "rounds=1"], out=tmp_path / "again")
    again = spikefed.run(file, overrides=given, out=first, resume=True)
    assert same(tmp_path / "local", pool) and same(tmp_path / "local", again)
    assert spikefed.load_model(pool).class_names == ("row", "column")


def test_folders_that_have_moved_are_named_again(shares: Path, file: Path, tmp_path: Path) -> None:
    invoke = CliRunner().invoke
    command = ["run", str(file), "--out", str(tmp_path / "run"), "-q", "--data"]
    assert invoke(app, [*command, str(shares), "--set", "rounds=1"]).exit_code == 0
    moved = shares.rename(tmp_path / "moved")
    assert "is no folder" in str(invoke(app, [*command, str(shares), "--resume"]).exception)
    assert invoke(app, [*command, str(moved), "--resume"]).exit_code == 0
    found = invoke(app, ["probe", str(tmp_path / "run"), "accuracy", "--data-dir", str(moved)])
    assert found.exit_code == 0, found.output
    both = invoke(app, [*command, str(moved), "--data-dir", str(moved)])
    assert "both name the folder of the data" in str(both.exception)


def test_another_order_of_the_files_is_the_same_run_and_other_rows_are_refused(
    shares: Path, file: Path, tmp_path: Path
) -> None:
    given = [f'data.dataset="shares:{shares}"']
    one = spikefed.run(file, overrides=[*given, "rounds=1"], out=tmp_path / "one")
    with np.load(shares / "client-1/public.npz") as archive:
        told = dict(archive)
    np.savez(shares / "client-1/public.npz", **{**told, "images": told["images"][::-1]})
    assert same(one, spikefed.run(file, overrides=[*given, "rounds=1"], out=tmp_path / "two"))
    wrong = {
        "other pixels": told["images"] ^ np.uint8(1),
        "has 23 rows, the server's 24": told["images"][1:],
        "are 1x8x7 uint8": told["images"][:, :, 1:],
    }
    for said, images in wrong.items():
        np.savez(shares / "client-1/public.npz", **{**told, "images": images})
        with pytest.raises(DataError, match=f"client-1: .*{said}"):
            build(load(file, given))
    np.savez(shares / "client-1/public.npz", **{**told, "order": "given"})
    with pytest.raises(DataError, match="in another order"):
        build(load(file, given))
    build(load(file, [*given, 'data.public_order="content"']))


@pytest.mark.parametrize("dataset", ["digits", "watch"])
def test_shares_dealt_from_a_data_set_give_the_run_on_the_data_set(file: Path, tmp_path: Path, dataset: str) -> None:
    given = ["rounds=1", "data.public=30", "data.private_per_client=20", "data.test_limit=40", "data.own_test=0.2"]
    if dataset == "watch":
        pytest.importorskip("seglearn")
        given += ['data.dataset="watch"', 'network.name="small-1d"', 'data.evaluate_on="test"']
    config = load(file, given)
    folders = write_shares(config, tmp_path / "shares")
    assert [path.name for path in folders] == ["client-0", "client-1", "client-2", "server"]
    one = spikefed.run(file, overrides=given, out=tmp_path / "one")
    other = spikefed.run(file, overrides=[*given, f'data.dataset="shares:{tmp_path / "shares"}"'], out=tmp_path / "two")
    assert same(one, other)
    people = [json.loads((path / "result.json").read_text())["people"] for path in (one, other)]
    assert people[0] == people[1] and all(row["test_items"] for row in people[0])
    assert build(config).train.class_names == read_share(config, 0, folders[0]).train.class_names


@pytest.mark.parametrize("count", [24, 30])
def test_an_own_public_file_has_one_id_whatever_its_order_where_the_config_asks(
    tmp_path: Path, file: Path, count: int
) -> None:
    """Drawn from it in part or whole; without the key, runs stay as they were before there was one."""
    rows = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    found = {}
    for key in ('data.public_order="content"', "data.clients=3"):
        for number, order in enumerate((np.arange(30), np.random.default_rng(1).permutation(30))):
            path = tmp_path / f"{number}.npz"
            np.savez(
                path, images=rows[order], labels=np.arange(30) % 2, test_images=rows, test_labels=np.arange(30) % 2
            )
            given = [f'data.public_dataset="npz:{path}"', f"data.public={count}", key]
            found[key, number] = build(load(file, given)).split.public_id
    assert found['data.public_order="content"', 0] == found['data.public_order="content"', 1]
    assert len(set(found.values())) == 3
    np.savez(tmp_path / "public.npz", images=rows, classes=10)
    if count == 30:  # a client's copy of the same rows, however it stored them
        share = read_public(tmp_path, Reading(), content=True)
        assert public_set_id(share.rows.images) == found['data.public_order="content"', 0]


def test_what_share_folders_cannot_do_is_one_sentence(shares: Path, file: Path, tmp_path: Path) -> None:
    server = f'data.dataset="shares:{shares / "server"}"'
    with pytest.raises(ConfigError, match="holds no client's share"):
        spikefed.run(file, overrides=[server], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(DataError, match="evaluate_on = 'test'"):
        deal(load(file, [server, 'data.evaluate_on="validation"']))
    shutil.rmtree(shares / "client-2")
    with pytest.raises(DataError, match="client-2 is missing.*data.clients = 2"):
        build(load(file, [f'data.dataset="shares:{shares}"']))
    with pytest.raises(DataError, match="no image is left to train on"):
        np.savez(shares / "client-0/private.npz", images=np.zeros((1, 8, 8), np.uint8), labels=np.zeros(1, int))
        read_share(load(file), 0, shares / "client-0")
