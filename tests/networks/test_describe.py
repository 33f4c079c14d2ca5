"""Costs that the papers' sizes imply, and rates counted by hand."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch
from torch import nn

from spikefed.errors import ConfigError
from spikefed.networks import FiringRateMonitor, ann_twin, build, describe, firing_rates, state_bytes, write_tensors

CIFAR, GREY = (3, 32, 32), (1, 28, 28)


@pytest.mark.parametrize(
    ("name", "shape", "macs"),
    [
        ("cifarnet", CIFAR, 1_245_582_336),
        ("cifarnet", GREY, 951_966_720),
        ("vgg9-bntt", CIFAR, 194_717_696),
        ("vgg9-bntt", GREY, 147_328_000),
    ],
)
def test_totals_equal_the_papers_sizes(name, shape, macs):
    net = build(name, input_shape=shape, classes=10, steps=8)
    table = describe(net)
    assert table.macs == macs
    assert table.state_bytes == state_bytes(net)
    assert table.parameters == sum(p.numel() for p in net.parameters())
    assert table.macs_per_inference == 8 * macs  # random input coding: nothing is shared between steps


def test_direct_coding_computes_the_first_layer_once():
    net = build("8C3-AP2-16FC", input_shape=(2, 7, 7), classes=5, steps=6)
    table = describe(net)
    first, middle, last = 8 * 49 * 18, 8 * 9 * 16, 80
    assert [row.macs for row in table.rows] == [first, middle, last]
    assert [row.times for row in table.rows] == [1, 6, 6]
    assert table.macs_per_inference == first + 6 * (middle + last)
    assert [row.output_shape for row in table.rows] == [(8, 3, 3), (16,), (5,)]
    assert (
        describe(ann_twin("8C3-AP2-16FC", input_shape=(2, 7, 7), classes=5)).macs_per_inference == first + middle + last
    )


def test_json_and_text_carry_every_row_and_total():
    table = describe(build("vgg9-bntt", input_shape=CIFAR, classes=10, steps=8))
    data = json.loads(table.to_json())
    assert data["totals"]["state_bytes"] == 23_964_928
    assert [row["name"] for row in data["rows"]] == [row.name for row in table.rows]
    text = str(table)
    assert all(part in text for part in ("conv7", "fc2", "5,938,880", "17,408", "23,964,928", "194,717,696"))


def test_under_a_mask_it_says_what_is_left():
    net = build("4C3-AP2-12FC", input_shape=(1, 8, 8), classes=3, steps=2, norm="bn")
    state = net.state_dict()
    masks = {name: torch.zeros(state[name].shape, dtype=torch.bool) for name in ("conv1.weight", "fc1.weight")}
    masks["conv1.weight"][:, :, 0] = True
    masks["fc1.weight"][:2] = True
    plain, table = describe(net), describe(net, kept=masks)
    left = {row.name: row.left for row in table.rows}
    assert left == {"conv1": 4 * 3, "fc1": 2 * 64, "fc2": 12 * 3} and table.left == sum(left.values())
    assert plain.left is None and "left" not in plain.to_json() and str(plain) == str(table).partition("\nunder")[0]
    dense = sum(t.nbytes for t in state.values())
    masked = {n: t * masks[n] if n in masks else t.contiguous() for n, t in state.items()}
    smaller = len(write_tensors(masked)) - len(write_tensors(masked, masks))
    assert dense - table.stored_bytes == pytest.approx(smaller, abs=400)  # names and alignment aside
    data = json.loads(table.to_json())
    assert data["totals"]["left"] == table.left and data["rows"][0]["left"] == 12
    assert all(part in str(table) for part in ("weights left", "16.7%", f"{table.stored_bytes:,}"))


def test_a_mask_of_another_network_is_refused():
    net = build("4C3-AP2", input_shape=(1, 8, 8), classes=3, steps=2)
    for masks in ({"fc9.weight": torch.ones(1, dtype=torch.bool)}, {"conv1.weight": torch.ones(1, dtype=torch.bool)}):
        with pytest.raises(ConfigError, match="fits no tensor of this network"):
            describe(net, kept=masks)


def test_under_a_mask_a_foreign_module():
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 3))
    table = describe(net, (2, 8, 8), {"2.weight": torch.zeros(3, 144, dtype=torch.bool)})
    assert [row.left for row in table.rows] == [76, 3] and table.rows[1].stored_bytes == 3 * 4 + 16


def test_a_foreign_module_is_measured_by_running_it():
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    table = describe(net, (2, 8, 8))
    assert [(row.name, row.macs, row.output_shape) for row in table.rows] == [
        ("0", 36 * 4 * 18, (4, 6, 6)),
        ("1", 0, (4, 6, 6)),
        ("4", 4 * 36 * 3, (3,)),
    ]
    assert table.state_bytes == state_bytes(net)
    assert net.training and int(net[1].num_batches_tracked) == 0
    with pytest.raises(ConfigError, match="call describe"):
        describe(net)


def test_describing_for_another_input_is_refused():
    with pytest.raises(ConfigError, match="built for input 1x8x8, not 3x8x8"):
        describe(build("small", input_shape=(1, 8, 8), classes=10, steps=2), (3, 8, 8))


def fires_always() -> nn.Module:
    """conv1 fires at every step, conv2 never, the readout in class 0 alone."""
    net = build("2C3-AP2-3C3-4FC", input_shape=(1, 5, 5), classes=4, steps=4, norm="none")
    with torch.no_grad():
        for layer in net.layers:
            layer.weight.zero_()
        net.conv1.bias.fill_(2.0)
        net.conv2.bias.fill_(-2.0)
        net.fc1.bias.fill_(0.6)  # below the threshold of 1; u = 0.6, 0.9, 1.05 (fires), 0.6
        net.fc2.bias.copy_(torch.tensor([2.0, 0.0, 0.0, 0.0]))
    return net


def test_firing_rates_count_spikes_by_layer():
    rates = firing_rates(fires_always(), torch.rand(3, 1, 5, 5))
    assert rates == {"conv1": 1.0, "conv2": 0.0, "fc1": 0.25, "fc2": 0.25}


def test_the_monitor_adds_batches_and_leaves_nothing_behind():
    net = build("small", input_shape=(1, 8, 8), classes=10, steps=4)
    x = torch.rand(8, 1, 8, 8)
    whole = firing_rates(net, x)
    keys = list(net.state_dict())
    net.eval()
    with FiringRateMonitor(net) as monitor:
        net(x[:3])
        net(x[3:])
    assert monitor.rates() == pytest.approx(whole)
    assert whole["conv1"] > 0
    assert list(net.state_dict()) == keys
    assert all(not module._forward_hooks for module in net.modules())
    pickle.dumps(copy.deepcopy(net))


def test_firing_rates_keep_the_mode_and_the_statistics():
    net = build("small", input_shape=(1, 8, 8), classes=10, steps=2)
    net.conv1.eval()
    firing_rates(net, torch.rand(4, 1, 8, 8))
    assert net.training and not net.conv1.training and net.conv2.training
    assert int(net.conv2.norm.num_batches_tracked) == 0
