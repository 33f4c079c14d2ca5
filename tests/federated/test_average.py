"""`average`: methods that distil, whose networks answer with a running mean of their weights."""

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
def test_a_client_answers_with_its_mean(name: str) -> None:
    """In round 1 nothing has come back yet, so a mean changes nothing of the training, only of the answers."""
    made = method(name)
    plain, _, _ = made.client_round({}, None, world(name).client(0))
    where = world(name, average=0.9)
    state, said, _ = made.client_round({}, None, where.client(0))
    assert all(torch.equal(t, plain["weights"][n]) for n, t in state["weights"].items())
    where.networks.load(state["average"]["tensors"])
    _, again, _ = made.client_round(
        {"weights": state["average"]["tensors"]}, None, world(name, local_epochs=0).client(0)
    )
    content = next(k for k in ("spikes", "labels", "probabilities", "counts", "levels") if hasattr(said, k))
    assert (getattr(said, content) == getattr(again, content)).all()


def test_a_reset_client_averages_over_its_round_alone() -> None:
    where = world("fsd", average=0.9, client_reset="common")
    made = method("fsd")
    one, first, _ = made.client_round({}, None, where.client(0))
    assert "average" not in one and "weights" not in one
    _, second, _ = made.client_round(one, None, where.client(0))
    assert (first.spikes == second.spikes).all()


def test_a_step_does_not_change_the_state_it_was_given() -> None:
    where = world("fsd+", average=0.9)
    server, states = play("fsd+", where, rounds=2)
    kept = {n: t.clone() for n, t in states[0]["average"]["tensors"].items()}
    made = method("fsd+")
    made.client_round(states[0], None, where.client(0, 3))
    assert all(torch.equal(t, states[0]["average"]["tensors"][n]) for n, t in kept.items())
