"""Rates and latency: counted a second way, on networks of this package and on wrapped ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from probes.subjects import CLASSES, network, subject
from spikefed.errors import ConfigError
from spikefed.networks import ann_twin, firing_rates, wrap
from spikefed.neurons import LIF
from spikefed.probes import run_probe
from spikefed.probes.spikes import SpikeWatch, by_step

LAYOUTS = ["4C3-AP2-12FC", "3C3-3C3-AP2-8FC", "12FC"]


def rows(records: list[dict[str, Any]], part: str) -> list[dict[str, Any]]:
    return [row for row in records if row["part"] == part]


class Stepwise(nn.Module):
    """A neuron that is called once a step and remembers its potential, as other libraries' are."""

    v_threshold = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.v: Tensor | float = 0.0

    def reset(self) -> None:
        self.v = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.v = 0.5 * self.v + x
        spikes = (self.v > 1.0).to(x)
        self.v = self.v * (1 - spikes)
        return spikes


def sequence(steps: int = 4) -> nn.Module:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Flatten(2), nn.Linear(64, 20), LIF(decay=0.5), nn.Linear(20, CLASSES), LIF(decay=0.5))
    return wrap(body, steps=steps, classes=CLASSES)


def stepwise(steps: int = 4) -> nn.Module:
    """The same weights and neurons, a step at a time."""
    own = sequence(steps).module
    body = nn.Sequential(nn.Flatten(1), own[1], Stepwise(), own[3], Stepwise())
    return wrap(body, steps=steps, classes=CLASSES, mode="step")


@pytest.mark.parametrize("layout", [*LAYOUTS, "resnet-small", "cell:0302-0030-3003-0000:width=4,hidden=8"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"norm": "bntt"}, {"coding": "bernoulli"}, {"input_shape": (1, 7, 9)}, {"pooling": "max"}],
)
def test_rates_are_those_of_the_monitor_and_parts_add_up(layout: str, changes: dict[str, Any]) -> None:
    net, shown = network(name=layout, **changes), subject(shape=changes.get("input_shape", (1, 8, 8)))
    draws = torch.Generator().manual_seed(4)
    expected = firing_rates(net, shown.preprocess(shown.images), generator=draws)
    found = run_probe(net, shown, "rates", generator=torch.Generator().manual_seed(4))
    layers = {row["layer"]: row for row in rows(found.records, "layers")}
    whole = layers.pop("all layers")
    odd = {layer.plan.name for layer in net.places if layer.plan.pool and layer.plan.map_shape[1] % 2}
    for name, row in layers.items():  # the monitor does not see the last row of odd maps, which the pool drops
        assert row["rate"] == pytest.approx(expected[name], rel=0.2 if name in odd else 1e-7)
    assert whole["neurons"] == sum(row["neurons"] for row in layers.values())
    assert whole["image_spikes"] == pytest.approx(sum(row["image_spikes"] for row in layers.values()))
    counts = torch.bincount(shown.labels, minlength=CLASSES).tolist()
    for name, row in layers.items():
        steps = [r for r in rows(found.records, "steps") if r["layer"] == name]
        classes = {r["class"]: r for r in rows(found.records, "classes") if r["layer"] == name}
        assert sum(r["image_spikes"] for r in steps) == pytest.approx(row["image_spikes"])
        each = [classes[label]["image_spikes"] * n for label, n in zip(shown.classes, counts, strict=True)]
        assert sum(each) == pytest.approx(row["image_spikes"] * len(shown))


def test_watching_does_not_change_the_outputs_and_sees_behind_a_pool_what_it_averaged() -> None:
    net, shown = network(), subject()
    x = shown.preprocess(shown.images)
    seen: dict[str, Tensor] = {}
    with torch.no_grad():
        plain = net(x)
        with SpikeWatch(net, lambda name, fired, rows: seen.__setitem__(name, fired)) as watch:
            watched = watch.outputs(net, x, 0, torch.Generator())
        assert torch.equal(plain, watched) and torch.equal(plain, net(x))
        first = net.layers[0]
        pooled = first(net.encoder.encode(x, 4, None).flatten(0, 1), 4, True)
    maps = seen["conv1"].float().view(4 * len(x), 4, 8, 8)
    assert torch.equal(torch.nn.functional.avg_pool2d(maps, 2), pooled)
    assert first.plan.pool


def test_silent_and_saturated_neurons_are_found() -> None:
    net, shown = network(norm="none"), subject()
    with torch.no_grad():
        net.layers[1].weight.zero_()
        net.layers[1].bias.fill_(-1.0)
        net.layers[1].bias[:3] = 50.0
    found = {row["layer"]: row for row in rows(run_probe(net, shown, "rates").records, "layers")}
    assert found["fc1"]["silent_share"] == 9 / 12 and found["fc1"]["saturated_share"] == 3 / 12
    assert found["fc1"]["rate"] == pytest.approx(3 / 12)


@pytest.mark.parametrize("probe", ["rates", "latency"])
def test_a_step_at_a_time_gives_what_the_sequence_gives(probe: str) -> None:
    shown = subject()
    found = [run_probe(net, shown, probe).records for net in (sequence(), stepwise())]
    assert found[0] == found[1] and any(row.get("image_spikes") for row in found[0])


@pytest.mark.parametrize("layout", [*LAYOUTS, "resnet-small"])
def test_t_steps_of_many_are_what_a_run_of_t_steps_gives(layout: str) -> None:
    shown, whole = subject(60), network(name=layout, steps=6)
    found = run_probe(whole, shown, "latency").records
    assert [row["steps"] for row in found] == [1, 2, 3, 4, 5, 6]
    for row in found:
        whole.steps = int(row["steps"])  # type: ignore[arg-type]
        short = run_probe(whole, shown, "latency").records[-1]
        assert row["accuracy"] == short["accuracy"] and row["image_spikes"] == short["image_spikes"]
        rates = rows(run_probe(whole, shown, "rates").records, "layers")[-1]
        assert row["image_spikes"] == pytest.approx(rates["image_spikes"])


def test_latency_ends_at_the_accuracy_of_all_steps_and_says_how_few_are_enough() -> None:
    shown = subject(100)
    found = run_probe(network(), shown, "latency", hyper={"tolerance": 0.02})
    last = found.records[-1]
    assert last["accuracy"] == run_probe(network(), shown, "accuracy").records[0]["accuracy"]
    assert last["settled_share"] == 1.0 and last["spikes_share"] == 1.0 and last["good_enough"]
    enough = [row for row in found.records if row["accuracy"] >= last["accuracy"] - 0.02 - 1e-9]  # type: ignore[operator]
    assert found.headline["steps"] == enough[0]["steps"]


@pytest.mark.parametrize("probe", ["rates", "latency"])
def test_an_ordinary_network_has_no_spikes_to_count(probe: str) -> None:
    net = ann_twin("4C3-AP2-12FC", input_shape=(1, 8, 8), classes=CLASSES)
    with pytest.raises(ConfigError, match="has no layer that spikes"):
        run_probe(net, subject(), probe)


def test_calls_that_make_no_whole_steps_are_named() -> None:
    with pytest.raises(ConfigError, match="layer 'odd'.*do not split into 4 time steps of 6 images"):
        by_step("odd", [torch.zeros(6, 3)] * 3, 4, 6)


def test_a_module_that_is_used_twice_has_twice_the_neurons() -> None:
    calls = [torch.full((2, 3), float(place)) for place in range(6)]  # steps of 3, two uses each, T outermost
    found = by_step("twice", calls, 3, 2)
    assert found.shape == (3, 2, 6) and found[1, 0].tolist() == [2, 2, 2, 3, 3, 3]
