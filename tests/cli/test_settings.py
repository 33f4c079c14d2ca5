"""``spikefed list settings``: what it prints is a file with the defaults, and names every key there is."""

from __future__ import annotations

import json
import tomllib

import pytest
from pydantic import Field
from typer.testing import CliRunner

from spikefed.cli import whole
from spikefed.errors import ConfigError
from spikefed.experiment import Experiment, from_tree
from spikefed.experiment.settings import Part, parts
from spikefed.federated import METHODS
from spikefed.federated.local import LocalTraining
from spikefed.federated.methods.fedavg import FedAvg
from spikefed.hyper import Hyperparameters
from spikefed.probes import Accuracy

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
    training |= {part.name.removeprefix("method.") for part in parts() if part.of == name}
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


class OwnHyper(LocalTraining):
    pull: float = Field(default=0.5, gt=0, le=1, description="how far the server goes")
    lr: float = 0.25


class OwnMethod(FedAvg):
    summary = "half way"
    hyperparameters = OwnHyper


class Untrained(OwnMethod):
    hyperparameters = Hyperparameters


class OwnProbe(Accuracy):
    summary = "the same again"


class LooseProbe(Accuracy):
    hyperparameters = dict  # pyright: ignore[reportAssignmentType]


def test_an_own_method_or_probe_shows_its_settings() -> None:
    told = listed(f"{__name__}:OwnMethod")
    assert tomllib.loads(told)["method"] == {"pull": 0.5}
    assert "number in (0, 1]: how far the server goes" in told and "[training]: lr = 0.25." in told
    assert "half way" in listed(f"{__name__}:Untrained")
    assert listed(f"{__name__}:OwnProbe").startswith("[[probe]]")
    done = RUNNER.invoke(whole(), ["list", "settings", f"{__name__}:Own"])
    assert isinstance(done.exception, ConfigError) and "no attribute 'Own'" in str(done.exception)
    done = RUNNER.invoke(whole(), ["list", "settings", f"{__name__}:LooseProbe"])
    assert isinstance(done.exception, ConfigError) and "based on ProbeHyperparameters" in str(done.exception)


def test_settings_of_training_need_a_class_that_has_them() -> None:
    named = {"method": {"name": f"{__name__}:Untrained"}}
    assert from_tree(named).method["name"] == f"{__name__}:Untrained"
    with pytest.raises(ConfigError, match=r"'training\.lr' = 0\.1 .*base it on LocalTraining"):
        from_tree(named | {"training": {"lr": 0.1}})
