"""The first layer's gradient, added up before it goes back: the same as through every draw and step."""

from __future__ import annotations

import pytest
import torch

from probes.subjects import network, subject
from spikefed.networks import build
from spikefed.training import Preprocess
from spikefed.training.attacks import Goal, Victim, victim
from spikefed.training.attacks.first import _product, _sum_over, by_table, first_layer, tabled


@pytest.mark.parametrize("coding", ["bernoulli", "poisson"])
@pytest.mark.parametrize("name", ["4C3-AP2-12FC", "20FC"])
def test_the_gradient_is_that_of_every_draw_and_step(name, coding, monkeypatch):
    net, shown = network(name=name, coding=coding), subject(8)
    attacked = Victim(net, Preprocess("signed" if coding == "poisson" else "unit"), seed=1, draws=3)
    goal = Goal(range(8), shown.labels)
    monkeypatch.setattr(victim, "rate_layer", lambda net: None)
    quick = attacked.ascent(shown.images.float(), goal, 2)
    assert net.places[0].product is None, "put back"
    monkeypatch.setattr(victim, "first_layer", lambda net: None)
    plain = attacked.ascent(shown.images.float(), goal, 2)
    assert torch.equal(quick[2].argmax(1), plain[2].argmax(1)) and plain[1].any()
    assert torch.allclose(quick[1], plain[1], rtol=1e-3, atol=1e-3 * float(plain[1].abs().max()))


def test_networks_that_branch_keep_the_usual_way():
    branched = build("resnet-small", input_shape=(1, 8, 8), classes=4, steps=2, coding="bernoulli")
    assert first_layer(branched) is None and first_layer(network()) is not None


def test_the_sum_over_draws_and_steps_is_that_of_torch():
    draws = torch.Generator().manual_seed(0)
    maps = torch.randn(12, 5, 4, 3, generator=draws)
    for grads in (maps, maps.contiguous(memory_format=torch.channels_last), torch.randn(12, 7, generator=draws)):
        wanted = grads.unflatten(0, (-1, 4)).sum(dim=0)
        assert torch.allclose(_sum_over(grads, 4), wanted, atol=1e-5)


def test_currents_out_of_a_table_are_the_products():
    draws = torch.Generator().manual_seed(0)
    layer = network().places[0]
    spikes = (torch.rand(6, 1, 8, 8, generator=draws) < 0.4).float()
    assert by_table(layer) and torch.allclose(tabled(layer, spikes), _product(layer, spikes), atol=1e-6)
    assert not by_table(network(name="4C5-AP2-12FC").places[0]) and not by_table(network(name="20FC").places[0])
