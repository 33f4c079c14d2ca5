"""The method `fsd-tickets`: FSD while all is dense and sent, then sparse students and short messages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

import spikefed
from experiment.runs import fingerprint
from federated.sparse import STEPS, context
from spikefed import networks
from spikefed.errors import ConfigError
from spikefed.experiment import RunFolder
from spikefed.federated import NetworkFactory
from spikefed.federated.methods.fsd import Fsd, FsdHyperparameters
from spikefed.federated.methods.fsdtickets import FsdTicketHyperparameters, FsdTickets
from spikefed.federated.setup import Setup
from spikefed.federated.ticketsearch import unpacked
from spikefed.networks.roles import prunable
from spikefed.training import Mask, density
from spikefed.wire import SpikeDownlink, SpikeUplink


def net(seed: int, norm: str = "bn") -> torch.nn.Module:
    return networks.build("4C3-AP2-12FC", input_shape=(1, 8, 8), classes=3, steps=STEPS, norm=norm, seed=seed)


class Run:
    """A federation of two in one process without a wire."""

    def __init__(self, method: Fsd, hyper: FsdHyperparameters, norm: str = "bn") -> None:
        self.method = method
        self.hyper = hyper
        self.networks = NetworkFactory(lambda seed: net(seed, norm), seed=1)
        self.round = 0
        self.clients: dict[int, Any] = {0: {}, 1: {}}
        self.state, self.downlink = method.init_server(context(self, 20))
        self.uplinks: dict[int, SpikeUplink] = {}

    def step(self) -> dict[str, float]:
        self.round += 1
        for client, state in self.clients.items():
            self.clients[client], uplink, _ = self.method.client_round(state, self.downlink, context(self, 20, client))
            self.uplinks[client] = cast(SpikeUplink, uplink)
        self.state, self.downlink, said = self.method.server_round(self.state, self.uplinks, context(self, 20))
        return said.values

    def mask(self, client: int) -> Mask:
        weights = self.networks.initial()
        names = prunable(weights, self.networks.roles)
        like = Mask({n: torch.ones(weights[n].shape, dtype=torch.bool) for n in weights if n in names})
        return unpacked(self.clients[client]["mask"], like)


def settings(**given: Any) -> dict[str, Any]:
    return {"local_batch": 8, "lr": 0.01, "distil_lr": 0.01, "distil_epochs": 1, "server_epochs": 2, **given}


def sparse(**given: Any) -> FsdTicketHyperparameters:
    return FsdTicketHyperparameters(**settings(**given))


def test_dense_rounds_are_those_of_fsd_and_short_messages_their_first_steps() -> None:
    plain = Run(Fsd(), FsdHyperparameters(**settings()))
    whole = Run(FsdTickets(), sparse(level_rounds=2))
    short = Run(FsdTickets(), sparse(level_rounds=2, sent_steps=2))
    for run in (plain, whole, short):
        run.step()
    for client, uplink in plain.uplinks.items():
        assert np.array_equal(uplink.spikes, whole.uplinks[client].spikes)
        assert np.array_equal(uplink.spikes[..., :2], short.uplinks[client].spikes)
        assert 0 < short.uplinks[client].spikes.mean() < 1
    assert cast(SpikeDownlink, short.downlink).spikes.shape == (20, 3, 2)
    assert plain.step()["server_distil_loss"] == whole.step()["server_distil_loss"]


@pytest.mark.parametrize("reset", ["common", "never"])
def test_students_are_sparse_each_by_its_own_mask_and_masks_nest(reset: str) -> None:
    run = Run(FsdTickets(), sparse(sparsities=[0.5, 0.9], weight_decay=0.1, client_reset=reset))
    said = [round(run.step()["mask_density"], 2)]
    first = [run.mask(client) for client in (0, 1)]
    said.append(round(run.step()["mask_density"], 2))
    second = [run.mask(client) for client in (0, 1)]
    said += [round(run.step()["mask_density"], 2), round(run.step()["mask_density"], 2)]
    assert said == [1.0, 0.5, 0.1, 0.1]
    assert [round(density(mask), 2) for mask in (*first, *second)] == [0.5, 0.5, 0.1, 0.1]
    for before, after in zip(first, second, strict=True):
        assert all(not (after.kept[n] & ~kept).any() for n, kept in before.kept.items())
    assert any((first[0].kept[n] != kept).any() for n, kept in first[1].kept.items())
    mask = cast(Mask, run.method.server_mask(run.state))
    assert all(not run.state["weights"][n][~kept].any() for n, kept in mask.kept.items())
    if reset == "never":
        for client in (0, 1):
            held = run.mask(client).kept
            assert all(not run.clients[client]["weights"][n][~kept].any() for n, kept in held.items())


def test_a_whole_run_goes_on_to_the_same_bits_and_sends_fewer_bytes(tmp_path: Path) -> None:
    def run(place: str, **method: Any) -> RunFolder:
        config = {
            "name": "tiny", "rounds": 3,
            "data": {"clients": 2, "private_per_client": 32, "public": 20, "test_limit": 30},
            "network": {"name": "4C3-AP2-12FC", "steps": 4, "norm": "bn"},
            "training": {"local_epochs": 1, "local_batch": 16}, "run": {"threads": 1},
            "method": {"distil_epochs": 1, "server_epochs": 1, **method},
        }  # fmt: skip
        return RunFolder(spikefed.run(config, out=tmp_path / place))

    half = {"name": "fsd-tickets", "sparsities": [0.5], "sent_steps": 2}
    whole, plain = run("whole", **half), run("plain", name="fsd")
    (short, dense) = (f.read_lines(f.metrics)[-1] for f in (whole, plain))
    assert short["upstream_bytes_total"] < 0.8 * dense["upstream_bytes_total"]
    assert short["downstream_bytes_total"] < 0.8 * dense["downstream_bytes_total"]
    assert whole.model.stat().st_size < plain.model.stat().st_size
    again = run("again", **half)
    assert fingerprint(again.path) == fingerprint(whole.path)


def test_what_cannot_be_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="give sparsities that rise"):
        sparse(sparsities=[0.9, 0.5])
    with pytest.raises(ConfigError, match="set rounds above 4"):
        FsdTickets().check(sparse(sparsities=[0.5, 0.9], level_rounds=2), Setup(rounds=3))
    factory = NetworkFactory(net, seed=1)
    with pytest.raises(ConfigError, match=f"the network has {STEPS} time steps"):
        FsdTickets().exchanges(sparse(sent_steps=STEPS + 1), (20, 3, STEPS), factory)
    up, down = FsdTickets().exchanges(sparse(sent_steps=2), (20, 3, STEPS), factory)
    assert up.shape == down.shape == (20, 3, 2)
    with pytest.raises(ConfigError, match="sent_steps = 0"):
        Run(FsdTickets(), sparse(sent_steps=2), norm="bntt").step()


@pytest.mark.parametrize(
    ("rounds", "told"), [(2, "0.5 .* first round is 3 "), (4, "0.9 .* first round is 5 "), (5, "")]
)
def test_a_sparsity_that_no_round_trains_is_named(rounds: int, told: str) -> None:
    hyper = FsdTicketHyperparameters(sparsities=[0.5, 0.9], level_rounds=2)
    said = hyper.unused(rounds)
    assert len(said) == bool(told)
    assert all(re.search(told, note) and f"there are {rounds}" in note for note in said)
