"""The temporal losses as options of local training: for every method, with keys that belong together."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from federated.tiny import World
from spikefed.errors import ConfigError
from spikefed.experiment import config as configs
from spikefed.experiment.checks import check
from spikefed.federated import METHODS
from spikefed.federated.local import LocalTraining, Temporal, train_locally
from spikefed.federated.methods.fsdplus import FsdPlusHyperparameters


def trained(**given: object) -> Tensor:
    world = World(LocalTraining(local_epochs=1, **given))  # type: ignore[arg-type]
    net = world.networks.load()
    train_locally(net, world.client(0))
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_each_loss_trains_and_its_key_matters() -> None:
    plain = trained()
    assert torch.allclose(trained(local_loss="skip"), plain)
    assert torch.allclose(trained(local_loss="prefix", temporal=Temporal(kappa=1000.0)), plain, atol=1e-6)
    assert torch.allclose(trained(local_loss="centroid", temporal=Temporal(weight=0.0)), plain, atol=1e-6)
    others = [
        trained(local_loss="skip", temporal=Temporal(steps=[1])),
        trained(local_loss="prefix", temporal=Temporal(kappa=-20.0)),
        trained(local_loss="centroid", temporal=Temporal(weight=1.0)),
    ]
    assert not any(torch.allclose(other, plain, atol=1e-4) for other in others)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_takes_them(name: str) -> None:
    hyper = METHODS[name].hyperparameters
    assert hyper.model_validate({"local_loss": "prefix", "temporal": {"kappa": -2.0}})
    assert FsdPlusHyperparameters(local_loss="centroid").temporal == Temporal()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (["training.temporal.kappa=-2"], "nothing with local_loss = 'ce-rate'; set training.local_loss = 'prefix'"),
        (["training.local_loss=skip", "training.temporal.steps=[1,9]"], "names step 9, but network.steps is 8"),
        (["training.local_loss=skip", "training.temporal.steps=[0]"], "training.temporal.steps"),
        (["training.local_loss=prefix", "training.temporal.kapa=1"], "nearest known key is 'training.temporal.kappa'"),
        (["training.local_loss=early"], "training.local_loss"),
    ],
)
def test_what_does_not_go_together_is_said(override: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check(configs.from_tree({}, override))


def test_an_experiment_without_them_keeps_its_hash() -> None:
    plain, told = configs.from_tree({}), configs.from_tree({}, ["training.temporal.kappa=0.0"])
    moved = configs.from_tree({}, ["training.local_loss=prefix", "training.temporal.kappa=1.0"])
    assert plain.hash() == told.hash() != moved.hash()
