"""network.precision: 'auto' is settled once and recorded; what is slow is said; what is not offered is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiment.runs import Told
from spikefed import networks, neurons
from spikefed.errors import CheckpointError, ConfigError
from spikefed.experiment import config as configs
from spikefed.experiment.run import run
from spikefed.neurons import processor

QUICK = {
    "rounds": 1,
    "data": {"clients": 2, "private_per_client": 20, "public": 20, "test_limit": 20},
    "network": {"name": "8C3-AP2-16FC", "steps": 2},
    "training": {"local_epochs": 1},
    "method": {"name": "fsd", "distil_epochs": 1, "server_epochs": 1},
    "run": {"threads": 1},
}


def asking(precision: str, **other) -> dict:
    return QUICK | {"network": QUICK["network"] | {"precision": precision}} | other


@pytest.mark.parametrize("here", ["float32", "bfloat16"])
def test_auto_is_recorded_as_what_it_was_and_kept_on_another_machine(tmp_path: Path, monkeypatch, here) -> None:
    monkeypatch.setattr(processor, "fastest_precision", lambda device="cpu": here)
    folder = run(asking("auto"), out=tmp_path / "run")
    assert configs.load(folder / "config.toml").network.precision == here
    other = {"float32": "bfloat16", "bfloat16": "float32"}[here]
    monkeypatch.setattr(processor, "fastest_precision", lambda device="cpu": other)
    run(asking("auto", rounds=2), out=folder, resume=True)
    assert configs.load(folder / "config.toml").network.precision == here
    with pytest.raises(CheckpointError, match="network.precision"):
        run(asking(other, rounds=2), out=folder, resume=True)


def test_naming_float32_changes_no_hash() -> None:
    assert configs.from_tree(QUICK).hash() == configs.from_tree(asking("float32")).hash()
    assert configs.from_tree(QUICK).hash() != configs.from_tree(asking("bfloat16")).hash()


def test_auto_takes_bfloat16_where_it_is_faster(monkeypatch) -> None:
    for instructions, level, wanted in [
        (True, "portable", "bfloat16"),
        (False, "avx2", "bfloat16"),
        (False, "portable", "float32"),
    ]:
        monkeypatch.setattr(processor, "has_bf16", lambda has=instructions: has)
        monkeypatch.setattr(processor, "instruction_set", lambda level=level: level)
        assert neurons.fastest_precision() == wanted


def test_a_slow_choice_is_said(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(processor, "has_bf16", lambda: False)
    told = Told()
    run(asking("bfloat16"), out=tmp_path / "fast", progress=told)
    assert told.said == []  # on our own kernels it costs nothing
    monkeypatch.setenv("SPIKEFED_KERNELS", "reference")
    run(asking("bfloat16"), out=tmp_path / "slow", progress=told)
    assert len(told.said) == 1 and "no bfloat16 instructions" in told.said[0]


@pytest.mark.parametrize("asked", ["float16", "half", "fp8"])
def test_other_precisions_are_refused_in_one_sentence(asked) -> None:
    with pytest.raises(ConfigError, match=f"'network.precision' = '{asked}'.*bfloat16"):
        configs.from_tree(asking(asked))
    net = networks.build("8C3-AP2-16FC", input_shape=(1, 8, 8), classes=10, steps=2)
    with pytest.raises(ConfigError, match=f"precision '{asked}' is not offered.*use float32, bfloat16 or auto"):
        net.precision = asked
    assert net.precision == "float32"
