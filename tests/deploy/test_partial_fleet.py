"""Weights in part over a real fleet: masks that change, and roles that stay, give what one process gives."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.fleets import everybody_ends, same_as_one_process
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
