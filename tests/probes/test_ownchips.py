"""The probe `own-chips`: a chip a client, each repaired on the client's own data."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from probes.subjects import network, subject
from spikefed.errors import ConfigError
from spikefed.hardware.crossbar import OnChip, load_profile
from spikefed.probes import OwnChips, run_probe
from spikefed.training import evaluate


def federation(clients: int = 3):
    return replace(subject(), trained=[subject(8 + 2 * client) for client in range(clients)])


def measured(clients=lambda: iter(()), **hyper):
    given = {"repairs": ["none", "adapt"], "profiles": ["pcm", "ideal"]} | hyper
    return run_probe(network(), federation(), OwnChips(), hyper=given, seed=1, clients=clients)


def test_each_client_has_its_chip() -> None:
    found = [row for row in measured().records if row["part"] == "clients"]
    assert [row["client"] for row in found[::3]] == [0, 1, 2]
    assert [row["profile"] for row in found[::3]] == ["pcm", "ideal", "pcm"]
    digital, none = found[3], found[4]
    assert none["accuracy"] == digital["accuracy"]  # client 1's is ideal


def test_it_is_the_chip_of_seed_plus_client() -> None:
    net, shown = network(), subject()
    found = [r for r in measured(seed=5, profiles=["pcm"]).records if r["part"] == "clients" and r["repair"] == "none"]
    for client, row in enumerate(found):
        with OnChip(net, load_profile("pcm"), 5 + client).running(torch.Generator()):
            draws = torch.Generator().manual_seed(0)
            said = evaluate(net, shown.images, shown.labels, preprocess=shown.preprocess, generator=draws)
        assert said.accuracy == row["accuracy"]


def test_clients_own_networks_stand_beside_the_shared_one() -> None:
    own = network(seed=1)
    found = measured(clients=lambda: iter([(0, own), (2, own)]))
    kinds = {(row["network"], row["client"]) for row in found.records if row["part"] == "clients"}
    assert kinds == {("shared", 0), ("shared", 1), ("shared", 2), ("own", 0), ("own", 2)}
    means = [row for row in found.records if row["part"] == "means" and row["network"] == "own"]
    assert found.headline["accuracy"] == means[1]["accuracy"]


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(ConfigError, match="chip profile 'cpm' is not known; the nearest is 'pcm'"):
        measured(profiles=["cpm"])
    with pytest.raises(ConfigError, match="'repairs' of probe 'own-chips': 'all' is not known"):
        measured(repairs=["all"])
    with pytest.raises(ConfigError, match="needs an image to repair on"):
        run_probe(network(), subject(1), OwnChips())
