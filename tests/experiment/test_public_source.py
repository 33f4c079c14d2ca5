"""Public rows made during a run: both ends alike, counted, resumed, over processes, and when arithmetic differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import spikefed
from experiment.conftest import TINY
from experiment.runs import fingerprint
from spikefed.data import NOISE, made_public
from spikefed.errors import ConfigError
from spikefed.experiment import RunFolder, build
from spikefed.experiment import config as configs
from spikefed.federated import publicsource
from spikefed.federated.publicsource import ClientSource, Maker, PublicRows
from spikefed.federated.randomness import SPLIT, derive_seed
from spikefed.wire import Ledger, Record
from spikefed.wire.publicrows import OVERHEAD_BYTES

METHODS: dict[str, dict[str, Any]] = {
    "fsd": TINY["method"],
    "fsd secure": {**TINY["method"], "secure": True},
    "fsd+": {"name": "fsd+", "server_epochs": 1, "row_share": 0.5},
    "fsd+ labels": {"name": "fsd+", "server_epochs": 1, "send": "labels"},
    "hdsfl": {**TINY["method"], "name": "hdsfl", "hint_layer": "conv1"},
    "cfd": {**TINY["method"], "name": "cfd"},
    "ds-fl": {**TINY["method"], "name": "ds-fl", "public_per_round": 10},
    "feddf": {"name": "feddf", "server_epochs": 1},
}
ROWS_BYTES = 24 * 64


def config(kind: str, method: str = "fsd", **changes: Any) -> dict[str, Any]:
    source = {"kind": kind, "steps": 3, "lr": 0.2, **changes.pop("source", {})}
    network = {"name": "4C3-12FC", "steps": 4} if method == "hdsfl" else TINY["network"]
    told = {**TINY, "network": network, "method": METHODS[method], **changes}
    return {**told, "data": {**TINY["data"], "public_source": source, **changes.get("data", {})}}


def notes(run: Path) -> list[Record]:
    return [record for record in Ledger.read_jsonl(RunFolder(run).ledger).records if record.kind == "public-rows"]


def lines_of(run: Path) -> list[dict[str, Any]]:
    return RunFolder(run).read_lines(RunFolder(run).metrics)


@pytest.mark.parametrize("kind", ["sent", "seeds"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_that_distils_takes_it(method: str, kind: str, tmp_path: Path) -> None:
    run = spikefed.run(config(kind, method), out=tmp_path / "run")
    lines = lines_of(run)
    assert [line["merged"] for line in lines] == [True] * 3 and not any(line["dropped"] for line in lines)
    told = notes(run)
    if method == "feddf":  # the server alone looks at them
        assert told == []
        return
    later = [record for record in told if record.round > 1]
    assert len(later) == 4 and all(record.encoded_bytes == OVERHEAD_BYTES for record in told if record.round == 1)
    travels = [record.encoded_bytes > ROWS_BYTES / 2 for record in later]
    assert travels == [kind == "sent"] * 4
    assert RunFolder(run).read_result()["public_set_bytes"] == 0


@pytest.mark.parametrize("kind", ["sent", "seeds"])
@pytest.mark.parametrize("method", ["fsd", "fsd+", "ds-fl", "feddf"])
def test_resumed_and_over_processes_it_ends_where_it_would_have(method: str, kind: str, tmp_path: Path) -> None:
    whole = spikefed.run(config(kind, method), out=tmp_path / "whole")
    for rounds in (1, 2, 3):
        spikefed.run(config(kind, method, rounds=rounds), out=tmp_path / "parts", resume=True)
    over = spikefed.run(config(kind, method, run={"threads": 1, "workers": 2}), out=tmp_path / "over")
    assert fingerprint(tmp_path / "parts") == fingerprint(whole) == fingerprint(over)


def test_a_client_whose_arithmetic_differs_is_sent_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = spikefed.run(config("seeds"), out=tmp_path / "plain")
    own = Maker.rows
    inside: list[int] = []
    renew = ClientSource.renew

    def at_client(self: ClientSource, *args: Any) -> PublicRows:
        inside.append(1)
        try:
            return renew(self, *args)
        finally:
            inside.pop()

    def off(self: Maker, weights: Any, round: int) -> PublicRows:
        found = own(self, weights, round)
        if not inside:
            return found
        images = found.images.clone()
        images[0, 0, 0, 0] ^= 1  # the last bit of one pixel
        return PublicRows.of(images)

    monkeypatch.setattr(ClientSource, "renew", at_client)
    monkeypatch.setattr(Maker, "rows", off)
    other = spikefed.run(config("seeds"), out=tmp_path / "other")
    assert RunFolder(other).model.read_bytes() == RunFolder(plain).model.read_bytes()
    assert sum(record.encoded_bytes > ROWS_BYTES / 2 for record in notes(other)) == 4
    assert sum(record.encoded_bytes > ROWS_BYTES / 2 for record in notes(plain)) == 0


def test_who_missed_a_renewal_is_sent_the_rows(tmp_path: Path) -> None:
    schedule = {"schedule": "list", "rounds": [[0, 1], [0], [0, 1], [0, 1]]}
    run = spikefed.run(config("seeds", rounds=4, participation=schedule), out=tmp_path / "run")
    assert not any(line["dropped"] for line in lines_of(run))
    sent = {(record.round, record.client) for record in notes(run) if record.encoded_bytes > ROWS_BYTES / 2}
    assert sent == {(3, 1), (4, 1)}


def test_rows_are_renewed_every_so_many_rounds_from_noise_on(tmp_path: Path) -> None:
    tree = config("sent", rounds=5, source={"every": 2})
    run = spikefed.run(tree, out=tmp_path / "run")
    assert sorted({record.round for record in notes(run) if record.encoded_bytes > ROWS_BYTES / 2}) == [3, 5]
    federation = build(configs.from_tree(tree))
    noise = made_public(NOISE, federation.train, 24, derive_seed(0, SPLIT)).images
    assert torch.equal(federation.split.public_images.sort(0).values, noise.sort(0).values)


def test_no_steps_are_other_noise_each_time(tmp_path: Path) -> None:
    tree = config("seeds", source={"steps": 0}, network={"name": "4C3-AP2", "steps": 4, "norm": "none"})
    run = spikefed.run(tree, out=tmp_path / "run")
    assert not any(line["dropped"] for line in lines_of(run))
    maker = build(configs.from_tree(tree)).maker
    assert maker is not None
    rows = maker.rows(maker.start(), 2)
    assert rows.images.shape == maker.first.images.shape and rows.id == maker.rows({}, 2).id != maker.first.id


def test_what_one_process_remembers_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of one process share what the same inputs give; without that each computes for itself, to the same."""
    shared = spikefed.run(config("seeds"), out=tmp_path / "shared")
    monkeypatch.setattr(Maker, "_once", lambda self, key, make: make())
    alone = spikefed.run(config("seeds"), out=tmp_path / "alone")
    assert fingerprint(shared) == fingerprint(alone)
    assert publicsource.KEPT > 3


def test_another_seed_makes_other_rows_and_the_network_matters(tmp_path: Path) -> None:
    ids = set()
    for seed, kind in ((0, "seeds"), (1, "seeds"), (0, "sent")):
        federation = build(configs.from_tree({**config(kind), "seed": seed}))
        maker = federation.maker
        assert maker is not None
        start = maker.start()
        ids.add(maker.rows(start, 2).id)
        assert maker.rows(start, 2).id != maker.rows(start, 3).id
        moved = {name: value + 0.5 if value.is_floating_point() else value for name, value in start.items()}
        assert maker.rows(moved, 2).id != maker.rows(start, 2).id
    assert len(ids) == 2  # the kind does not matter to how rows are made


@pytest.mark.parametrize("kind", ["sent", "seeds"])
def test_a_generator_makes_the_rows(kind: str, tmp_path: Path) -> None:
    """Both ends train the same generator: no rows travel but those that the server sends, and a resumed run agrees."""
    tree = config(kind, source={"recipe": "generator"})
    whole = spikefed.run(tree, out=tmp_path / "whole")
    assert not any(line["dropped"] for line in lines_of(whole))
    travels = [record.encoded_bytes > ROWS_BYTES / 2 for record in notes(whole) if record.round > 1]
    assert travels == [kind == "sent"] * 4
    for rounds in (1, 3):
        spikefed.run({**tree, "rounds": rounds}, out=tmp_path / "parts", resume=True)
    assert fingerprint(tmp_path / "parts") == fingerprint(whole)


def test_a_generators_rows_are_no_moved_pixels() -> None:
    ids = set()
    for recipe in ("impressions", "statistics", "generator"):
        maker = build(configs.from_tree(config("seeds", source={"recipe": recipe}))).maker
        assert maker is not None
        rows = maker.rows(maker.start(), 2)
        assert rows.images.shape == maker.first.images.shape
        ids.add(rows.id)
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": {"public_source": {"kind": "sends"}}}, "data.public_source.kind"),
        ({"data": {"public_source": {"kind": "sent", "step": 3}}}, "unknown key 'data.public_source.step'"),
        ({"data": {"public_source": {"every": 2}}}, "does nothing while its kind is 'set'"),
        ({"method": {"name": "fedavg"}}, "method fedavg has no public rows"),
        ({"method": {"name": "feddf", "rows": "generator"}}, "nobody would look at the rows of data.public_source"),
        (
            {
                "data": {"public_source": {"kind": "seeds", "recipe": "statistics"}},
                "network": {"name": "4C3-AP2", "norm": "none"},
            },
            "no batch norm",
        ),
    ],
)
def test_what_a_newcomer_would_type_wrong(changes: dict[str, Any], words: str) -> None:
    tree = {**config("seeds"), **changes}
    if "data" in changes:
        tree["data"] = {**TINY["data"], **changes["data"]}
    with pytest.raises(ConfigError, match=words):
        build(configs.from_tree(tree))


def test_a_key_at_its_default_leaves_the_hash_as_it_was() -> None:
    plain = configs.from_tree(TINY)
    told = configs.from_tree({**TINY, "data": {**TINY["data"], "public_source": {"kind": "set"}}})
    assert plain.hash() == told.hash() != configs.from_tree(config("sent")).hash()
