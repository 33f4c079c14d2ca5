"""Tables of `[training]` that change every local step: found on the client, checked and documented as a table."""

from __future__ import annotations

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from federated.tiny import World
from spikefed.errors import ConfigError
from spikefed.experiment import config
from spikefed.federated import METHODS
from spikefed.federated.contract import ClientContext
from spikefed.federated.local import LocalTraining, StepOption, train_locally
from spikefed.training import Loss, StepHook


class Noise(StepOption):
    """Inputs moved by a constant."""

    shift: float = Field(default=0.0, ge=0, description="what is added to every input")

    def hook(self, ctx: ClientContext) -> StepHook | None:
        return Shift(self.shift) if self.shift else None


class Shift(StepHook):
    def __init__(self, shift: float) -> None:
        self.shift = shift

    def inputs(self, net: nn.Module, x: Tensor, targets: Tensor, loss: Loss, generator: torch.Generator) -> Tensor:
        return x + self.shift


@pytest.fixture
def with_noise(monkeypatch: pytest.MonkeyPatch) -> type[LocalTraining]:
    """`LocalTraining` with a table of its own, and a method `local` that has it."""

    class Training(LocalTraining):
        """Training on private labelled data."""

        noise: Noise = Field(default=Noise(), description="noise", json_schema_extra={"since": "0.2"})

    for part in ("experiment", "loading"):
        monkeypatch.setattr(f"spikefed.experiment.config.{part}.LocalTraining", Training)
    monkeypatch.setattr(METHODS["local"], "hyperparameters", Training)
    return Training


def test_an_option_acts_in_local_training_and_not_at_its_defaults(with_noise: type[LocalTraining]) -> None:
    def weights(hyper: LocalTraining) -> Tensor:
        world = World(hyper)
        net = world.networks.load()
        train_locally(net, world.client(0))
        return torch.cat([p.detach().flatten() for p in net.parameters()])

    plain, off, on = (weights(h) for h in (LocalTraining(), with_noise(), with_noise(noise=Noise(shift=0.5))))
    assert torch.equal(plain, off)
    assert not torch.equal(plain, on)


def test_an_option_is_a_table_of_the_file(with_noise: type[LocalTraining]) -> None:
    tree = {"method": {"name": "local"}}
    plain = config.from_tree(tree)
    off = config.from_tree({**tree, "training": {"noise": {"shift": 0.0}}})
    on = config.from_tree(tree, ["training.noise.shift=0.5"])
    assert plain.hash() == off.hash() != on.hash()
    assert on.hyper().noise.shift == 0.5
    assert on.resolved()["training"]["noise"] == {"shift": 0.5}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "training.noise.shfit=1",
            "unknown key 'training.noise.shfit'; the nearest known key is 'training.noise.shift'",
        ),
        ("training.noise=1", r"'training.noise' must be a table \(\[training.noise\]\), not 1"),
        ("training.noise.shift=-1", "'training.noise.shift' = -1 in --set"),
    ],
)
def test_wrong_options(with_noise: type[LocalTraining], override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config.from_tree({"method": {"name": "local"}}, [override])
