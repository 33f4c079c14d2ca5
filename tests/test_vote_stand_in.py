"""scripts/vote_stand_in.py: the stand-in votes and distils as FSD+ does; the page is what it makes of its results."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spikefed.federated.balance import balanced
from spikefed.federated.methods.fsd import merge_weights
from spikefed.federated.methods.fsdplus import FsdPlus, FsdPlusHyperparameters
from spikefed.federated.rowvotes import vote_rows

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "scripts").is_dir(), reason="no checkout")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("vote_stand_in")


def test_a_rule_votes_as_the_method_does(stand_in: Any) -> None:
    draws = np.random.default_rng(1)
    answers = {c: draws.integers(0, 2, (20, 10, 1)).astype(np.uint8) for c in range(3)}
    own = {0: 0.5, 1: 0.9, 2: 0.7}
    known = {c: np.ones(20, dtype=bool) for c in answers}
    merged = vote_rows(answers, known, merge_weights(own), FsdPlusHyperparameters().confidence)[0][:, :, 0]
    assert np.array_equal(stand_in.Rule("x").target(answers, own), merged)
    assert np.array_equal(stand_in.Rule("x", balance=1.0).target(answers, own), balanced(merged, 1.0))


def test_its_loss_is_that_of_each_network_on_the_rows_that_say_something(stand_in: Any) -> None:
    draws = torch.Generator().manual_seed(2)
    rates = torch.rand(2, 6, 10, generator=draws)
    target = (torch.rand(2, 6, 10, generator=draws) < 0.3).float()
    target[:, 0] = 0.0
    goal = FsdPlus()._goal(target[0].numpy()[:, :, None], 1, FsdPlusHyperparameters())
    apart = [goal.loss(rates[m : m + 1, 1:], target[m, 1:, :, None]) for m in range(2)]
    assert torch.allclose(stand_in.distillation(rates, target), apart[0] + apart[1], atol=1e-5)


def test_federations_start_alike_on_rows_of_their_own(stand_in: Any) -> None:
    draws = torch.Generator().manual_seed(3)
    count = stand_in.PUBLIC + stand_in.UNUSED + stand_in.CLIENTS * stand_in.PRIVATE
    images = torch.randn(count, stand_in.PARTS, generator=draws)
    images[:, 0] = torch.arange(count)  # says which image it is
    labels = torch.randint(10, (count,), generator=draws)
    all_of_them = stand_in.Federations(stand_in.Rule("x"), images, labels)
    for seed in range(len(stand_in.SEEDS)):
        clients = slice(seed * stand_in.CLIENTS, (seed + 1) * stand_in.CLIENTS)
        parts = [all_of_them.public[seed], all_of_them.unused[seed]]
        parts += [x for x, _ in all_of_them.train[clients] + all_of_them.valid[clients]]
        seen = torch.cat([part[:, 0] for part in parts])
        assert len(seen) == len(seen.unique()) == count
    assert all(torch.equal(w[0], w[-1]) for w in all_of_them.clients.weights + all_of_them.servers.weights)
    assert torch.equal(all_of_them.clients.weights[0][0], all_of_them.servers.weights[0][0])


def test_the_table_is_of_means_over_the_seeds(stand_in: Any) -> None:
    row = {"rule": "x", "server": [[0.5, 0.7], [0.6, 0.8]], "clients": [0.4, 0.5], "target": [0.7, 0.8]}
    assert stand_in.table([row])[2] == "| x | 60.0, 70.0 | 70.0 ± 14.1 | 60.0 | 45.0 | 75.0 |"


def test_the_page_has_the_table_of_todays_results(stand_in: Any) -> None:
    page = (ROOT / "docs" / "results.md").read_text()
    body = "\n".join(stand_in.table(json.loads(stand_in.KEPT.read_text())["rules"]))
    assert stand_in.filled(page, stand_in.BEGIN, stand_in.END, body) == page
