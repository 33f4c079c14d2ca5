"""The prior of pi: what scores of untrained subnets say of branches."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch

from federated.supers import config
from spikefed.errors import ConfigError
from spikefed.experiment import build, from_tree
from spikefed.federated import Context, priors
from spikefed.networks import Choice, describe, subnet


def context() -> Context:
    network = {"name": "supernet:123-13:width=4", "steps": 3}
    return build(from_tree(config({"limit": 1.0}, network=network))).context(0)


def every_subnet() -> torch.Tensor:
    rows = [row for row in product((False, True), repeat=5) if any(row[:3]) and any(row[3:])]
    return torch.tensor(rows)


def test_a_branch_is_worth_the_subnets_with_it_less_those_without() -> None:
    ctx, gates = context(), every_subnet()
    net = ctx.networks.load()
    sizes = [describe(subnet(net, Choice(tuple(row), (True,) * 4))).parameters for row in gates.tolist()]
    scores = torch.tensor(sizes, dtype=torch.float64)
    worth = torch.stack([scores[gates[:, j]].mean() - scores[~gates[:, j]].mean() for j in range(5)])
    wanted = priors.GAIN * (worth - worth.mean()) / worth.std(correction=0)
    assert torch.allclose(priors.prior("parameters", ctx, gates), wanted)
    assert torch.allclose(priors.prior("-parameters", ctx, gates), -wanted)
    assert set(wanted.topk(2).indices.tolist()) == {2, 4}  # the convolutions 3x3


@pytest.mark.parametrize("score", ["sahd", "hd", "sops", "snip"])
def test_scores_leave_the_network_alone_and_repeat(score: str) -> None:
    ctx, gates = context(), every_subnet()[:12]
    before = ctx.networks.initial()
    found = priors.prior(score, ctx, gates)
    assert torch.equal(found, priors.prior(score, ctx, gates)) and found.std(correction=0) == pytest.approx(0.02)
    assert all(torch.equal(tensor, before[name]) for name, tensor in ctx.networks.initial().items())
    assert float(found.sum()) == pytest.approx(0, abs=1e-9)


def test_what_no_prior_can_tell() -> None:
    ctx, gates = context(), every_subnet()
    with pytest.raises(ConfigError, match="method.prior shows public images to untrained networks and there are 1"):
        priors.prior("sahd", replace(ctx, public=ctx.public[:1]), gates)
    with pytest.raises(ConfigError, match="method.prior = 'macs' tells no branches apart here; leave it out"):
        priors.prior("macs", ctx, gates[-1:])
    twin = {"name": "supernet:123-134-133:width=6", "twin": "ann", "steps": 1}
    with pytest.raises(
        ConfigError, match="method.prior = 'sahd' is told by spikes but network.twin = 'ann' gives none"
    ):
        build(from_tree(config({"prior": "sahd"}, network=twin)))
    assert build(from_tree(config({"prior": "-macs"}, network=twin)))
