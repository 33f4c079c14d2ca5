"""`average`: methods that distil, of whose networks a running mean of the weights is measured and taken home."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from federated.tiny import STEPS, World
from spikefed.federated import method

NAMES = ["fsd", "fsd+", "cfd", "ds-fl"]


def world(name: str, **more: Any) -> World:
    settings = {"local_epochs": 2, "local_batch": 8, "distil_batch": 6, "client_reset": "never", **more}
    made = World(method(name).hyperparameters(**settings))
    made.networks.network.steps = STEPS  # type: ignore[assignment]
    return made


def play(name: str, where: World, rounds: int = 3) -> tuple[dict, dict]:
    """Two clients and their server over some rounds: their states."""
    made = method(name)
    server, down = made.init_server(where.server(0))
    states: dict = {0: {}, 1: {}}
    for r in range(1, rounds + 1):
        ups = {}
        for c in states:
            states[c], ups[c], _ = made.client_round(states[c], down, where.client(c, r))
        server, down, _ = made.server_round(server, ups, where.server(r))
    return server, states


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_is_what_is_measured_and_taken_home(name: str) -> None:
    where = world(name, average=0.5)
    server, states = play(name, where)
    made = method(name)
    mean = server["average"]["tensors"]
    net = made.server_network(server, where.server())
    assert all(torch.equal(t, mean[n]) for n, t in net.state_dict().items())
    assert not torch.equal(mean["fc.weight"], server["weights"]["fc.weight"])
    for c, state in states.items():
        net = made.taken_home(state, where.client(c))
        assert all(torch.equal(t, state["average"]["tensors"][n]) for n, t in net.state_dict().items())
        assert not torch.equal(state["average"]["tensors"]["fc.weight"], state["weights"]["fc.weight"])
        # 40 samples in batches of 8, two epochs, three rounds; the phases on public rows count too.
        assert state["average"]["steps"] >= 3 * 2 * 5


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_travels_knows_of_the_mean(name: str) -> None:
    """Training and answers are those of a run without it, to the bit."""
    plain = play(name, world(name))
    server, states = play(name, world(name, average=0.9))
    for with_mean, without in ((server, plain[0]), *((states[c], plain[1][c]) for c in states)):
        assert with_mean.keys() - without.keys() == {"average"}
        assert all(torch.equal(t, without["weights"][n]) for n, t in with_mean["weights"].items())


def test_a_client_that_begins_anew_takes_home_the_mean_of_its_round() -> None:
    where = world("fsd", average=0.9, client_reset="common")
    made = method("fsd")
    state, first, _ = made.client_round({}, None, where.client(0))
    again, second, _ = made.client_round(state, None, where.client(0))
    assert (first.spikes == second.spikes).all()
    assert all(torch.equal(t, again["average"]["tensors"][n]) for n, t in state["average"]["tensors"].items())
    net = made.taken_home(state, where.client(0))
    assert all(torch.equal(t, state["average"]["tensors"][n]) for n, t in net.state_dict().items())
    assert state["average"]["steps"] == 2 * 5


def test_a_step_does_not_change_the_state_it_was_given() -> None:
    where = world("fsd+", average=0.9)
    server, states = play("fsd+", where, rounds=2)
    kept = {n: t.clone() for n, t in states[0]["average"]["tensors"].items()}
    made = method("fsd+")
    made.client_round(states[0], None, where.client(0, 3))
    assert all(torch.equal(t, states[0]["average"]["tensors"][n]) for n, t in kept.items())
