"""Personal parts of tasks over a real fleet: they stay with their clients, and all else is what one process gives."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import spikefed
from deploy.fleets import HANGS_S, everybody_ends, lines, with_tasks
from spikefed import networks
from spikefed.deploy.loopback import Loopback, differing, miscounted
from spikefed.experiment import RunFolder
from spikefed.federated.history import History

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
CRASH = (sys.executable, str(Path(__file__).with_name("crash.py")))


@pytest.fixture
def file(tiny: Callable[..., Path]) -> Path:
    """Two tasks by turns; norms and head of each are shared, thresholds are each client's."""
    file = tiny(rounds=4)
    method = '[method]\nname = "adapters"\nserver = "adam"\npersonal = ["thresholds"]\n'
    with_tasks(file, ["thresholds", "head"], method)
    return file


def same_as_one_process(f: Loopback) -> None:
    """Ledger, server's state and every client's own network are those of ``spikefed run``; the model has no own part.

    The model file of one process is a client's, so it is no measure here.
    """
    local = spikefed.run(f.file, overrides=["run.keep_clients=true"], out=f.folder / "local")
    assert "ledger.jsonl" not in differing(local, f.run)
    folders = [RunFolder(path) for path in (local, f.run)]
    trees = [History(folder.checkpoints, f.config.hash()).latest(pytest.fail) for folder in folders]
    one, other = (tree["server"]["state"] for tree in trees if tree is not None)
    assert one.keys() == other.keys() == {"weights", "m", "v"}
    for key, tensors in one.items():
        assert tensors.keys() == other[key].keys()
        assert all(torch.equal(tensor, other[key][name]) for name, tensor in tensors.items())
    for client, kept in folders[0].personal_models().items():
        own = f.folder / f"client-{client}.state" / "model.safetensors"
        tensors = networks.read_tensors(own).tensors
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in networks.read_tensors(kept).tensors.items())
        assert any(name.endswith("log_threshold") and bool(tensor.any()) for name, tensor in tensors.items())
    model = networks.read_tensors(folders[1].model).tensors
    assert all(not tensor.any() for name, tensor in model.items() if name.endswith("log_threshold"))
    clients = [[line["clients"] for line in folder.read_lines(folder.metrics)] for folder in folders]
    assert clients[0] == clients[1]
    assert folders[1].read_result()["accuracy_of"] == "shared parts"


def test_personal_parts_stay_and_all_else_is_that_of_one_process(file: Path, fleet: Callable[..., Loopback]) -> None:
    f = fleet(file)
    f.start()
    everybody_ends(f, "client-0", "client-1")
    same_as_one_process(f)
    assert miscounted(f) == []


def test_a_client_and_the_server_killed_go_on_with_what_they_kept(file: Path, fleet: Callable[..., Loopback]) -> None:
    f = fleet(file)
    for client in range(2):
        f.client(client)
    assert f.server(program=(*CRASH, "waiting", "2")).wait(HANGS_S) == -signal.SIGKILL
    f.server()
    f.wait_for(lambda: f.rounds() >= 3, HANGS_S, "third round")
    f.kill("client-0")
    f.client(0)
    everybody_ends(f, "client-0", "client-1")
    assert not any(line["dropped"] for line in lines(f))
    same_as_one_process(f)
