"""Training that diverges: clients are named and left out, the server keeps its last network, no run "succeeds"."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import spikefed
from experiment.parents import adapted
from experiment.runs import fingerprint
from experiment.test_every_method import IN_A_SUPERNET
from spikefed.deploy.status import status_of, status_text
from spikefed.errors import UnmergedError
from spikefed.experiment import RunFolder, build, from_tree
from spikefed.experiment.progress import troubles
from spikefed.federated import ClientContext, NetworkFactory
from spikefed.federated.divergence import growth, is_finite, lost
from spikefed.federated.methods import METHODS
from spikefed.federated.methods.fedavg import FedAvg
from spikefed.federated.methods.fsd import Fsd
from spikefed.networks import build as build_network

RUINOUS = {"optimiser": "sgd", "lr": 10.0, "weight_decay": 1e38}


def config(method: str | dict[str, Any], training: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "name": "ruin",
        "rounds": 2,
        "data": {"clients": 3, "private_per_client": 32, "public": 20, "test_limit": 40},
        "network": {"name": "4C3-AP2-12FC", "steps": 4},
        "training": {"local_epochs": 1, "local_batch": 16, **(training or {})},
        "method": {"name": method} if isinstance(method, str) else method,
        "run": {"threads": 1},
        **changes,
    }


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", sorted(METHODS))
def test_clients_that_all_diverge_are_named_and_the_run_is_no_success(method: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    table = {"name": method, "search": "random", "sparsities": [0.5], "level_rounds": 2}  # a whole search in two rounds
    with pytest.raises(
        UnmergedError, match="nothing was merged in the run's 2 rounds.*client 0: its training diverged"
    ):
        tables = config(table if method == "tickets" else method, RUINOUS)
        tables |= {"network": adapted("4C3-AP2-12FC")} if method == "adapters" else {}
        spikefed.run(tables | (IN_A_SUPERNET if method == "dc-nas" else {}), out=out)
    for line in lines_of(out):
        kinds = {drop["client"]: drop["kind"] for drop in line["dropped"]}
        assert kinds == dict.fromkeys(line["participants"], "diverged") and not line["merged"]
        assert "lower training.lr (10)" in line["dropped"][0]["reason"]
        assert math.isfinite(line["server_loss"])
    assert not (out / "result.json").exists() and not (out / "model.safetensors").exists()
    assert status_of(out)["state"] == "stopped"


class OneDiverges:
    """Client 1 trains with a learning rate that no network survives, in the rounds of ``when``."""

    when: tuple[int, ...] = (1, 2, 3)

    def client_round(self, state: Any, downlink: Any, ctx: ClientContext) -> Any:
        if ctx.client == 1 and ctx.round in self.when:
            object.__setattr__(ctx, "hyper", ctx.hyper.model_copy(update=RUINOUS))
        return super().client_round(state, downlink, ctx)  # type: ignore[misc]


class FsdOne(OneDiverges, Fsd):
    name = "one"


class FedAvgOne(OneDiverges, FedAvg):
    name = "one"


class FsdOnce(FsdOne):
    when = (2,)


HERE = "experiment.test_divergence:"


@pytest.mark.parametrize("made", ["FsdOne", "FedAvgOne"])
def test_one_that_diverges_changes_nothing_for_the_others(made: str, tmp_path: Path) -> None:
    spoilt = spikefed.run(config(HERE + made, rounds=3), out=tmp_path / "spoilt")
    method = {"FsdOne": "fsd", "FedAvgOne": "fedavg"}[made]
    without = {"schedule": "list", "rounds": [[0, 2]]}
    clean = spikefed.run(config(method, participation=without, rounds=3), out=tmp_path / "clean")
    models = [load_file(path / "model.safetensors") for path in (spoilt, clean)]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[1])
    line = lines_of(spoilt)[0]
    assert [drop["client"] for drop in line["dropped"]] == [1] and line["merged"]
    assert re.fullmatch(
        r"round 1: client 1 dropped: its training diverged: \d+ of its 18 tensors hold NaN or infinity \('.*' among "
        r"them\); it is left out of this round and goes on from what it had before; lower training.lr \(10\).*",
        *troubles(line),
    )
    assert "client 1: last accepted in round 0; diverged 3" in status_text(status_of(spoilt))


def test_a_client_goes_on_from_its_last_finite_network(tmp_path: Path) -> None:
    kept = {"name": HERE + "FsdOnce", "client_reset": "never"}
    one = spikefed.run(config(kept, rounds=3), out=tmp_path / "one")
    assert [[d["client"] for d in line["dropped"]] for line in lines_of(one)] == [[], [1], []]
    pool = spikefed.run(config(kept, rounds=3, run={"threads": 1, "workers": 2}), out=tmp_path / "pool")
    for rounds in (2, 3):
        spikefed.run(config(kept, rounds=rounds), out=tmp_path / "resumed", resume=True)
    assert fingerprint(one) == fingerprint(pool) == fingerprint(tmp_path / "resumed")


class ServerDiverges(Fsd):
    """A server that learns with a rate that no network survives in round 2."""

    name = "server"

    def server_round(self, state: Any, uplinks: Any, ctx: Any) -> Any:
        if ctx.round == 2:
            object.__setattr__(ctx, "hyper", ctx.hyper.model_copy(update={**RUINOUS, "distil_lr": 1e38}))
        return super().server_round(state, uplinks, ctx)


class ServerExplodes(FedAvg):
    """A server step that ends in infinity in round 2."""

    name = "explodes"

    def step(self, state: Any, merged: Any, ctx: Any) -> Any:
        return {
            n: t * (math.inf if ctx.round == 2 else 1) if t.is_floating_point() else t for n, t in merged.items()
        }, {}


@pytest.mark.parametrize("made", ["ServerDiverges", "ServerExplodes"])
def test_a_server_that_diverges_keeps_its_last_network_and_says_so(made: str, tmp_path: Path) -> None:
    path = spikefed.run(config(HERE + made, rounds=3), out=tmp_path / "run")
    one, two, three = lines_of(path)
    assert [line["merged"] for line in (one, two, three)] == [True, False, True]
    assert two["server_loss"] == one["server_loss"] and two["confusion"] == one["confusion"]
    assert two["diverged"].startswith("the server's network diverged: 15 of its 18 tensors hold NaN")
    assert troubles(two) == [f"round 2: {two['diverged']}"]
    assert "diverged" not in one and not two["dropped"]
    assert all(torch.isfinite(t).all() for t in load_file(path / "model.safetensors").values())
    found = status_of(path)
    assert found["rounds_diverged"] == [2] and found["rounds_without_quorum"] == []
    assert "rounds in which the server diverged: 2" in status_text(found)


def test_a_quorum_that_never_comes_is_no_success_either(tmp_path: Path) -> None:
    taking_part = {"schedule": "list", "rounds": [[0]], "quorum": 2}
    with pytest.raises(UnmergedError, match="too few uploads for participation.quorum"):
        spikefed.run(config("fsd", participation=taking_part), out=tmp_path / "run")


def test_weights_that_explode_without_a_nan_are_told_by_number(tmp_path: Path) -> None:
    wild = lines_of(spikefed.run(config("fsd", {"lr": 1000.0}), out=tmp_path / "wild"))[0]
    tame = lines_of(spikefed.run(config("fsd", {"lr": 0.03}), out=tmp_path / "tame"))[0]
    assert all(client["weight_growth"] > 1000 for client in wild["clients"])
    assert not any("weight_growth" in client for client in tame["clients"])


def test_what_is_lost_and_what_has_grown() -> None:
    made = NetworkFactory(lambda seed: build_network("4C3", input_shape=(1, 4, 4), classes=3, steps=2, seed=seed), 0)
    net = made.load()
    assert lost(made) == [] and growth(made) == pytest.approx(1.0)
    with torch.no_grad():
        for name in made.weight_names:
            net.get_parameter(name).mul_(70)
        assert growth(made) == pytest.approx(70.0)
        net.get_parameter("fc1.weight")[0, 0] = math.nan
        net.get_buffer("conv1.norm.running_mean")[1] = -math.inf
    assert lost(made) == ["conv1.norm.running_mean", "fc1.weight"]


def test_an_infinity_that_was_there_from_the_start_is_no_divergence() -> None:
    def masked(seed: int) -> torch.nn.Module:
        net = torch.nn.Linear(2, 2)
        net.register_buffer("mask", torch.tensor([0.0, -math.inf]))
        return net

    assert lost(NetworkFactory(masked, 0)) == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": {"b": torch.ones(2)}, "n": 3, "s": "text", "none": None, "counter": torch.tensor(7)}, True),
        ({"a": [{"b": torch.tensor([1.0, math.nan])}]}, False),
        ({"a": np.array([math.inf])}, False),
        ({"a": np.array([1, 2])}, True),
        ({"a": math.nan}, False),
    ],
)
def test_states_are_searched_to_the_bottom(value: Any, expected: bool) -> None:
    assert is_finite(value) is expected


def test_a_client_that_diverged_is_not_asked_to_find_out_again(tmp_path: Path) -> None:
    from spikefed.deploy.memory import Memory
    from spikefed.federated.exchange import Request

    federation = build(from_tree(config("fsd", RUINOUS)))
    memory = Memory(lambda: federation.worker(0), tmp_path / "state", "hash")
    first = memory.handle(Request(0, 1, None), "run")
    assert first.error and first.report == {"diverged": 1.0}
    again = Memory(lambda: federation.worker(0), tmp_path / "state", "hash")
    again._worker.handle = None  # type: ignore[method-assign, assignment]
    assert again.handle(Request(0, 1, None), "run") == first


def test_the_run_folder_stays_whole_for_whoever_looks(tmp_path: Path) -> None:
    with pytest.raises(UnmergedError):
        spikefed.run(config("fedavg", RUINOUS), out=tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    assert folder.exists() and not folder.finished() and not folder.busy()
    with pytest.raises(UnmergedError):
        spikefed.run(config("fedavg", RUINOUS), out=tmp_path / "run", resume=True)
