"""`silence`: a client that lacks classes keeps still on public rows until the server has spoken."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from federated.tiny import CLASSES, STEPS, World
from spikefed.experiment import from_tree
from spikefed.federated import Labelled, method
from spikefed.federated.strangers import lacking, quiet


def world(name: str = "fsd+", **more: Any) -> World:
    settings = {"local_epochs": 6, "local_batch": 8, "distil_batch": 6, "client_reset": "never", "lr": 0.05, **more}
    made = World(method(name).hyperparameters(**settings))
    made.networks.network.steps = STEPS  # type: ignore[assignment]
    made.networks.network.classes = CLASSES  # type: ignore[assignment]
    return made


def first(where: World, kept: list[int], name: str = "fsd+") -> tuple[Any, Any]:
    """State and upload of a client that holds these classes alone, in the first round."""
    ctx = where.client(0)
    mine = torch.isin(ctx.train.labels, torch.tensor(kept))
    only = ctx.__class__(**{**vars(ctx), "train": Labelled(ctx.train.images[mine], ctx.train.labels[mine])})
    state, upload, _ = method(name).client_round({}, None, only)
    return state, upload


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60))
def test_a_client_lacks_what_it_hardly_holds(labels: list[int]) -> None:
    told = lacking(torch.tensor(labels), 6)
    absent = sum(c not in labels for c in range(6)) / 6
    assert absent - 1e-6 <= told < 1
    assert lacking(torch.tensor(list(range(6)) * 5), 6) == 0.0
    assert lacking(torch.tensor([], dtype=torch.int64), 6) == 0.0


def test_silence_is_where_no_class_fires() -> None:
    still = torch.zeros(STEPS, 5, CLASSES)
    assert quiet(still, torch.zeros(5)) == 0.0
    assert quiet(torch.ones_like(still), torch.zeros(5)) == CLASSES
    rates = torch.rand(STEPS, 5, CLASSES, requires_grad=True)
    quiet(rates, torch.zeros(5)).backward()
    assert rates.grad is not None and bool((rates.grad >= 0).all())


def test_a_client_of_few_classes_says_less_of_foreign_rows() -> None:
    loud = first(world(), [0])[1].spikes
    still = first(world(silence=20.0), [0])[1].spikes
    assert still.sum() < loud.sum()


@pytest.mark.parametrize("name", ["fsd", "fsd+", "cfd", "ds-fl"])
def test_who_holds_every_class_trains_as_ever(name: str) -> None:
    plain, with_silence = (first(world(name, silence=s), [0, 1, 2], name)[0] for s in (0.0, 9.0))
    for tensor, weights in plain["weights"].items():
        assert torch.equal(weights, with_silence["weights"][tensor])


def test_once_the_server_has_spoken_nobody_is_asked_to_keep_still() -> None:
    made = method("fsd+")
    ends = []
    for silence in (0.0, 9.0):
        where = world(silence=silence)
        server, _ = made.init_server(where.server(0))
        ups = {c: made.client_round({}, None, where.client(c))[1] for c in (0, 1)}
        _, down, _ = made.server_round(server, ups, where.server())
        ends.append(made.client_round({}, down, where.client(0, 2))[0]["weights"])
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_run_without_it_keeps_its_hash() -> None:
    tree = {"name": "a", "data": {"dataset": "digits"}, "method": {"name": "fsd+"}}
    plain = from_tree(tree).hash()
    assert from_tree(tree | {"method": {"name": "fsd+", "silence": 0.0}}).hash() == plain
    assert from_tree(tree | {"method": {"name": "fsd+", "silence": 1.0}}).hash() != plain
