"""Rate-coded images whose first layer is one pass: the gradient of the usual way, or that way where it must be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from probes.subjects import network, subject
from spikefed.neurons import fused
from spikefed.training import Preprocess
from spikefed.training.attacks import Ball, Goal, Victim, groups, pgd, through, victim
from spikefed.training.attacks.rate import RateGradient, rate_layer

pytestmark = pytest.mark.skipif(fused.library() is None, reason="no native library")


def attacked(net: Any = None, **changes: Any) -> Victim:
    net = network(coding="bernoulli") if net is None else net
    return Victim(net, Preprocess("unit"), **{"seed": 1, "draws": 3, "scale": 5.0, **changes})


def ascent(of: Victim) -> tuple[Tensor, Tensor, Tensor]:
    shown = subject(8)
    return of.ascent(shown.images.float(), Goal(range(8), shown.labels), 2)


@pytest.fixture
def runs(monkeypatch) -> list[RateGradient]:
    """Every `RateGradient` that was made."""
    made: list[RateGradient] = []

    def note(*given: Any) -> RateGradient:
        made.append(RateGradient(*given))
        return made[-1]

    monkeypatch.setattr(victim, "RateGradient", note)
    return made


@pytest.mark.parametrize("name", ["4C3-AP2-12FC", "20C3-6C3-AP2-12FC"])
@pytest.mark.parametrize("norm", ["bn", "tdbn", "none"])
@pytest.mark.parametrize("changes", [{}, {"draws": 1}, {"fresh": False}, {"loss": "margin"}])
def test_the_gradient_is_that_of_the_usual_way(name, norm, changes, runs, monkeypatch):
    of = attacked(network(coding="bernoulli", name=name, norm=norm), **changes)
    loss, gradient, scores = ascent(of)
    assert len(runs) == 1
    monkeypatch.setattr(victim, "rate_layer", lambda net: None)
    wanted = ascent(of)
    assert len(runs) == 1 and wanted[1].any()
    assert torch.allclose(loss, wanted[0], atol=1e-5) and torch.allclose(scores, wanted[2], atol=1e-5)
    assert torch.allclose(gradient, wanted[1], rtol=1e-3, atol=1e-4 * float(wanted[1].abs().max()))


@pytest.mark.parametrize("surrogate", ["narrow", "wide", "straight"])
def test_other_surrogates_go_the_same_way(surrogate, runs, monkeypatch):
    of = attacked()
    with through(of.net, surrogate):
        found = ascent(of)[1]
        assert len(runs) == 1
        monkeypatch.setattr(victim, "rate_layer", lambda net: None)
        wanted = ascent(of)[1]
    assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_groups_of_images_change_nothing(runs, monkeypatch):
    shown = subject(8)
    ball, goal = Ball(shown.images.float(), 11.3), Goal(range(8), shown.labels)
    of = attacked()
    together = pgd(of, ball, goal, steps=4)
    monkeypatch.setattr(groups, "ROOM_BYTES", 1)
    assert len(groups.groups(of.net, 8, 3, behind_first=True)) == 8
    assert torch.equal(pgd(of, ball, goal, steps=4), together) and len(runs) == 8


def test_weights_get_no_gradient_and_the_network_is_as_it_was(runs):
    of = attacked()
    before = {key: value.clone() for key, value in of.net.state_dict().items()}
    ascent(of)
    assert runs and all(p.requires_grad and p.grad is None for p in of.net.parameters())
    assert all(torch.equal(value, before[key]) for key, value in of.net.state_dict().items())


def test_the_usual_way_where_it_must_be(runs):
    for coding, changes in (("poisson", {}), ("direct", {}), ("bernoulli", {"gradient": "stop"})):
        ascent(attacked(network(coding=coding), **changes))
    for coding, shape in (("bernoulli", (3, 8, 8)), ("bernoulli", (1, 8, 8))):
        assert (rate_layer(network(coding=coding, input_shape=shape)) is None) == (shape[0] == 3)
    assert not runs


def test_whoever_looks_at_the_network_is_still_told(runs):
    seen: list[str] = []
    for place in ("net", "first"):
        net: Any = network(coding="bernoulli")
        of = attacked(net)
        module = net if place == "net" else net.places[0]
        module.register_forward_hook(lambda *_, place=place: seen.append(place))
        ascent(of)
    assert not runs and set(seen) == {"net", "first"}


def test_a_surrogate_with_a_memory_and_another_precision_go_the_usual_way(runs):
    of = attacked()
    with through(of.net, "adaptive"):
        ascent(of)
    narrow: Any = network(coding="bernoulli")
    narrow.precision = "bfloat16"
    assert rate_layer(narrow) is None and rate_layer(network(coding="bernoulli").train()) is None and not runs
