"""Joules of a search for tickets: those of the energy report, of the steps there are and of what masks leave."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from federated.sparse import STEPS, context
from federated.test_ownmasks import Run as Own
from federated.test_tickets import Run
from spikefed.errors import ConfigError
from spikefed.federated import ticketcosts
from spikefed.federated.fewsteps import shortened
from spikefed.federated.ticketcosts import IMAGES
from spikefed.hardware import count_operations, energy_report, training_pj
from spikefed.training import density


def layers_of(run: Run, weights: Any, steps: int = STEPS) -> Any:
    seen = context(run, 40)
    net = run.networks.load(weights)
    with shortened(net, steps):
        return count_operations(net, seen.preprocess(seen.public[:IMAGES]))


def test_a_dense_round_costs_what_the_energy_report_says_times_its_samples() -> None:
    run = Run(local_epochs=2)
    values = run.step()
    seen = context(run, 40)
    net = run.networks.load(run.state["result"]["weights"])
    sample = energy_report(net, seen.preprocess(seen.public)).training.snn_pj
    assert values["train_joules"] == pytest.approx(1e-12 * sample * 2 * 24 * 2)  # clients x images x epochs
    assert values["train_joules"] == values["train_joules_unpruned"] > 0


def test_a_ticket_costs_what_its_mask_leaves_of_every_layer() -> None:
    run = Run()
    values = run.rounds(6)[-1]
    result = run.state["result"]
    layers = layers_of(run, result["weights"])
    left = {name.removesuffix(".weight"): float(kept.float().mean()) for name, kept in result["mask"].items()}
    assert set(left) == {layer.name for layer in layers} and len(set(left.values())) == 3
    sample = training_pj(layers, STEPS, left=left).snn_pj
    assert values["train_joules"] == pytest.approx(1e-12 * sample * 2 * 24)
    assert values["train_joules"] < 0.7 * values["train_joules_unpruned"]


def test_early_time_pays_for_its_steps_and_the_twin_for_one_pass() -> None:
    run = Run(early_time=True, kl_threshold=1.0, probe_rounds=1, search="one-shot", search_rounds=3)
    values = run.rounds(2)
    early = int(values[0]["early_steps"])
    assert early < STEPS
    layers = layers_of(run, run.state["result"]["weights"], early)
    assert values[1]["train_joules"] == pytest.approx(1e-12 * training_pj(layers, early).snn_pj * 2 * 24)
    assert run.networks.network.steps == STEPS
    twin = Run(search_on="ann")
    said = twin.step()
    layers = layers_of(twin, twin.state["result"]["weights"])
    assert said["train_joules"] == pytest.approx(1e-12 * training_pj(layers, STEPS).ann_pj * 2 * 24)


def test_the_search_sums_the_rounds_that_looked_for_masks() -> None:
    run = Run(restart="keep")
    values = run.rounds(9)
    assert values[2]["search_joules_1"] == pytest.approx(sum(v["train_joules"] for v in values[:3]))
    assert values[5]["search_joules_2"] == pytest.approx(sum(v["train_joules"] for v in values[:6]))
    once = Run(search="one-shot", restart="keep")
    values = once.rounds(6)
    assert values[2]["search_joules_1"] == values[5]["search_joules_2"]
    assert values[2]["search_joules_1"] == pytest.approx(sum(v["train_joules"] for v in values[:3]))
    drawn = Run(search="random")
    assert [v.get("search_joules_2", 0.0) for v in drawn.rounds(4)] == [0.0] * 4


def test_a_gradient_is_one_pass_of_everybody_over_the_first_weights() -> None:
    run = Run(search="snip", local_epochs=3)
    values = run.step()
    sample = training_pj(layers_of(run, run.networks.initial()), STEPS).snn_pj
    assert values["train_joules"] == values["search_joules_1"] == pytest.approx(1e-12 * sample * 2 * 24)


def test_masks_of_their_own_are_paid_for_by_client() -> None:
    run = Own(personal_masks=True)
    for _ in range(4):
        values = run.step()
    masks = run.masks()
    layers = layers_of(run, run.state["result"]["weights"])  # type: ignore[arg-type]
    wanted = 0.0
    for mask in masks.values():
        left = {name.removesuffix(".weight"): float(kept.float().mean()) for name, kept in mask.kept.items()}
        wanted += 1e-12 * 24 * training_pj(layers, STEPS, left=left).snn_pj
    assert values["train_joules"] == pytest.approx(wanted, rel=0.02)  # counted before the union takes entries away
    assert density(masks[0]) == pytest.approx(0.5, abs=0.01)


def test_counting_leaves_training_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {"early_time": True, "kl_threshold": 1.0, "probe_rounds": 1, "criterion": "loss"}
    counted, plain = Run(**given), Run(**given)
    counted.rounds(5)
    monkeypatch.setattr(ticketcosts, "joules", lambda *_: {})
    plain.rounds(5)
    assert all(torch.equal(tensor, plain.state["weights"][name]) for name, tensor in counted.state["weights"].items())


def test_a_network_that_cannot_be_counted_has_no_joules(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any) -> Any:
        raise ConfigError("nothing to count")

    monkeypatch.setattr(ticketcosts, "count_operations", refuses)
    run = Run()
    values = run.rounds(4)[-1]
    assert "train_joules" not in values and values["level"] == 1
