"""The probe `many-tasks`: storage equals its closed form, energy a simulated cycle that counts loads one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from probes.subjects import network, subject
from spikefed.errors import ConfigError
from spikefed.hardware import count_operations
from spikefed.hardware.manytasks import AccessCosts, Numbers, image_energy, own_numbers
from spikefed.networks import ann_twin, build, learn_thresholds, state_tensors
from spikefed.probes import probe, run_probe
from spikefed.probes.manytasks import ManyTasksHyperparameters


def measured(**hyper: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in run_probe(network(), subject(8), "many-tasks", hyper=hyper).records]


def test_what_a_task_has_is_counted_on_the_tensors() -> None:
    net = network()
    layers = count_operations(net, torch.rand(2, 1, 8, 8))
    learnt = {k: learn_thresholds(network(), k) for k in ("layer", "channel")}
    kinds: dict[str, Any] = {"layer": ["thresholds-layer"], "channel": ["thresholds-channel"]}
    for kind, own in learnt.items():
        tensors = {n: t for n, t in state_tensors(own).items() if n.endswith("log_threshold")}
        assert own_numbers(net, layers, kinds[kind]).own == sum(t.numel() for t in tensors.values())
        assert own_numbers(own, layers, ["head"]) == own_numbers(net, layers, ["head"]), "thresholds are no network"
    head = sum(t.numel() for n, t in state_tensors(net).items() if n.startswith("fc2") and "norm" not in n)
    assert own_numbers(net, layers, ["head"]).own == head
    with pytest.raises(ConfigError, match="one kind of thresholds"):
        own_numbers(net, layers, ["thresholds-layer", "thresholds-channel"])


def test_three_children_of_vgg16_take_a_fourth_of_the_memory() -> None:
    net = build("vgg16", input_shape=(3, 32, 32), classes=10, steps=1)
    layers = count_operations(net, torch.rand(1, 3, 32, 32))
    numbers = own_numbers(net, layers, ["thresholds-channel", "head"])
    p, k = numbers.network, numbers.own
    assert numbers.ratio(3) == 4 * p / (p + 3 * k) >= 3.9
    assert own_numbers(net, layers, ["thresholds-neuron", "head"]).ratio(3) < numbers.ratio(3)


@pytest.mark.parametrize("mode", ["singular", "pipelined"])
@pytest.mark.parametrize("images", [1, 4])
def test_loads_are_those_of_a_cycle_walked_through(mode: Any, images: int) -> None:
    tasks, numbers = 3, Numbers(network=1000, own=30)
    order = [t for t in range(tasks) for _ in range(images)] if mode == "singular" else list(range(tasks)) * images
    whole, shared, held = 0, numbers.network, -1
    for task in order:
        if task != held:
            whole += numbers.network
            shared += numbers.own
        held = task
    layers = count_operations(network(), torch.rand(2, 1, 8, 8))
    costs = AccessCosts(dram=7.0)
    found = image_energy(layers, numbers, tasks=tasks, images=images, mode=mode, costs=costs)
    assert [s.dram for s in found] == pytest.approx([7.0 * n / len(order) for n in (whole, shared)])
    assert found[0].operations == found[1].operations > 0 and found[0].sram < found[1].sram


def test_turns_gain_more_than_runs_and_both_are_monotone() -> None:
    rows = [row for row in measured() if row["part"] == "ratios"]
    singular, pipelined = ([row[f"{mode}_ratio"] for row in rows] for mode in ("singular", "pipelined"))
    assert singular[0] == pipelined[0], "runs of one image are turns"
    assert all(p > s > 1 for s, p in zip(singular[1:4], pipelined[1:4], strict=True))
    assert singular == sorted(singular, reverse=True) and pipelined == sorted(pipelined)
    costs = [row for row in measured() if row["part"] == "other costs"]
    assert [row["pipelined_ratio"] for row in costs] == sorted(row["pipelined_ratio"] for row in costs)


def test_the_headline_is_of_what_was_asked_for() -> None:
    found = run_probe(network(), subject(8), "many-tasks", hyper={"own": ["bn"], "tasks": 9})
    (row,) = [row for row in found.records if row.get("own") == "bn"]
    assert found.headline["memory_ratio"] == row["memory_ratio"]


def test_an_ordinary_network_masks_every_layer_but_the_head() -> None:
    net = ann_twin("4C3-AP2-12FC", input_shape=(1, 8, 8), classes=4)
    layers = count_operations(net, torch.rand(2, 1, 8, 8))
    assert own_numbers(net, layers, ["thresholds-channel"]).own == 4 + 12


def test_a_wrong_word_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="own"):
        measured(own=["thresholds"])
    with pytest.raises(ConfigError, match="one kind of thresholds"):
        probe("many-tasks").check(ManyTasksHyperparameters(own=["thresholds-layer", "thresholds-neuron"]))
