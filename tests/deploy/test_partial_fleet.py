"""Weights in part over a real fleet: masks that change, and roles that stay, give what one process gives."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.fleets import everybody_ends, same_as_one_process, with_tasks
from spikefed.deploy.loopback import Loopback, miscounted

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SETTINGS = {
    "masks": {"name": "federated.pruned:PrunedFedAdam", "payload": "change"},
    "own masks": {"name": "federated.pruned:PersonalFedAvg", "payload": "change"},
    "tickets": {"name": "tickets", "sparsities": [0.5, 0.8], "level_rounds": 1, "rewind_round": 0},
    "branches": {"name": "dc-nas", "search_rounds": 2, "limit": 0.6},
    "roles": {"name": "fedavg", "send": ["weight", "bn_affine", "bn_stats", "neuron"]},
}


@pytest.mark.parametrize("what", SETTINGS)
def test_weights_in_part_over_a_fleet(
    what: str, tiny: Callable[..., Path], fleet: Callable[..., Loopback], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    file = tiny(rounds=3)
    head, _, tail = file.read_text().partition("[method]")
    _, _, rest = tail.partition("[participation]")
    if what == "branches":
        head = head.replace('name = "small"', 'name = "supernet:123-134-133:width=6"')
    table = "".join(f"{key} = {json.dumps(value)}\n" for key, value in SETTINGS[what].items())
    file.write_text(f"{head}[method]\n{table}[participation]{rest}")
    f = fleet(file)
    f.start()
    everybody_ends(f, "client-0", "client-1")
    same_as_one_process(f)
    assert miscounted(f) == []


@pytest.mark.parametrize("kind", ["thresholds", "proxy1x1"])
def test_adapters_in_stages_over_a_fleet(kind: str, tiny: Callable[..., Path], fleet: Callable[..., Loopback]) -> None:
    """Clients learn other tasks in a round, so every message has a selection of its own."""
    method = '[method]\nname = "adapters"\nserver = "yogi"\n'
    if kind == "proxy1x1":
        method += "[method.tailor]\nteacher_epochs = 1\ndrop_after = 1\ndrop_blocks = 1\n"
    file = tiny(rounds=4)
    with_tasks(file, [kind, "head"], method)
    f = fleet(file)
    f.start()
    everybody_ends(f, "client-0", "client-1")
    same_as_one_process(f)
    assert miscounted(f) == []


def test_clients_that_remember_tasks_over_a_fleet(tiny: Callable[..., Path], fleet: Callable[..., Loopback]) -> None:
    file = tiny(rounds=4)
    head, _, _ = file.read_text().partition("[method]")
    memory = "[training.ewc]\nstrength = 10.0\nsamples = 4\n[training.lwf]\nstrength = 1.0\n"
    memory += "[training.exemplars]\nper_class = 2\n"
    stages = '[stages]\nclasses = 2\nrounds = 2\norder = "latin"\nheads = "task"\n[run]\nthreads = 1\n'
    file.write_text(f'{head}{memory}[method]\nname = "fedavg"\n{stages}')
    f = fleet(file)
    f.start()
    everybody_ends(f, "client-0", "client-1")
    same_as_one_process(f)
    assert miscounted(f) == []
