"""Own networks keep their promises through whole runs: tied tensors, and randomness that belongs to the run."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import spikefed
from experiment.runs import fingerprint
from experiment.test_every_method import WHOLE_SEARCH
from spikefed.errors import ConfigError
from spikefed.experiment import toml
from spikefed.federated.methods import METHODS
from spikefed.networks import build_own, load_tensors, read_tensors

NETWORK = "experiment.ownnets:Restless"
METHODS_OF_OWN = sorted(set(METHODS) - {"hdsfl", "dc-nas", "adapters"})  # which need a hint layer, branches, parts


def config(method: str = "fsd", workers: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "name": "promises",
        "rounds": 2,
        "data": {"clients": 3, "private_per_client": 32, "public": 20, "test_limit": 40},
        "network": {"name": NETWORK, "steps": 4},
        "training": {"local_epochs": 1, "local_batch": 8},
        "method": WHOLE_SEARCH if method == "tickets" else {"name": method},
        "run": {"threads": 1, "workers": workers},
        **changes,
    }


def disturb() -> None:
    """Whatever was drawn before a run is no part of it."""
    random.random(), np.random.rand(3), torch.rand(7)  # noqa: NPY002


@pytest.mark.parametrize("method", METHODS_OF_OWN)
def test_every_method_saves_a_tied_tensor_once_and_repeats_its_randomness(method: str, tmp_path: Path) -> None:
    one = spikefed.run(config(method), out=tmp_path / "one")
    disturb()
    two = spikefed.run(config(method), out=tmp_path / "two")
    assert fingerprint(one) == fingerprint(two)
    tensors = read_tensors(one / "model.safetensors").tensors
    assert "module.mix.weight" in tensors and "module.again.weight" not in tensors
    net = build_own(NETWORK, input_shape=(1, 8, 8), classes=10, steps=4)
    load_tensors(net, tensors)
    assert net.module.again.weight is net.module.mix.weight
    assert torch.equal(net.module.again.weight, tensors["module.mix.weight"])


@pytest.mark.parametrize("method", ["fsd", "fsd+", "fedavg"])
def test_processes_and_a_pause_change_no_draw(method: str, tmp_path: Path) -> None:
    whole = fingerprint(spikefed.run(config(method), out=tmp_path / "one process"))
    assert fingerprint(spikefed.run(config(method, workers=2), out=tmp_path / "two")) == whole
    for rounds in (1, 2):
        spikefed.run(config(method, rounds=rounds), out=tmp_path / "resumed", resume=True)
        disturb()
    assert fingerprint(tmp_path / "resumed") == whole


def test_a_run_leaves_the_shared_generators_as_they_were(tmp_path: Path) -> None:
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    spikefed.run(config(), out=tmp_path / "run")
    after = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    assert before[0] == after[0] and torch.equal(before[2], after[2])
    assert all(np.array_equal(a, b) for a, b in zip(before[1], after[1], strict=True))


def test_a_tied_tensor_travels_once(tmp_path: Path) -> None:
    folder = spikefed.run(config("fedavg"), out=tmp_path / "run")
    sent = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    net = build_own(NETWORK, input_shape=(1, 8, 8), classes=10, steps=4)
    numbers = sum(p.numel() for p in net.parameters())  # each once, as parameters() has them
    statistics = 2 * 16 * 4 + 8
    headers = {m["encoded_bytes"] - 4 * numbers - statistics for m in sent if m["direction"] == "up"}
    assert len(headers) == 1 and 0 < min(headers) < 64


@pytest.mark.slow
def test_a_fleet_draws_as_one_process_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("flwr")
    from spikefed.deploy.loopback import Loopback, differing

    here = str(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")])))
    file = tmp_path / "own.toml"
    file.write_text(toml.dump(config("fedavg")))
    local = spikefed.run(file, out=tmp_path / "local")
    with Loopback(file, tmp_path / "fleet") as fleet:
        fleet.start()
        assert fleet.wait("server", 240) == 0, fleet.said("server")
        assert differing(local, fleet.run) == []


REMEMBERING = "experiment.ownnets:Remembering"


def test_a_network_that_remembers_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hidden state in mem.*network.state = 'keep'"):
        spikefed.run(config(network={"name": REMEMBERING, "steps": 4}), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["fsd", "fedavg"])
def test_state_kept_on_purpose_never_goes_from_client_to_client(method: str, tmp_path: Path) -> None:
    kept = {"network": {"name": REMEMBERING, "steps": 4, "state": "keep"}}
    one = fingerprint(spikefed.run(config(method, **kept), out=tmp_path / "one"))
    assert fingerprint(spikefed.run(config(method, workers=2, **kept), out=tmp_path / "two")) == one
    for rounds in (1, 2):
        spikefed.run(config(method, rounds=rounds, **kept), out=tmp_path / "resumed", resume=True)
    assert fingerprint(tmp_path / "resumed") == one


def test_kept_state_is_for_networks_of_ones_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'network.state' = 'keep' is for networks of your own"):
        spikefed.run(config(network={"name": "4C3-AP2", "state": "keep"}), out=tmp_path / "run")
