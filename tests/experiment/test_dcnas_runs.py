"""Whole runs of dc-nas: killed and resumed, and the small network that a run folder holds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import spikefed
from experiment.runs import fingerprint
from federated.supers import config
from spikefed.errors import ConfigError
from spikefed.experiment import RunFolder, toml
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


KILLED = """
import os, pathlib, signal
from spikefed.federated.methods.dcnas import DcNas

class Killed(DcNas):
    name = "killed"

    def client_round(self, state, downlink, ctx):
        first = pathlib.Path("killed-once")
        if ctx.round == 3 and ctx.client == 1 and not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().client_round(state, downlink, ctx)
"""


@pytest.mark.slow
def test_killed_in_the_middle_of_a_search_and_resumed_it_is_identical(tmp_path: Path) -> None:
    (tmp_path / "killeddcnas.py").write_text(KILLED)
    tables = config({"name": "killeddcnas:Killed", "search_rounds": 3})
    (tmp_path / "killed.toml").write_text(toml.dump(tables))
    command = [sys.executable, "-m", "spikefed", "run", "killed.toml", "--quiet", "--out"]
    paths = [str(tmp_path), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

    def run(folder: str, *more: str) -> int:
        return subprocess.run([*command, folder, *more], cwd=tmp_path, env=environment, check=False).returncode

    assert run("parts") == -signal.SIGKILL
    assert run("parts", "--resume") == 0 and run("whole") == 0
    assert fingerprint(tmp_path / "parts") == fingerprint(tmp_path / "whole")
