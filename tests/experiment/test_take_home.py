"""What clients take home: measured on the networks that they really hold, the same everywhere, and free of effects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import spikefed
from experiment.runs import fingerprint
from spikefed.errors import ConfigError
from spikefed.experiment import RunFolder, build
from spikefed.experiment import config as configs
from spikefed.federated.distillation import Distillation
from spikefed.federated.messages import from_wire
from spikefed.federated.randomness import EVALUATE, generator
from spikefed.federated.takehome import KEYS, MEAN, VOTE, TakeHome, measured, together
from spikefed.training import outputs
from spikefed.wire import Ledger

DISTILLED = {"distil_epochs": 1, "server_epochs": 1, "distil_batch": 8}
VARIANTS: dict[str, dict[str, Any]] = {
    "never reset": {"name": "fsd", "client_reset": "never", **DISTILLED},
    "common reset": {"name": "fsd", "client_reset": "common", **DISTILLED},
    "own reset": {"name": "fsd+", "client_reset": "own", **DISTILLED},
    "weights": {"name": "fedavg"},
    "norms stay": {"name": "fedavg", "send": ["weight"]},
    "a noisy upload": {"name": "fedavg", "update_noise": 2.0},
    "alone": {"name": "local"},
    "class means": {"name": "fd"},
}


def config(variant: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "rounds": 2,
        "data": {"clients": 3, "private_per_client": 32, "public": 20, "test_limit": 60},
        "network": {"name": "4C3-AP2-12FC", "steps": 4, "norm": "bn"},
        "training": {"local_epochs": 2, "local_batch": 16, "lr": 0.01},
        "method": VARIANTS[variant],
        "run": {"threads": 1, "take_home": True},
        **changes,
    }


def lines_of(path: Path) -> list[dict[str, Any]]:
    return RunFolder(path).read_lines(RunFolder(path).metrics)


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_changes_nothing_and_is_the_same_over_processes_and_after_a_resume(variant: str, tmp_path: Path) -> None:
    without = config(variant, run={"threads": 1})
    assert configs.from_tree(without).hash() == configs.from_tree(config(variant)).hash()
    plain, ledger, model = fingerprint(spikefed.run(without, out=tmp_path / "plain"))
    assert not any(key in line for line in plain for key in KEYS)
    whole = fingerprint(spikefed.run(config(variant), out=tmp_path / "whole"))
    for rounds in (1, 2):
        run = {"threads": 1, "take_home": True, "workers": 2}
        spikefed.run(config(variant, rounds=rounds, run=run), out=tmp_path / "pool", resume=True)
    assert fingerprint(tmp_path / "pool") == whole and whole[1:] == (ledger, model)
    for line in whole[0]:
        own = [entry.pop("test_accuracy") for entry in line["clients"]]
        mean, least, most, vote = (line.pop(key) for key in KEYS)
        assert mean == pytest.approx(sum(own) / 3) and (least, most) == (min(own), max(own)) and 0 <= vote <= 1
    assert whole[0] == plain


@pytest.mark.parametrize("variant", ["alone", "class means", "norms stay"])
def test_where_the_run_is_measured_on_its_clients_both_say_the_same(variant: str, tmp_path: Path) -> None:
    for line in lines_of(spikefed.run(config(variant), out=tmp_path / "run")):
        assert line[MEAN] == pytest.approx(line["server_accuracy"], abs=1e-12)


def test_of_weights_it_is_what_each_client_uploads(tmp_path: Path) -> None:
    federation = build(configs.from_tree(config("weights")))
    server = federation.server(federation.local_transport(), Ledger())
    record = server.run_round()
    total = torch.zeros(60, 10)
    for client, uplink in record.uplinks.items():
        net = federation.networks.load(from_wire(uplink.tensors))
        draws = generator(0, EVALUATE, 1)
        found = outputs(net, federation.test.images, preprocess=federation.preprocess, generator=draws).mean(dim=2)
        taken = record.replies[client].taken
        assert taken is not None and torch.equal(taken.scores, found)
        assert taken.accuracy == federation.evaluate(net, 1).accuracy
        total += found
    line = lines_of(spikefed.run(config("weights"), out=tmp_path / "run"))[0]
    assert line[VOTE] == pytest.approx(float((total.argmax(dim=1) == federation.test.labels).float().mean()))


@pytest.mark.parametrize("variant", ["never reset", "common reset", "own reset"])
def test_of_distillation_it_is_the_network_that_answered(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = build(configs.from_tree(config(variant)))
    server = federation.server(federation.local_transport(), Ledger())
    answered: dict[int, dict[str, torch.Tensor]] = {}
    whole = Distillation.client_round

    def watched(self: Any, state: Any, downlink: Any, ctx: Any) -> Any:
        found = whole(self, state, downlink, ctx)
        answered[ctx.client] = ctx.networks.weights(ctx.networks.network)
        return found

    monkeypatch.setattr(Distillation, "client_round", watched)
    server.run_round()
    record = server.run_round()
    assert sorted(answered) == [0, 1, 2]
    for client, weights in answered.items():
        taken = record.replies[client].taken
        assert taken is not None
        assert taken.accuracy == federation.evaluate(federation.networks.load(weights), 2).accuracy


def test_the_accuracy_probe_says_the_same_of_clients_and_vote(tmp_path: Path) -> None:
    tables = config("never reset") | {"probe": [{"name": "accuracy"}]}
    path = spikefed.run(tables, out=tmp_path / "run")
    told = RunFolder(path).read_json(RunFolder(path).probes / "accuracy.json")["measurements"][-1]["headline"]
    result = RunFolder(path).read_result()
    assert told["vote_accuracy"] == pytest.approx(result[VOTE])
    assert told["client_accuracy_mean"] == pytest.approx(result[MEAN])
    assert result["curve"][-1][VOTE] == result[VOTE] and result[MEAN] == lines_of(path)[-1][MEAN]


def test_only_those_who_took_part_and_did_not_diverge_count(tmp_path: Path) -> None:
    rounds = {"schedule": "list", "rounds": [[0, 2], [1]]}
    lines = lines_of(spikefed.run(config("weights", participation=rounds), out=tmp_path / "run"))
    assert [[c["client"] for c in line["clients"] if "test_accuracy" in c] for line in lines] == [[0, 2], [1]]
    assert lines[1][MEAN] == lines[1]["clients"][0]["test_accuracy"] == lines[1][VOTE]
    training = {"local_epochs": 2, "local_batch": 16, "optimiser": "sgd", "lr": 1000.0}
    federation = build(configs.from_tree(config("weights", training=training)))
    record = federation.server(federation.local_transport(), Ledger()).run_round()
    taken = {c: r.taken for c, r in record.replies.items() if r.taken is not None}
    assert {d["client"] for d in record.dropped}.isdisjoint(taken)
    assert together({}, federation.test.labels) == dict.fromkeys(KEYS)


def test_a_vote_beats_its_voters_where_their_mistakes_differ() -> None:
    labels = torch.tensor([0, 1, 2])
    taken = {}
    for client in range(3):  # each is wrong, and unsure, on another image
        scores = 2 * torch.eye(3)
        scores[client] = torch.eye(3)[(client + 1) % 3]
        taken[client] = measured(scores, labels)
    assert {t.accuracy for t in taken.values()} == {2 / 3}
    found = together(taken, labels)
    assert found[VOTE] == 1.0 and found[MEAN] == pytest.approx(2 / 3)
    assert together(dict(reversed(taken.items())), labels) == found
    assert isinstance(taken[0], TakeHome)


def test_a_fleet_says_where_it_can_be_measured(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs them all in one process; leave it out of a fleet"):
        spikefed.run(config("weights"), out=tmp_path / "run", transport=lambda federation, folder: None)
    assert not (tmp_path / "run").exists()
