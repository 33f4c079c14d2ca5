"""Whole runs of dc-nas: killed and resumed, and the small network that a run folder holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import spikefed
from experiment.killing import check_killed_is_whole
from federated.supers import config
from spikefed.errors import ConfigError
from spikefed.experiment import RunFolder
from spikefed.networks import build, describe, load_tensors, slimmed, state_tensors


@pytest.mark.parametrize("twin", [None, "ann"])
def test_the_small_network_inside_a_run_is_the_network_of_the_run(twin: str | None, tmp_path: Path) -> None:
    tables = config({"prune": 0.4})
    tables["network"] = {**tables["network"], **({"twin": twin} if twin else {})}
    run = spikefed.run(tables, out=tmp_path / "run")
    last = RunFolder(run).read_lines(RunFolder(run).metrics)[-1]
    model = spikefed.load_model(run)
    small = slimmed(model.network)
    assert describe(small).parameters == last["diagnostics"]["network_parameters"]
    assert small.name.endswith("width=4")
    x = torch.rand(20, 1, 8, 8)
    model.network.eval()
    assert torch.allclose(small.eval()(x), model.network(x), atol=1e-5)
    kept = sum(tensor.numel() for tensor in state_tensors(small).values())
    whole = sum(tensor.numel() for tensor in state_tensors(model.network).values())
    assert kept < 0.7 * whole


def test_an_experiment_begins_from_the_small_network(tmp_path: Path) -> None:
    """The name of what was found stands in network.name, and its weights in a file of its own."""
    run = spikefed.run(config(), out=tmp_path / "run")
    small = slimmed(spikefed.load_model(run).network)
    again = build(small.name, input_shape=(1, 8, 8), classes=10, steps=3)
    load_tensors(again, state_tensors(small))
    x = torch.rand(10, 1, 8, 8)
    assert torch.equal(again.eval()(x), small.eval()(x))
    tables = config(network={"name": small.name, "steps": 3}) | {"method": {"name": "fedavg"}, "rounds": 1}
    assert spikefed.run(tables, out=tmp_path / "further")
    with pytest.raises(ConfigError, match="leaves branches out already"):
        spikefed.run(config(network={"name": small.name, "steps": 3}), out=tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_one_search_gives_every_class_of_devices_a_network_of_its_own(tmp_path: Path) -> None:
    tables = config({"devices": [0.25, 0.12]}, run={"threads": 1, "take_home": True, "keep_clients": True})
    run = spikefed.run(tables, out=tmp_path / "run")
    said = RunFolder(run).read_lines(RunFolder(run).metrics)[-1]["diagnostics"]
    nets = [slimmed(spikefed.load_model(run, client=c).network) for c in range(3)]
    sizes = [describe(net).parameters for net in nets]
    assert sizes == [said["network_parameters"], said["device_1_parameters"], said["device_2_parameters"]]
    assert sizes[0] >= sizes[1] >= sizes[2] < sizes[0]
    assert nets[0].name == slimmed(spikefed.load_model(run).network).name  # the server's is the largest
    names = [{name for name, _ in net.named_parameters()} for net in nets]
    assert names[0] >= names[1] >= names[2]


@pytest.mark.slow
def test_killed_in_the_middle_of_a_search_and_resumed_it_is_identical(tmp_path: Path) -> None:
    given = {"search_rounds": 3, "devices": [0.3], "prior": "sahd"}
    check_killed_is_whole(tmp_path, config(given), "spikefed.federated.methods.dcnas:DcNas", round=3)
