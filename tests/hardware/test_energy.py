"""Published sanity values, hand-computed layers, and the laws of the models."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from spikefed.errors import ConfigError
from spikefed.hardware import FP32, INT32, LayerCounts, SpikeSim, energy_report, lemaire, training_pj
from spikefed.hardware.arithmetic import ann_pj, both_pj, break_even, mean_rate, operations_pj, paper_pj
from spikefed.hardware.costs import INT8, regime, sram_pj_per_word
from spikefed.hardware.memory import memory_bytes, simple_pj
from spikefed.networks import ann_twin, build
from spikefed.neurons import LIF

# 2 spikes in 3 steps enter a 4 -> 5 linear layer with biases; its 5 IF neurons sent 1 spike.
LINEAR = LayerCounts(
    name="fc", kind="linear", input="spikes", macs=20, passes=3, constant=False, inputs=4, outputs=5, active=2,
    events=10, parameters=25, bias=True, in_channels=4, out_channels=5, groups=1, kernel=(), stride=(), neurons=5,
    updates=15, spikes=1,
)  # fmt: skip
# A 3x3 convolution of a 1x4x4 image to 2 maps, direct coding, T = 3, no biases.
IMAGE = LayerCounts(
    name="conv", kind="conv", input="real", macs=288, passes=3, constant=True, inputs=16, outputs=32, active=30,
    events=400, parameters=18, bias=False, in_channels=1, out_channels=2, groups=1, kernel=(3, 3), stride=(1, 1),
    neurons=32, updates=96, spikes=7, leaky=True,
)  # fmt: skip


def vgg9(steps: int, **more):
    return build("vgg9-bntt", input_shape=(3, 32, 32), classes=10, steps=steps, readout="current", **more)


@pytest.mark.parametrize(
    ("mac", "ac", "mj"), [(1.82e9, 0, 8.372), (0.14e9, 0.10e9, 0.734), (2.75e9, 0.50e9, 13.10)]
)  # ResNet-18; spiking ResNet-18; SEW-ResNet-18, of the syops counter's page
def test_published_operation_counts_give_the_published_energies(mac, ac, mj):
    assert operations_pj(mac, ac, FP32) / 1e9 == pytest.approx(mj, rel=1e-3)


def test_vgg9_of_the_federated_snn_paper():
    report = energy_report(vgg9(5), torch.rand(1, 3, 32, 32) * 2 - 1, chip=SpikeSim(positions="pooled"))
    assert report.totals()["macs_dense"] == 194_717_696
    assert report.total("ann_pj") / 1e9 == pytest.approx(0.896, abs=5e-4)
    against_fp32 = report.break_even[0]
    assert against_fp32.rate == pytest.approx(4.6 / 0.9) and against_fp32.rate == pytest.approx(5.1, abs=0.02)
    # The public SpikeSim script on the same seven convolutions: 3,840 cycles a step, 15.907 uJ.
    assert report.total("spikesim_pj") / 1e6 == pytest.approx(15.907, abs=5e-4)
    assert sum(SpikeSim(positions="pooled").cycles(layer.counts) for layer in report.layers) == 3_840
    assert sum(SpikeSim().elements(layer.counts) for layer in report.layers if layer.counts.kind == "conv") == 48


def test_spikesim_cycle_and_what_a_pool_does_not_save():
    assert SpikeSim().cycle_pj((3, 3)) == pytest.approx(828.486, abs=1e-3)
    assert SpikeSim(device="sram").cycle_pj((3, 3)) - SpikeSim().cycle_pj((3, 3)) == pytest.approx(72 * 669.32477)
    pooled = replace(IMAGE, pooled=True)
    assert SpikeSim().cycles(pooled) == 16 and SpikeSim(positions="pooled").cycles(pooled) == 4
    assert SpikeSim().energy_pj(LINEAR, 3) == 0


def test_paper_formula_by_hand():
    assert paper_pj(LINEAR, FP32, 3) == pytest.approx(20 * (2 / 4) * 0.9)
    assert paper_pj(LINEAR, INT32, 3) == pytest.approx(20 * (2 / 4) * 0.1)
    assert paper_pj(IMAGE, FP32, 3, "once") == pytest.approx(288 * 4.6)
    assert paper_pj(IMAGE, FP32, 3, "every-step") == pytest.approx(3 * 288 * 4.6)
    assert ann_pj([IMAGE, LINEAR], FP32) == pytest.approx(308 * 4.6)
    assert mean_rate([IMAGE, LINEAR]) == 0.5


def test_memory_by_hand():
    # weights of 10 events, 5 biases in each of 3 steps, 15 potentials read and written; 4 bytes each
    assert memory_bytes(LINEAR, 3, "once") == 4 * (10 + 15 + 30)
    assert memory_bytes(IMAGE, 3, "once") == 4 * (288 + 192)
    assert memory_bytes(IMAGE, 3, "every-step") == 4 * (3 * 288 + 192)
    assert simple_pj(LINEAR, FP32, 3) == pytest.approx(10 * 0.9 + 220 * 24.96)


def test_sram_price_goes_through_its_points():
    assert [sram_pj_per_word(s) for s in (0, 4096, 8192, 32768, 1 << 20, 1 << 24)] == [0, 5, 10, 20, 100, 100]
    assert sram_pj_per_word(20 * 1024) == pytest.approx(15.0)


def test_lemaire_by_hand():
    fifo = sram_pj_per_word(4000)
    found = lemaire(LINEAR, 3)
    assert found.operations_pj == pytest.approx(0.1 * (10 + 15 + 1))  # events, biases, output spikes
    assert found.addressing_pj == pytest.approx(0.1 * 10)
    assert found.queues_pj == pytest.approx(fifo * (2 + 1))
    assert found.parameters_pj == pytest.approx((10 + 15) * sram_pj_per_word(100))
    assert found.potentials_pj == pytest.approx((2 * 10 + 2 * 15) * sram_pj_per_word(20))
    dense = lemaire(IMAGE, 3)
    assert dense.operations_pj == pytest.approx(3.2 * (288 + 96) + 0.1 * 7)  # the leak multiplies in every update
    assert dense.addressing_pj == pytest.approx(0.1 * (16 + 32 + 2 * 9))
    assert dense.queues_pj == pytest.approx(288 * sram_pj_per_word(64) + 7 * fifo)
    assert dense.potentials_pj == pytest.approx(2 * 96 * sram_pj_per_word(128))


def test_training_by_hand():
    found = training_pj([IMAGE, LINEAR], 3)
    image = 2 * 288 * 4.6  # forward and weights; the image needs no gradient
    linear = 2 * 10 * 0.9 + 3 * 20 * 4.6  # additions twice, the way back dense in every step
    assert found.snn_pj == pytest.approx(image + linear)
    assert found.snn_dense_pj == pytest.approx(4.6 * (2 * 288 + 3 * 3 * 20))
    assert found.ann_pj == pytest.approx(4.6 * (2 * 288 + 3 * 20))


def test_training_of_what_a_mask_leaves_is_in_proportion_to_it():
    found = training_pj([IMAGE, LINEAR], 3, left={"conv": 0.5, "fc": 0.1})
    image, linear = 2 * 288 * 4.6, 2 * 10 * 0.9 + 3 * 20 * 4.6
    assert found.snn_pj == pytest.approx(0.5 * image + 0.1 * linear)
    assert found.ann_pj == pytest.approx(4.6 * (0.5 * 2 * 288 + 0.1 * 3 * 20))
    assert training_pj([IMAGE, LINEAR], 3, left={}) == training_pj([IMAGE, LINEAR], 3)
    assert training_pj([IMAGE, LINEAR], 3, left={"conv": 0.0, "fc": 0.0}).snn_dense_pj == 0


def test_quantised_mac_lies_between_the_adder_and_the_full_mac():
    assert INT8.quantised_mac_pj(8) == INT8.mac_pj == pytest.approx(0.23)
    assert INT8.quantised_mac_pj(3) == pytest.approx(0.03 + 0.2 * 3 / 8)
    with pytest.raises(ConfigError, match="'int7'"):
        regime("int7")


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("first_layer", ["once", "every-step"])
def test_at_the_break_even_rate_both_cost_the_same(memory, first_layer):
    layers = [replace(IMAGE, macs=50), replace(LINEAR, macs=9_000)]
    settings = {"ann_mac_pj": 0.2, "regime": INT8, "memory": memory, "first_layer": first_layer}
    rate = break_even(layers, 3, **settings)
    snn, ann = both_pj(layers, 3, rate=rate, **settings)
    assert snn == pytest.approx(ann)
    assert both_pj(layers, 3, rate=rate * 1.01, **settings)[0] > ann


def test_the_image_costs_the_same_in_both_networks():
    """A real-valued first layer reads the same 8-bit image in the SNN and in the quantised ANN."""
    settings = {"ann_mac_pj": INT8.quantised_mac_pj(2), "regime": INT8}
    snn, ann = both_pj([IMAGE, LINEAR], 3, **settings)
    assert snn == pytest.approx(288 * 0.23 + 20 * (2 / 4) * 0.03)
    assert ann == pytest.approx(288 * 0.23 + 20 * (0.03 + 0.2 * 2 / 8))
    snn, ann = both_pj([IMAGE], 3, **settings)
    assert snn == ann == pytest.approx(288 * 0.23)
    # With memory the SNN pays for its potentials besides: 96 updates, read and written, 4 bytes each.
    snn, ann = both_pj([IMAGE], 3, memory=True, **settings)
    assert ann == pytest.approx(288 * (0.23 + 24.96)) and snn - ann == pytest.approx(2 * 96 * 4 * 24.96)


@pytest.mark.parametrize("macs", [0, 1, 288, 10**6])
@pytest.mark.parametrize(("bits", "rate"), [(2, 8 / 3), (3, 3.5), (8, 23 / 3)])
def test_without_memory_the_break_even_rate_is_the_price_of_a_mac_in_additions(macs, bits, rate):
    layers = [replace(IMAGE, macs=macs), LINEAR]
    price = INT8.quantised_mac_pj(bits)
    assert rate == pytest.approx(price / INT8.add_pj)
    assert break_even(layers, 3, ann_mac_pj=price, regime=INT8) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("name", "steps", "rate"), [("4C3-AP2-12FC", 4, 3.5), ("small", 7, 3.5), ("8C3-4C3", 1, 11 / 6)]
)
def test_the_report_prices_the_image_alike(name, steps, rate):
    report = energy_report(build(name, input_shape=(1, 8, 8), classes=10, steps=steps), torch.rand(4, 1, 8, 8))
    first, *rest = (layer.counts for layer in report.layers)
    quantised, memory = report.break_even[1:]
    price = 0.03 + 0.2 * report.bits / 8
    assert quantised.rate == pytest.approx(rate)
    assert quantised.ann_pj == pytest.approx(first.macs * 0.23 + sum(c.macs for c in rest) * price)
    assert quantised.ann_pj >= first.macs * 0.23 and memory.ann_pj - quantised.ann_pj == pytest.approx(
        24.96 * sum(c.macs for c in (first, *rest))
    )


def test_a_first_layer_that_spikes_enter_is_priced_as_the_others():
    report = energy_report(vgg9(7), torch.rand(1, 3, 32, 32) * 2 - 1)
    assert report.break_even[1].ann_pj == pytest.approx(194_717_696 * (0.03 + 0.2 * 3 / 8))


def test_without_spikes_there_is_no_addition_and_more_spikes_never_cost_less():
    net = vgg9(2)
    silent = energy_report(net, torch.zeros(2, 3, 32, 32))
    assert silent.synops == silent.total("paper_fp32_pj") == 0 and silent.mac == 0
    draw = torch.Generator()
    energies = []
    for level in (0.2, 0.6, 1.0):
        report = energy_report(net, torch.full((1, 3, 32, 32), level), generator=draw.manual_seed(1))
        first = report.layers[0]
        energies.append((first.paper_fp32_pj, first.simple_pj, first.lemaire_pj))
    assert energies == sorted(energies) and len(set(energies)) == 3


def test_report_holds_what_the_models_give_and_survives_json():
    net = build("small", input_shape=(1, 8, 8), classes=5, steps=7)
    report = energy_report(net, torch.rand(4, 1, 8, 8))
    totals = json.loads(report.to_json())["totals"]
    assert totals["bits"] == 3 and totals["T"] == 7
    assert totals["simple_with_memory_pj"] == pytest.approx(sum(layer.simple_pj for layer in report.layers))
    assert totals["mac"] == report.layers[0].counts.macs
    every = energy_report(net, torch.rand(4, 1, 8, 8), first_layer="every-step")
    assert every.mac == 7 * report.mac
    text = str(report)
    assert all(layer.counts.name in text for layer in report.layers) and "measured" in text
    with pytest.raises(ConfigError, match="first_layer"):
        energy_report(net, torch.rand(1, 1, 8, 8), first_layer="twice")  # type: ignore[arg-type]


def test_the_steps_of_a_module_of_ones_own_are_counted_or_told():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.fire, self.last = nn.Linear(16, 8), LIF(decay=0.9), nn.Linear(8, 3)

        def forward(self, x):
            frames = (x.flatten(1) > torch.linspace(0.1, 0.9, 6).view(-1, 1, 1)).float()  # [6, B, 16]
            return self.last(self.fire(self.hidden(frames)))

    net, images = Own(), torch.rand(5, 1, 4, 4)
    counted = energy_report(net, images)
    assert counted.steps == 6 and counted.layers[0].counts.neurons == 8
    told = energy_report(net, images, steps=3)
    assert told.steps == 3 and told.layers[0].counts.neurons == 16
    net.steps = 6  # type: ignore[assignment]
    assert energy_report(net, images).to_json() == counted.to_json()


def test_the_ann_twin_is_charged_as_the_reports_ann_line():
    shape = {"input_shape": (3, 32, 32), "classes": 10}
    images = torch.rand(1, 3, 32, 32)
    ann = energy_report(ann_twin("vgg9-bntt", **shape), images)
    assert ann.total("paper_fp32_pj") == ann.total("ann_pj") == pytest.approx(194_717_696 * 4.6)
    assert not ann.spiking and ann.break_even == () and ann.total("spikesim_pj") == 0
