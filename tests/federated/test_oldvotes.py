"""Votes of stages before at the server: kept at their ends, learned beside the new ones, resumed, refused elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import spikefed
from experiment.runs import fingerprint
from experiment.test_stages import FSD, tables
from experiment.test_ticket_runs import Interrupted, Stops
from spikefed.errors import ConfigError
from spikefed.experiment import RunFolder
from spikefed.experiment import config as configs
from spikefed.experiment.build import build
from spikefed.federated import method
from spikefed.federated.oldvotes import VOTES, OldVotes

METHODS = ["fsd", "fsd+", "cfd", "ds-fl"]


def told(name: str, weight: float) -> dict[str, Any]:
    own = {**FSD, "name": name, "server_epochs": 2, "old_votes": weight}
    return tables(own, {"classes": 2, "order": "same"})


@pytest.mark.parametrize("name", METHODS)
def test_it_acts_from_the_second_stage_on_and_costs_no_byte(name: str, tmp_path: Path) -> None:
    lines = []
    for weight in (0.0, 1.0):
        folder = RunFolder(spikefed.run(told(name, weight), out=tmp_path / str(weight)))
        lines.append(folder.read_lines(folder.metrics))
    plain, kept = lines
    assert [a["server_loss"] == b["server_loss"] for a, b in zip(plain, kept, strict=True)] == [
        True,
        True,
        False,
        False,
    ]
    assert plain[2]["upstream_bytes"] == kept[2]["upstream_bytes"]


def test_the_votes_kept_are_those_at_the_ends_of_stages() -> None:
    federation = build(configs.from_tree(told("fsd", 1.0)))
    steps: Any = method("fsd")
    state, downlink = steps.init_server(federation.context(0))
    clients: dict[int, Any] = {0: {}, 1: {}}
    seen = {}
    for round in range(1, 5):
        uplinks = {}
        for c in clients:
            ctx = federation.client_context(c, round)
            clients[c], uplinks[c], _ = steps.client_round(clients[c], downlink, ctx)
        merged, _ = steps.merge(uplinks, state, federation.context(round))
        seen[round] = merged.goal.target
        state, downlink, _ = steps.server_round(state, uplinks, federation.context(round))
        assert set(state.get(VOTES, {})) == {1: set(), 2: {"0"}, 3: {"0"}, 4: {"0", "1"}}[round]
    assert torch.equal(state[VOTES]["0"]["target"], seen[2]) and torch.equal(state[VOTES]["1"]["target"], seen[4])


def test_the_term_is_the_methods_loss_on_a_kept_vote() -> None:
    federation = build(configs.from_tree(told("fsd", 1.0)))
    ctx = federation.context(3)
    net = federation.networks.load().eval()
    rows = torch.tensor([5, 2, 9])
    target = torch.rand(3, 10, 4, generator=torch.Generator().manual_seed(0))

    def loss(outputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return (outputs.permute(1, 2, 0) - wanted).square().mean()

    hook = OldVotes({"0": {"target": target, "rows": rows}}, 0.5, 3, loss, ctx)
    term = hook.term(net, ctx.public, ctx.public, torch.Generator().manual_seed(1))
    draws = torch.Generator().manual_seed(1)
    torch.randint(1, (), generator=draws)
    pick = torch.randint(3, (3,), generator=draws)
    expected = 0.5 * loss(net(ctx.preprocess(ctx.public[rows[pick]]), generator=draws), target[pick])
    assert term is not None and torch.allclose(term, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fsd", "fsd+"])
def test_killed_and_resumed_it_is_identical(name: str, tmp_path: Path) -> None:
    whole = fingerprint(spikefed.run(told(name, 1.0), out=tmp_path / "whole"))
    out = tmp_path / "parts"
    for rounds in (1, 2):
        with pytest.raises(Interrupted):
            spikefed.run(told(name, 1.0), out=out, resume=out.exists(), progress=Stops(rounds))
    assert fingerprint(spikefed.run(told(name, 1.0), out=out, resume=True)) == whole


def test_without_stages_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"method\.old_votes keeps the votes of stages, and the run has none"):
        spikefed.run({**told("fsd", 1.0), "stages": {}}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    plain = told("fsd", 0.0)
    plain["method"].pop("old_votes")
    assert configs.from_tree(plain).hash() == configs.from_tree(told("fsd", 0.0)).hash()
