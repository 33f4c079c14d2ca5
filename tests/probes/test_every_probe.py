"""Laws that every registered probe keeps."""

from __future__ import annotations

import copy
import dataclasses
import json
from dataclasses import asdict
from typing import Any

import pytest
import torch

from probes.subjects import network, subject
from spikefed.probes import PROBES, Measurement, run_probe
from spikefed.probes.contract import Probe
from spikefed.report.probes import probe_text

SETTINGS: dict[str, dict[str, Any]] = {
    "attack": {"steps": 3, "apgd_steps": 4, "queries": 5, "surrogates": ("own", "adaptive"), "eps": (8.0, 32.0)},
    "inversion": {"victims": 3, "steps": 5},
    "reconstruction": {"rebuilt": 8, "steps": 3, "judge": "4C3-AP2-12FC", "epochs": 1},
    "chip": {"chips": 2, "tiles": [16], "changes": {"noise.read": 0.3}},
}
"""Settings that make a probe quick on the small network here."""


def measured(name: str, net: Any = None, images: int = 24, **given: Any) -> Measurement:
    """Of a network that two clients trained, one of whom has it still; its clients' data are other images."""
    net = net or network()
    own = {0: copy.deepcopy(net), 1: network(seed=9)}
    held = tuple(subject(12 + 4 * client, draw=20 + client) for client in own)
    shown = dataclasses.replace(subject(images), trained=held)
    given = {"clients": lambda: iter(own.items()), **given}
    return run_probe(net, shown, name, hyper=SETTINGS.get(name, {}), seed=3, round=2, **given)


@pytest.fixture(scope="module", params=sorted(PROBES))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_it_is_told_in_words(name: str) -> None:
    made = PROBES[name]
    assert issubclass(made, Probe) and made.name == name
    assert made.summary and made.title and made.version >= 1
    fields = made.hyperparameters.model_fields
    assert all(field.description and not field.is_required() for field in fields.values())
    assert len({quantity.key for quantity in made.quantities}) == len(made.quantities)


def test_records_are_flat_told_and_not_all_alike(name: str) -> None:
    found = measured(name)
    assert found.records and found.headline
    values = [value for row in [*found.records, found.headline] for value in row.values()]
    assert all(value is None or isinstance(value, str | int | float) for value in values)
    assert json.loads(json.dumps(found.records, allow_nan=False)) == found.records
    keys = {key for row in found.records for key in row} - {"part"}
    assert keys | set(found.headline) <= {quantity.key for quantity in found.quantities}, "a key without a heading"
    assert len({json.dumps(row) for row in found.records}) == len(found.records)


def test_the_same_network_gives_the_same_records(name: str) -> None:
    assert measured(name).records == measured(name).records


def test_another_network_gives_other_records(name: str) -> None:
    assert measured(name).records != measured(name, network(seed=1)).records


def test_it_leaves_the_network_as_it_was(name: str) -> None:
    net = network()
    net.train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    steps = net.steps
    measured(name, net)
    assert net.training and net.steps == steps
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())


def test_it_touches_no_global_randomness(name: str) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    measured(name)
    assert torch.equal(before, torch.get_rng_state())


def test_its_table_is_written(name: str) -> None:
    found = measured(name)
    tree = {
        "title": found.title,
        "hyper": found.hyper,
        "quantities": [q.told() for q in found.quantities],
        "measurements": [asdict(found)],
    }
    assert found.title in probe_text(tree) and len(probe_text(tree).splitlines()) > 2
