"""The federated-SNN study: every job is valid, every figure has the paper's axis, sides differ as meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spikefed.experiment import jobs_of, run

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


TOY = [
    'data.dataset="digits"', "data.clients=3", "data.private_per_client=40", "data.test_limit=20", "rounds=1",
    "network.steps=2", "training.local_epochs=1", "participation.fraction=0.7", "run.threads=1",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("figure", "label"), [("clients", "ann"), ("stragglers", "snn"), ("noise", "snn")])
def test_paper_scale_files_run_at_toy_size(figure: str, label: str, tmp_path: Path) -> None:
    config = [c for c in configs(f"{figure}-paper") if c.label == label][-1]
    folder = run(config, overrides=TOY, out=tmp_path / "run")
    result = json.loads((folder / "result.json").read_text())
    line = json.loads((folder / "metrics.jsonl").read_text())
    assert result["network"] == "vgg9-bntt" and result["rounds"] == 1
    weights = (folder / "model.safetensors").stat().st_size  # and a header of some kilobytes
    assert result["upstream_bytes"] == pytest.approx(len(line["participants"]) * weights, rel=0.01)
    assert weights > 5_000_000
    assert line["diagnostics"]["model_deviation"] >= 0 and line["server_loss"] is not None
