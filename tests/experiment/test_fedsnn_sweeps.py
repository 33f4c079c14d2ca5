"""The federated-SNN study: every job is valid, every figure has the paper's axis, sides differ as meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from spikefed.experiment import jobs_of

SWEEPS = Path(__file__).parents[2] / "experiments" / "sweeps"


def configs(name: str):
    return [job.config for job in jobs_of([SWEEPS / f"fedsnn-{name}.toml"], Path("none"), seeds=[0])]


@pytest.mark.parametrize("scale", ["paper", "cpu"])
def test_clients_and_participants_of_the_paper(scale: str) -> None:
    found = configs(f"clients-{scale}")
    pairs = {(c.data.clients, round(c.data.clients * c.participation.fraction)) for c in found}
    assert pairs == {(1, 1), (5, 5), (10, 2), (20, 5), (100, 10), (150, 15), (200, 20)}
    partitions = {(c.data.partition, c.data.alpha) for c in found if c.data.clients == 10}
    assert partitions == {("iid", 0.5), ("dirichlet", 0.5), ("dirichlet", 0.1)}


@pytest.mark.parametrize("scale", ["paper", "cpu"])
def test_stragglers_and_noise_of_the_paper(scale: str) -> None:
    assert {c.participation.straggle for c in configs(f"stragglers-{scale}")} == {0.0, 0.25, 0.5, 0.75, 0.95}
    noise = configs(f"noise-{scale}")
    assert sorted({c.hyper().update_noise for c in noise}) == [k / 2 for k in range(11)]  # type: ignore[attr-defined]
    assert {c.data.clients for c in noise} == {100}


def test_paper_scale_has_the_papers_settings() -> None:
    sides = {c.label: c for c in configs("clients-paper") if c.data.clients == 10 and c.data.partition == "iid"}
    assert set(sides) == {"snn", "ann", "lab-ann"}
    snn = sides["snn"]
    assert (snn.network.name, snn.network.steps, snn.network.readout) == ("vgg9-bntt", 20, "current")
    hyper = snn.hyper()
    assert (hyper.lr, hyper.momentum, hyper.weight_decay, hyper.local_batch) == (0.1, 0.95, 1e-4, 32)  # type: ignore
    assert (hyper.lr_milestones, hyper.lr_decay, hyper.drop_last) == ([40, 60, 80], 0.2, True)  # type: ignore
    assert hyper.weighting == "uniform" and snn.rounds == 100  # type: ignore[attr-defined]
    assert sides["ann"].network.twin == "ann" and sides["ann"].network.name == "vgg9-bntt"
    assert sides["lab-ann"].network.name == "vgg9-lab-ann" and sides["lab-ann"].hyper().lr == 0.001  # type: ignore


@pytest.mark.parametrize("scale", ["paper", "cpu"])
def test_learning_rates_are_tuned_on_validation_data(scale: str) -> None:
    found = configs(f"tune-{scale}")
    assert {c.data.evaluate_on for c in found} == {"validation"} and all(c.data.validation > 0 for c in found)
    for twin in ("snn", "ann"):
        assert len({c.hyper().lr for c in found if c.network.twin == twin}) >= 3  # type: ignore[attr-defined]
