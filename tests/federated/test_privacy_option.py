"""The table [training.privacy]: a run says what it spent, and settings that would break the promise are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from federated.tiny import World
from spikefed.errors import ConfigError
from spikefed.experiment import config as configs
from spikefed.experiment import run
from spikefed.experiment.checks import check
from spikefed.federated.local import LocalTraining, Privacy, train_locally
from spikefed.training.accountant import spent

pytest.importorskip("opacus")

PRIVATE = ["training.privacy.clip=0.5", "training.privacy.noise=1.2", "network.norm=none"]


def test_a_run_says_what_each_client_spent(tmp_path: Path) -> None:
    tree = {
        "name": "private",
        "rounds": 2,
        "data": {"dataset": "digits", "clients": 2, "private_per_client": 60, "public": 20},
        "method": {"name": "fedavg"},
        "network": {"name": "small", "steps": 2},
        "training": {"local_epochs": 1, "local_batch": 16},
    }
    run(configs.from_tree(tree, PRIVATE), out=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    told = [client["epsilon"] for client in lines[-1]["clients"]]
    trained = 54  # 60 without the tenth for validation
    assert told == pytest.approx([spent(1.2, 16 / trained, 2 * 4, 1e-5)] * 2)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (["training.privacy.noise=2"], "training.privacy is off while its clip is 0"),
        (["training.privacy.clip=1"], "the norm of network small mixes those of a batch; set network.norm = 'none'"),
        ([*PRIVATE, "training.local_loss=centroid"], "local_loss = 'centroid' has none"),
        ([*PRIVATE, 'method={name="fsd+"}'], "set method.rehearse = 0"),
        ([*PRIVATE, 'method={name="fsd", silence=1.0}'], "leave method.silence at 0"),
        ([*PRIVATE, "training.privacy.delta=2"], "training.privacy.delta"),
    ],
)
def test_what_breaks_the_promise_is_refused(override: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check(configs.from_tree({"network": {"name": "small"}}, override))


def test_noise_is_the_systems_unless_a_run_must_repeat() -> None:
    def weights(source: str) -> Tensor:
        world = World(LocalTraining(local_epochs=1, privacy=Privacy(clip=1.0, source=source)))  # type: ignore[arg-type]
        net = Plain()
        train_locally(net, world.client(0))
        return torch.cat([p.detach().flatten() for p in net.parameters()])

    assert torch.equal(weights("seeded"), weights("seeded"))
    assert not torch.equal(weights("system"), weights("system"))


class Plain(nn.Module):
    """A network without batch statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.fc(x.flatten(1)).unsqueeze(0)


def test_an_experiment_without_it_keeps_its_hash() -> None:
    assert configs.from_tree({}).hash() == configs.from_tree({}, ["training.privacy.clip=0.0"]).hash()
