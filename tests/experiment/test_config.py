"""Experiment files: inheritance, presets, overrides, and the sentence each mistake gets."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

import spikefed
from spikefed.errors import ConfigError
from spikefed.experiment import config as configs
from spikefed.experiment import toml
from spikefed.experiment.checks import check, check_idle
from spikefed.experiment.folder import flatten

REPOSITORY = Path(__file__).parents[2]
EXPERIMENTS = sorted((REPOSITORY / "experiments").glob("*.toml"))


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


OTHERS = {"stages-digits": "fedavg", "stages-cifar100": "fedyogi", "conv-watch": "fsd+", "fsd-digits-seeds": "fsd+"}
"""Experiments whose names do not say their method."""


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_every_shipped_experiment_is_valid_and_named_after_its_file(path: Path) -> None:
    config = configs.load(path)
    assert config.name == path.stem
    pooled = path.stem.startswith(("temporal", "tickets")) and not path.stem.endswith("-mini")  # a federation
    assert config.data.pooled == pooled
    averaged = "fedavg" if "fedavg" in path.stem or pooled else "fsd"
    usual = {"dcnas": "dc-nas", "tickets": "tickets", "fsdplus": "fsd+"}.get(path.stem.partition("-")[0], averaged)
    assert config.method["name"] == OTHERS.get(path.stem, usual)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_resolved_config_round_trips_through_toml(path: Path) -> None:
    config = configs.load(path)
    again = configs.from_tree(tomllib.loads(toml.dump(config.resolved())))
    assert again.hash() == config.hash()
    assert again.resolved() == config.resolved()


def test_twins_differ_in_the_method_only() -> None:
    for fedavg in (p for p in EXPERIMENTS if p.stem.startswith("fedavg-")):
        fsd = configs.load(fedavg.with_name(fedavg.name.replace("fedavg", "fsd")))
        twin = configs.load(fedavg)
        assert (twin.data, twin.network, twin.training, twin.rounds) == (
            fsd.data,
            fsd.network,
            fsd.training,
            fsd.rounds,
        )


def test_paper_scale_files_hold_the_papers_numbers() -> None:
    config = configs.load(next(p for p in EXPERIMENTS if p.stem == "table1-cifar10-fsd"))
    hyper = config.hyper()
    assert (config.rounds, config.data.clients, config.data.private_per_client, config.data.public) == (
        50,
        4,
        10000,
        8000,
    )
    assert (hyper.lr, hyper.distil_lr, hyper.local_epochs, hyper.distil_epochs, hyper.server_epochs) == (
        1e-5,
        1e-5,
        5,
        5,
        5,
    )  # type: ignore[attr-defined]
    assert config.participation.schedule == "late"
    neuron = config.network.neuron
    assert neuron is not None and (neuron.threshold, neuron.decay, config.network.steps) == (0.25, 0.1, 8)


def test_extends_merges_and_another_method_replaces_the_table(tmp_path: Path) -> None:
    write(tmp_path / "base.toml", 'rounds = 3\n[training]\nlr = 0.5\n[method]\nname = "fsd"\nlambda = 1.0\n')
    path = write(tmp_path / "top.toml", 'extends = "base.toml"\nseed = 7\n[method]\nname = "fedavg"\n')
    config = configs.load(path, ["rounds=4", "data.partition=dirichlet", "training.lr=1e-2"])
    assert (config.rounds, config.seed, config.data.partition, config.method) == (4, 7, "dirichlet", {"name": "fedavg"})
    assert config.hyper().lr == 0.01  # type: ignore[attr-defined]


def test_extends_circle(tmp_path: Path) -> None:
    write(tmp_path / "a.toml", 'extends = "b.toml"')
    write(tmp_path / "b.toml", 'extends = "a.toml"')
    with pytest.raises(ConfigError, match="extends itself"):
        configs.load(tmp_path / "a.toml")


def test_preset_lies_under_the_file(tmp_path: Path) -> None:
    config = configs.load(write(tmp_path / "x.toml", 'preset = "authors"\n[training]\nlocal_epochs = 1\n'))
    hyper = config.hyper()
    assert (hyper.local_epochs, hyper.cross_normalise, config.data.validation_overlap) == (1, "softmax", True)  # type: ignore[attr-defined]


def test_the_searched_preset_is_the_best_trial_of_the_search_rounded() -> None:
    trials = [json.loads(path.read_text()) for path in (REPOSITORY / "results" / "recipe").glob("trial-*.json")]
    best = max((trial for trial in trials if trial["state"] == "complete"), key=lambda trial: trial["value"])
    hyper = configs.from_tree({"preset": "searched", "data": {"dataset": "digits"}}).hyper()
    for name, found in best["levers"].items():
        assert getattr(hyper, name) == float(f"{found:.2g}"), name
    assert (hyper.rehearse_batch, hyper.rehearse_steps) == (16, 4)  # what all trials had


def test_a_preset_of_the_command_line_lies_on_top_of_the_file_in_its_place(tmp_path: Path) -> None:
    path = write(tmp_path / "x.toml", "[training]\nlocal_epochs = 1\nlr = 0.5\n[method]\nserver_epochs = 7\n")
    hyper = configs.load(path, ["training.lr=0.3", "preset=faithful", "method.server_epochs=9"]).hyper()
    assert (hyper.local_epochs, hyper.lr, hyper.server_epochs) == (5, 1e-5, 9)  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="preset 'best'"):
        configs.load(path, ["preset=best"])


@pytest.mark.parametrize(
    "text, expected",
    [
        ("ruonds = 3", "unknown key 'ruonds'; the nearest known key is 'rounds'"),
        ("[data]\nclient = 3", "unknown key 'data.client'; the nearest known key is 'data.clients'"),
        ("[network]\nstep = 3", "the nearest known key is 'network.steps'"),
        ("[network]\nsteps = 0", "'network.steps' = 0"),
        ("[network.neuron]\ntreshold = 1", "the nearest known key is 'network.neuron.threshold'"),
        ("[training]\nlearning_rate = 1", "unknown key 'training.learning_rate'"),
        ("[training]\nlr = -1", "'training.lr' = -1"),
        ('[method]\nname = "fsd"\nlamda = 1', "the nearest known key is 'method.lambda'"),
        ('[method]\nname = "fsd"\nlr = 1', "it belongs to table [training]"),
        ('[method]\nname = "fdavg"', "method 'fdavg' is not known; use one of"),
        ('[method]\nname = "fsdd"', "the nearest is 'fsd'"),
        ('[method]\nname = "FSD+"', "the nearest is 'fsd+'"),
        ('[method]\nname = "FedLC"', "corrects logits in local training, of any method: set training.calibrate = 1"),
        ('[method]\nname = "fedbn"', "set method.name = 'fedavg' and method.send = ['weight', 'neuron']"),
        ('[method]\nname = "fsdplus"', "the method's name is 'fsd+'"),
        (
            '[method]\nname = "nowhere:Method"',
            "names module 'nowhere', which Python does not find; put its folder on PYTHONPATH",
        ),
        ('preset = "best"', "preset 'best'"),
        ("data = 3", "'data' in"),
        ("training = 3", "'training' in"),
        ("rounds = ", "is not valid TOML"),
        ("seed = -1", "'seed' = -1"),
        ('name = "../x"', "'name' = '../x'"),
        ('label = "a b"', "it may hold letters, digits and the characters _ . + - only"),
        ("[sweep]\nseeds = [0]", "x.toml is a sweep file (it has a table [sweep]), not one experiment; give it to"),
    ],
)
def test_mistakes_get_one_clear_sentence(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configs.load(write(tmp_path / "x.toml", text))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value) or "TOML" in str(caught.value)


def test_missing_file_and_bad_override(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        configs.load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="has no '='"):
        configs.load(write(tmp_path / "x.toml", ""), ["rounds"])
    with pytest.raises(ConfigError, match="nearest known key is 'rounds'"):
        configs.load(write(tmp_path / "x.toml", ""), ["round=2"])


@pytest.mark.parametrize(
    "override, where",
    [("data.alpha=-1", "'data.alpha' = -1"), ("run.targets=[0.5, 2]", "'run.targets.1' = 2"),
     ("training.lr=-1", "'training.lr' = -1"), ("data=3", "'data'"), ("preset=best", "preset 'best'")],
)  # fmt: skip
def test_a_bad_override_is_not_blamed_on_the_file(tmp_path: Path, override: str, where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configs.load(write(tmp_path / "x.toml", "[data]\nclients = 3"), [override])
    assert str(caught.value).startswith(f"{where} in --set") and "x.toml" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"'data.clients' = 0 in .*x\.toml"):
        configs.load(write(tmp_path / "x.toml", "[data]\nclients = 0"), ["data.alpha=0.2"])


IDLE = [
    ({"data": {"alpha": 0.1}}, r"'data.alpha' = 0.1 has no effect with data.partition = 'iid'; .*'dirichlet'"),
    ({"data": {"alpha": 0.1, "partition": "shards"}}, "'data.alpha' .*'shards'"),
    ({"data": {"shards_per_client": 3}}, "'data.shards_per_client' = 3 .*'shards'"),
    ({"participation": {"fraction": 0.5}}, "'participation.fraction' = 0.5 .*schedule = 'all'; .*'sample'"),
    ({"participation": {"rounds": [[0]], "schedule": "late"}}, "'participation.rounds' .*'late'; .*'list'"),
]


@pytest.mark.parametrize("tree, text", IDLE)
def test_settings_without_effect_are_refused(tmp_path: Path, tree: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        spikefed.run(tree, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_a_choice_on_top_leaves_without_effect_falls_away(tmp_path: Path) -> None:
    """So a base with Dirichlet data can be dealt evenly without naming its alpha again."""
    path = write(tmp_path / "x.toml", '[data]\npartition = "dirichlet"\nalpha = 0.1\n')
    assert configs.load(path).data.alpha == configs.load(path, ["data.clients=3"]).data.alpha == 0.1
    for overrides in (["data.partition=iid"], ["data.partition=shards"]):
        even = configs.load(path, overrides)
        check_idle(even)
        assert even.data.alpha == 0.5
    for overrides in (["data.partition=iid", "data.alpha=0.2"], ["data.alpha=0.2", "data.partition=iid"]):
        with pytest.raises(ConfigError, match=r"'data.alpha' = 0.2 has no effect"):
            check_idle(configs.load(path, overrides))
    again = configs.load(path, ["data.alpha=0.3", "data.partition=dirichlet"])
    assert (again.data.partition, again.data.alpha) == ("dirichlet", 0.3)


def test_calibrated_logits_need_logits() -> None:
    tree = {"training": {"calibrate": 1.0, "local_loss": "mse-rate"}}
    with pytest.raises(ConfigError, match=r"training\.calibrate shifts logits"):
        check(configs.from_tree(tree))
    check(configs.from_tree({"training": {"calibrate": 1.0, "local_loss": "tet"}}))


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"'run\.device' = 'gpu'"):
        configs.from_tree({"run": {"device": "gpu"}})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="finds no GPU here; set it to 'cpu'"):
        check(configs.from_tree({"run": {"device": "cuda"}}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    check(configs.from_tree({"run": {"device": "cuda"}}))
    with pytest.raises(ConfigError, match="there are 1 GPUs"):
        check(configs.from_tree({"run": {"device": "cuda:3"}}))
    with pytest.raises(ConfigError, match="cannot be shared by run.workers"):
        check(configs.from_tree({"run": {"device": "cuda", "workers": 2}}))


def test_hash_ignores_what_cannot_change_results() -> None:
    base = configs.from_tree({})
    same = configs.from_tree({"name": "other", "rounds": 99, "run": {"threads": 1}, "data": {"dir": "elsewhere"}})
    assert base.hash() == same.hash()
    for tree in ({"seed": 1}, {"training": {"lr": 0.1}}, {"method": {"tie": "fire"}}, {"data": {"clients": 5}}):
        assert configs.from_tree(tree).hash() != base.hash()


def test_every_setting_has_a_description() -> None:
    def models(model: type) -> list[type]:
        found = [model]
        for field in model.model_fields.values():  # type: ignore[attr-defined]
            if isinstance(field.annotation, type) and issubclass(field.annotation, configs.Section):
                found += models(field.annotation)
        return found

    from spikefed.federated import METHODS

    for model in [*models(configs.Experiment), configs.NeuronConfig, *(m.hyperparameters for m in METHODS.values())]:
        for key, field in model.model_fields.items():  # type: ignore[attr-defined]
            is_table = isinstance(field.annotation, type) and issubclass(field.annotation, configs.Section)
            assert field.description or is_table, f"{model.__name__}.{key} has no description"


def test_flatten() -> None:
    assert flatten({"a": 1, "b": {"c": 2, "d": {"e": 3}}}) == {"a": 1, "b.c": 2, "b.d.e": 3}


def test_a_key_that_came_later_leaves_the_hash_of_older_experiments_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from pydantic import Field

    from spikefed.experiment import config as module

    class LaterData(module.DataConfig):
        new: int = Field(default=3, json_schema_extra={"since": "0.2"})

    class LaterExperiment(module.Experiment):
        data: LaterData = LaterData()
        table: LaterData = Field(default=LaterData(new=5), json_schema_extra={"since": "0.2"})

    before = module.Experiment().hash()
    assert LaterExperiment().hash() == before
    assert LaterExperiment(data=LaterData(new=4)).hash() != before
    assert LaterExperiment(table=LaterData()).hash() != before
