"""What is not well is found in the round that shows it, said once, and kept as long as it lasts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import spikefed
from experiment.runs import fingerprint
from spikefed.deploy.status import status_of, status_text
from spikefed.experiment import RunFolder, build
from spikefed.experiment import config as configs
from spikefed.experiment.federation import Federation
from spikefed.experiment.health import health, shown_by
from spikefed.experiment.progress import Quiet
from spikefed.federated import RoundRecord
from spikefed.federated.findings import fresh, lasting
from spikefed.federated.takehome import TakeHome
from spikefed.report import load_run, write_report
from spikefed.wire import Ledger


class Listener(Quiet):
    """Keeps what a console would say."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def round(self, line: dict[str, Any]) -> None:
        self.said += fresh(line)


def tables(**changes: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "rounds": 2,
        "data": {"clients": 3, "private_per_client": 100, "public": 40, "test_limit": 100},
        "network": {"name": "8C3-AP2-16FC", "steps": 4, "norm": "bn"},
        "training": {"local_epochs": 4, "local_batch": 16, "lr": 0.01},
        "method": {"name": "fedavg"},
        "run": {"threads": 1},
    } | changes


@pytest.fixture(scope="module")
def federation() -> Iterator[Federation]:
    yield build(configs.from_tree(tables()))


def line(**changes: Any) -> dict[str, Any]:
    """The metrics of a round in which all is well."""
    return {
        "round": 1,
        "class_spikes": [[0.1, 0.2]] * 10,
        "confusion": np.eye(10, dtype=int).tolist(),
        "firing_rates": {"conv1": 0.1, "fc1": 0.2, "fc2": 0.1},
        "clients": [{"client": c, "weight": 1 / 3} for c in range(3)],
        "diagnostics": {},
    } | changes


def found(federation: Federation, record: RoundRecord | None = None, **changes: Any) -> dict[str, tuple[str, str]]:
    told = health(line(**changes), record or RoundRecord(1, [0, 1, 2]), federation, None)
    return {finding["kind"]: (finding["what"], finding["text"]) for finding in told}


@pytest.mark.parametrize(
    ("kind", "what", "changes"),
    [
        ("silent", "outputs", {"class_spikes": [[0.0, 0.0]] * 10, "firing_rates": {"conv1": 0.1, "fc2": 0.0}}),
        ("one-class", "3", {"confusion": [[0, 0, 0, 9] + [0] * 6] * 10}),
        ("dead", "fc1", {"firing_rates": {"conv1": 0.1, "fc1": 0.0, "fc2": 0.1}}),
        ("saturated", "conv1", {"firing_rates": {"conv1": 0.995, "fc2": 0.1}}),
        ("grown", "clients", {"clients": [{"client": 1, "weight_growth": 98.0}, {"client": 2, "weight_growth": 60.0}]}),
        ("grown", "server", {"diagnostics": {"weight_growth": 60.0}}),
        ("weight", "client 2", {"clients": [{"client": c, "weight": 0.96 if c == 2 else 0.02} for c in range(3)]}),
    ],
)
def test_each_is_named_alone_with_what_to_try(
    kind: str, what: str, changes: dict[str, Any], federation: Federation
) -> None:
    told = found(federation, **changes)
    assert list(told) == [kind] and told[kind][0] == what
    assert any(word in told[kind][1] for word in ("; try ", "; lower ", "; check "))


def test_first_weights_that_nobody_trained_are_not_judged_but_a_gradient_of_0_is(federation: Federation) -> None:
    silent = {"class_spikes": [[0.0, 0.0]] * 10, "firing_rates": {"conv1": 0.0, "fc2": 0.0}}
    assert set(found(federation, **silent)) == {"silent", "dead"}
    assert found(federation, **silent, diagnostics={"untrained": 1.0, "largest_gradient": 0.2}) == {}
    told = found(federation, **silent, diagnostics={"untrained": 1.0, "largest_gradient": 0.0})
    assert list(told) == ["silent"] and told["silent"][0] == "gradient" and "another method.search" in told["silent"][1]


def test_the_first_round_of_snip_warns_of_nothing(tmp_path: Path) -> None:
    """Running statistics of the first weights are 0 and 1: in evaluation the outputs never fire."""
    method = {"name": "tickets", "search": "snip", "sparsities": [0.5], "level_rounds": 3}
    listener = Listener()
    run = spikefed.run(tables(method=method, rounds=4), out=tmp_path / "run", progress=listener)
    first, *_ = RunFolder(run).read_lines(RunFolder(run).metrics)
    assert not np.any(first["class_spikes"]) and "health" not in first
    assert first["diagnostics"]["largest_gradient"] > 0 and not listener.said


def test_where_all_is_well_nothing_is_said(federation: Federation, tmp_path: Path) -> None:
    assert found(federation) == {}
    two = [{"client": 0, "weight": 0.95}, {"client": 1, "weight": 0.05}]
    assert found(federation, clients=two) == {}  # of two, one may well have most
    run = spikefed.run(tables(), out=tmp_path / "run")
    assert not any("health" in entry for entry in RunFolder(run).read_lines(RunFolder(run).metrics))
    assert "Not well:" not in write_report([run], tmp_path / "report.html").read_text()


def test_a_silent_network_is_said_once_and_stands_everywhere(tmp_path: Path) -> None:
    network = {"name": "8C3-AP2-16FC", "steps": 4, "norm": "none", "neuron": {"threshold": 1e6}}
    listener = Listener()
    run = spikefed.run(tables(network=network), out=tmp_path / "run", progress=listener)
    lines = RunFolder(run).read_lines(RunFolder(run).metrics)
    kinds = [[(f["kind"], f["what"], f["since"]) for f in entry["health"]] for entry in lines]
    assert kinds[0] == kinds[1] == [("silent", "outputs", 1), ("dead", "conv1", 1), ("dead", "fc1", 1)]
    assert len(listener.said) == 3 and "the outputs never fire" in listener.said[0]
    told = status_text(status_of(run))
    assert "not well since round 1: the outputs never fire" in told
    page = write_report([run], tmp_path / "report.html").read_text()
    assert "Not well:" in page and "layer conv1 is dead" in page and "2 rounds, 1 to 2" in page
    assert [entry["rounds"] for entry in lasting(load_run(run).rounds)] == [[1, 2]] * 3
    spikefed.run(tables(network=network, rounds=1), out=tmp_path / "parts")
    again = Listener()
    spikefed.run(tables(network=network), out=tmp_path / "parts", resume=True, progress=again)
    assert fingerprint(tmp_path / "parts") == fingerprint(run) and again.said == []


def test_what_comes_back_is_said_again(federation: Federation) -> None:
    dead = {"firing_rates": {"conv1": 0.0, "fc2": 0.1}}
    record = RoundRecord(1, [0, 1, 2])
    first = line(**dead) | {"health": health(line(**dead), record, federation, None)}
    second = line(round=2) | {"health": health(line(round=2), record, federation, first)}
    third = line(round=3, **dead) | {"health": health(line(round=3, **dead), record, federation, second)}
    assert [len(fresh(entry)) for entry in (first, second, third)] == [1, 0, 1]


def test_classes_that_nobody_holds_and_a_test_set_without_some(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
    train, test = (images[:44], np.arange(44) % 4), (images[:8], np.arange(8) % 2)
    data = {"clients": 3, "private_per_client": 1, "public": 40, "validation": 0.0}
    run = spikefed.run(tables(data=data), dataset=(train, test), out=tmp_path / "run")
    told = {f["what"]: f["text"] for f in RunFolder(run).read_lines(RunFolder(run).metrics)[0]["health"]}
    assert told["clients"].startswith("no client holds image of class") and "data.partition" in told["clients"]
    assert told["test"].startswith("the test set has no image of classes '2', '3'")


@pytest.mark.parametrize("method", ["fsd", "cfd", "ds-fl", "hdsfl"])
def test_a_client_whose_claim_does_not_fit_is_named(method: str) -> None:
    config = tables(
        data={"clients": 4, "private_per_client": 100, "public": 40, "test_limit": 100},
        method={"name": method, "distil_epochs": 1, "server_epochs": 1},
        attack={"clients": [2], "kind": "random", "claim": 1.0},
    )
    if method == "hdsfl":
        config["attack"] = {"clients": [2], "kind": "flip-labels", "claim": 1.0}
    for attacked in (True, False):
        federation = build(
            configs.from_tree(config if attacked else {k: v for k, v in config.items() if k != "attack"})
        )
        record = federation.server(federation.local_transport(), Ledger()).run_round()
        told = [f for f in health(line(), record, federation, None) if f["kind"] == "claim"]
        assert [finding["what"] for finding in told] == (["client 2"] if attacked else [])


def test_where_networks_are_measured_a_claim_is_held_against_that(federation: Federation) -> None:
    uplinks = {c: SimpleNamespace(kind="weights", accuracy=0.9) for c in range(3)}
    replies = {c: SimpleNamespace(taken=TakeHome(0.2 if c == 1 else 0.85, None)) for c in range(3)}  # type: ignore
    record = RoundRecord(1, [0, 1, 2], uplinks=uplinks, replies=replies)  # type: ignore[arg-type]
    assert shown_by(record) == {0: 0.85, 1: 0.2, 2: 0.85}
    assert found(federation, record)["claim"][0] == "client 1"


def test_a_damaged_finding_is_left_out_of_the_report(tmp_path: Path) -> None:
    network = {"name": "8C3-AP2-16FC", "steps": 4, "norm": "none", "neuron": {"threshold": 1e6}}
    run = spikefed.run(tables(network=network, rounds=1), out=tmp_path / "run")
    path = run / "metrics.jsonl"
    entry = json.loads(path.read_text())
    del entry["health"][0]["text"]
    path.write_text(json.dumps(entry) + "\n")
    assert any("'health' is no list of findings" in problem for problem in load_run(run).problems)
    assert "layer conv1 is dead" in write_report([run], tmp_path / "report.html").read_text()
