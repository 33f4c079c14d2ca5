"""``spikefed list settings``: what it prints is a file with the defaults, and names every key there is."""

from __future__ import annotations

import json
import tomllib

import pytest
from typer.testing import CliRunner

from spikefed.cli import whole
from spikefed.experiment import Experiment, from_tree
from spikefed.experiment.settings import Part, parts
from spikefed.federated import METHODS
from spikefed.federated.local import LocalTraining

RUNNER = CliRunner()


def listed(*arguments: str) -> str:
    done = RUNNER.invoke(whole(), ["list", "settings", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_tables_are_a_file_of_the_defaults() -> None:
    text = listed()
    tree = tomllib.loads(text[: text.index('[method]  # name = "')])
    assert tree["data"]["clients"] == 4 and tree["participation"]["schedule"] == "all"
    tree["network"].pop("neuron")  # which says that the network's own stays, by saying nothing
    training = tree.pop("training")
    assert from_tree(tree).hash() == Experiment().hash()
    assert LocalTraining.model_validate(training) == LocalTraining()


def test_a_method_with_defaults_of_its_own_in_training_says_so() -> None:
    assert '[training]: local_loss = "tet", logit_scale = 4.0.' in listed("fsd+")
    assert "[training]: " not in listed("fedavg")


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_methods_keys_are_all_there_with_their_defaults(name: str) -> None:
    tree = tomllib.loads(listed(name))
    shown = {line.lstrip("# ").split(" =")[0] for line in listed(name).splitlines() if " =" in line}
    training = {setting.key for part in parts() if part.name == "training" for setting in part.settings}
    training |= {part.name.removeprefix("training.") for part in parts()}  # its tables
    fields = {field.alias or key for key, field in METHODS[name].hyperparameters.model_fields.items()}
    assert fields <= shown | training
    with_keys = from_tree({"method": {**tree["method"], "name": name}})
    assert with_keys.hash() == from_tree({"method": {"name": name}}).hash()


def test_ranges_are_those_that_are_checked() -> None:
    found = {(part.name, setting.key): setting.type for part in parts() for setting in part.settings}
    assert found["participation", "fraction"] == "number in (0, 1]"
    assert found["participation", "straggle"] == "number in [0, 1)"
    assert found["data", "clients"] == "whole number >= 1"
    assert found["fsd+", "groups"] == "whole number in [1, 64]"


def test_as_json_and_with_a_wrong_name() -> None:
    (part,) = json.loads(listed("participation", "--json"))
    assert Part(**part).name == "participation"
    done = RUNNER.invoke(whole(), ["list", "settings", "cfx"])
    assert done.exit_code != 0 and "the nearest is 'cfd'" in str(done.exception)
    done = RUNNER.invoke(whole(), ["list", "methods", "cfd"])
    assert done.exit_code != 0 and "list settings" in str(done.exception)
