"""What a coding costs: counts by hand, nothing drawn where nothing is, the formula of the energy probe."""

from __future__ import annotations

import pytest

from probes.subjects import network, subject
from spikefed.probes import run_probe

PIXELS, MAP, STEPS = 64, 4 * 64, 4


def items(coding: str, **changes) -> dict[str, dict]:
    found = run_probe(network(coding=coding, **changes), subject(), "coding", seed=1)
    return {row["item"]: row for row in found.records if row["part"] == "items"}


@pytest.mark.parametrize(("coding", "drawn"), [("direct", 0), ("latency", 0), ("bernoulli", 1), ("poisson", 1)])
def test_a_random_number_for_every_pixel_and_step_of_a_coding_that_draws(coding, drawn):
    row = items(coding)["random numbers"]
    assert row["operations"] == drawn * PIXELS * STEPS
    assert row["energy_pj"] == pytest.approx(row["operations"] * 7 * 0.1)


def test_direct_keeps_currents_and_spikes_need_the_pixels_again():
    assert items("direct")["coder memory"]["moved_bytes"] == 4 * MAP * (STEPS - 1)
    assert items("bernoulli")["coder memory"]["moved_bytes"] == PIXELS * STEPS


def test_the_first_layer_is_counted_once_and_t_times():
    once, every = (items("direct")[f"first layer, {how}"] for how in ("once", "every-step"))
    assert every["energy_pj"] == pytest.approx(STEPS * once["energy_pj"]) == pytest.approx(STEPS * MAP * 9 * 4.6)
    spiking = items("bernoulli")
    assert spiking["first layer, once"]["energy_pj"] == spiking["first layer, every-step"]["energy_pj"]


def test_the_network_s_energy_is_that_of_the_energy_probe():
    net = network()
    mine = run_probe(net, subject(), "coding", seed=1).headline["network_pj"]
    energy = run_probe(net, subject(), "energy", seed=1).records
    assert mine == pytest.approx(next(row for row in energy if row.get("layer") == "total")["snn_pj"])


def test_a_comparison_with_an_ann_of_so_many_bits():
    found = run_probe(network(coding="bernoulli"), subject(), "coding", hyper={"ann_bits": 2}, seed=1)
    rows = [row for row in found.records if row["part"] == "break-even"]
    assert [row["against"] for row in rows] == [
        "2-bit ANN, int8 weights, arithmetic",
        "2-bit ANN, int8 weights, with memory",
    ]
    for row in rows:
        assert (row["snn_pj"] < row["ann_pj"]) == (row["input_rate"] < row["break_even_rate"])
