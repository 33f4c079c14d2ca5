"""`[chips]` in an experiment: every client on its own chip, repeatable, resumable, and refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import spikefed
from experiment.runs import fingerprint
from spikefed.errors import CheckpointError, ConfigError
from spikefed.experiment import config as configs
from spikefed.experiment.build import build

BASE = {
    "rounds": 2,
    "data": {"clients": 2, "private_per_client": 40, "public": 20, "test_limit": 60},
    "network": {"name": "4C3-AP2-12FC", "steps": 2, "norm": "bn"},
    "training": {"local_epochs": 1, "local_batch": 20},
    "run": {"threads": 1},
}
CHIPS = {"profile": ["pcm", "ideal"], "changes": {"noise": {"read": 0.2}, "noise.read_when": "each"}, "rewrite": 1}
FEDAVG = {"name": "fedavg", "send": ["weight", "neuron"]}
FSD = {"name": "fsd", "client_reset": "never", "distil_epochs": 1, "server_epochs": 1}


def experiment(chips=None, method=None, **tables):
    tree = BASE | {"method": method or FEDAVG} | tables
    return configs.from_tree(tree if chips is None else tree | {"chips": chips})


def ran(config, folder: Path) -> Path:
    return spikefed.run(config, out=folder)


def test_without_the_table_an_experiment_keeps_its_hash_and_its_file() -> None:
    plain = experiment()
    assert "chips" not in plain.resolved()
    assert plain.hash() == experiment({"profile": []}).hash() != experiment(CHIPS).hash()


@pytest.mark.parametrize("method", [FEDAVG, FSD], ids=["fedavg", "fsd"])
def test_runs_on_chips_are_repeatable_and_measured_there(tmp_path, method) -> None:
    config = experiment(CHIPS | {"repairs": ["none", "adapt"]}, method)
    one, again = (ran(config, tmp_path / name) for name in ("one", "again"))
    assert fingerprint(one) == fingerprint(again)
    found = json.loads((one / "probes" / "own-chips.json").read_text())["measurements"][-1]
    kinds = {(row["network"], row["client"], row["profile"]) for row in found["records"] if row["part"] == "clients"}
    assert kinds >= {("own", 0, "pcm"), ("own", 1, "ideal"), ("shared", 0, "pcm")}
    exact = ran(experiment(None, method), tmp_path / "exact")
    assert fingerprint(exact)[2] != fingerprint(one)[2]


def test_off_chip_training_is_exact_training(tmp_path) -> None:
    off = ran(experiment(CHIPS | {"train": "off-chip", "repairs": ["none"]}), tmp_path / "off")
    exact = ran(experiment(), tmp_path / "exact")
    assert fingerprint(off) == fingerprint(exact)
    assert (off / "probes" / "own-chips.json").exists()


def test_ideal_chips_train_as_no_chips(tmp_path) -> None:
    config = experiment({"profile": "ideal", "rewrite": 1, "repairs": ["none"]})
    on, exact = (
        json.loads((ran(chosen, tmp_path / name) / "result.json").read_text())["accuracy"]
        for name, chosen in (("on", config), ("exact", experiment()))
    )
    assert on == pytest.approx(exact, abs=0.1)


@pytest.mark.slow
def test_processes_and_resuming_change_no_bit(tmp_path) -> None:
    config = experiment(CHIPS | {"repairs": ["none"]})
    whole = ran(config, tmp_path / "whole")
    pool = ran(config.model_copy(update={"run": config.run.model_copy(update={"workers": 2})}), tmp_path / "pool")
    assert fingerprint(whole) == fingerprint(pool)
    short = ran(config.model_copy(update={"rounds": 1}), tmp_path / "short")
    spikefed.run(config, out=short, resume=True)
    assert fingerprint(whole) == fingerprint(short)


def test_a_run_does_not_go_on_with_a_profile_that_was_edited(tmp_path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("[noise]\nread = 0.1\n")
    config = experiment({"profile": str(mine), "train": "off-chip", "repairs": ["none"]})
    short = ran(config.model_copy(update={"rounds": 1}), tmp_path / "short")
    mine.write_text("[noise]\nread = 0.4\n")
    with pytest.raises(CheckpointError, match="the numbers of chip profiles .*mine.toml are not those that the run in"):
        spikefed.run(config, out=short, resume=True)
    mine.write_text("# the same numbers\n[noise]\nread = 0.1\n")
    spikefed.run(config, out=short, resume=True)


@pytest.mark.parametrize(
    ("chips", "said"),
    [
        ({"profile": "rrram"}, "chip profile 'rrram' is not known; the nearest is 'rram'"),
        ({"seed": 3}, r"\[chips\] names no profile, so nobody has a chip; set chips.profile = 'rram'"),
        ({"profile": "rram", "repairs": ["norm"]}, "'norm' is not known; use none, gain, adapt, labels, soft"),
        ({"profile": "rram", "changes": {"cell.on_off": 0.5}}, "'cell.on_off' = 0.5"),
        ({"profile": ["rram", "pcm", "fefet"]}, "chips.profile names 3 kinds for 2 clients, so some would be nobody's"),
        (
            {"profile": ["rram", "pcm"], "changes": {"converters.adc_bits": 8}},
            r"profile rram has converters \(converters.adc_bits = 8\), .*; set chips.train = 'off-chip'",
        ),
    ],
)
def test_what_cannot_be_is_said_before_a_run(chips, said) -> None:
    with pytest.raises(ConfigError, match=said):
        build(experiment(chips))


def test_chips_with_converters_are_for_use_alone(tmp_path) -> None:
    found = ran(experiment(CHIPS | {"train": "off-chip", "changes": {"converters.adc_bits": 8}}), tmp_path / "off")
    assert (found / "probes" / "own-chips.json").exists()


def test_settings_out_of_range() -> None:
    for chips in ({"profile": "rram", "train": "both"}, {"profile": "rram", "rewrite": 0}, {"profiles": ["rram"]}):
        with pytest.raises(ConfigError, match="chips"):
            experiment(chips)


def test_chips_need_the_processor_and_repairs_need_norms() -> None:
    with pytest.raises(ConfigError, match="chips are simulated on the processor and run.device is 'cuda'"):
        build(experiment({"profile": "rram"}, run={"device": "cuda"}))
    with pytest.raises(ConfigError, match="no batch normalisation to repair"):
        build(experiment({"profile": "rram"}, {"name": "fedavg"}, network=BASE["network"] | {"norm": "none"}))


@pytest.mark.parametrize("method", [{"name": "fedavg"}, FSD], ids=["fedavg", "fsd"])
def test_hardware_aware_training_is_an_option_of_every_method(tmp_path, method) -> None:
    noisy = BASE["training"] | {"noise": {"relative": 0.3, "bits": 4}}
    one, again = (ran(experiment(None, method, training=noisy), tmp_path / name) for name in ("one", "again"))
    exact = ran(experiment(None, method), tmp_path / "exact")
    assert fingerprint(one) == fingerprint(again)
    assert fingerprint(one)[2] != fingerprint(exact)[2]
    off = experiment(None, method, training=BASE["training"] | {"noise": {}})
    assert off.hash() == experiment(None, method).hash() != experiment(None, method, training=noisy).hash()


def test_noise_that_cannot_be() -> None:
    for noise, key in (({"relative": -0.1}, "relative"), ({"bits": 1}, "bits"), ({"sigma": 0.1}, "sigma")):
        with pytest.raises(ConfigError, match=key):
            experiment(training=BASE["training"] | {"noise": noise})
