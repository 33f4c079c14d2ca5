"""What the server of a search in a supernet does: utilities, choice under a budget, pruning, statistics, costs."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
import torch

from spikefed.errors import ConfigError
from spikefed.federated import Context, NetworkFactory, supersearch
from spikefed.federated.supersearch import Costs, best_channels, best_gates, log_odds, nested_gates, weighed
from spikefed.networks import Choice, Norm, Space, ann_twin, build, copy_tensors, describe, load_tensors, subnet
from spikefed.training import Preprocess

NAME = "supernet:1234-134:width=8"
SHAPE = (1, 8, 8)


def network(name: str = NAME, seed: int = 0):
    return build(name, input_shape=SHAPE, classes=10, steps=3, seed=seed)


def test_costs_of_branches_add_up_to_those_of_subnets():
    for net in (network(), ann_twin(NAME, input_shape=SHAPE, classes=10)):
        costs = Costs.of(net)
        whole = describe(net)
        for gates in ((True,) * 7, (True, False, False, True, False, True, False)):
            small = describe(subnet(net, Choice(gates, (True,) * 8)))
            assert costs.share(gates) == pytest.approx(small.macs_per_inference / whole.macs_per_inference)
            own = sum(c for c, gate in zip(costs.parameters, gates, strict=True) if gate)
            assert costs.rest[1] + own == pytest.approx(small.parameters / whole.parameters)
        assert costs.cheapest((4, 3)) == (True, False, False, False, True, False, False)


def test_utilities_find_the_branch_that_helps_whatever_data_a_client_has():
    """Branch 2 is worth 5 points, client 0's data are 40 points easier; who has it changes every round."""
    search = supersearch.begin(4)
    g = torch.Generator().manual_seed(0)
    for _ in range(60):
        gates = {c: (torch.rand(4, generator=g) < 0.5).tolist() for c in range(6)}
        accuracies = {c: 0.4 + 0.4 * (c == 0) + 0.05 * gates[c][2] for c in gates}
        search = weighed(search, gates, accuracies, 0.9)
    found = search["utilities"].tolist()
    assert found[2] == pytest.approx(0.05, abs=0.015) and max(map(abs, found[:2] + found[3:])) < 0.015
    odds = log_odds(search["utilities"])
    assert max(range(4), key=lambda j: odds[j]) == 2 and sum(odds) == pytest.approx(0)


def test_what_everybody_had_keeps_its_utility():
    before = supersearch.begin(2) | {"utilities": torch.tensor([0.3, 0.1], dtype=torch.float64), "levels": {"0": 0.5}}
    after = weighed(before, {0: [True, False], 1: [True, True]}, {0: 0.6, 1: 0.5}, 0.5)
    assert after["utilities"].tolist() == pytest.approx([0.3, 0.5 * 0.1 + 0.5 * (0.0 - 0.1)])
    assert after["levels"] == {"0": 0.55, "1": 0.5} and before["levels"] == {"0": 0.5}
    assert log_odds(torch.zeros(3)) == (0.0, 0.0, 0.0)


def test_the_best_branches_fit_every_budget_that_can_be_kept():
    costs = Costs.of(network())
    g = torch.Generator().manual_seed(1)
    for budget in (0.06, 0.2, 0.45, 0.8, 1.0):
        for _ in range(10):
            preference = torch.randn(7, generator=g).tolist()
            gates = best_gates(preference, (4, 3), costs, budget)
            assert costs.share(gates) <= budget and any(gates[:4]) and any(gates[4:])
            more = [j for j in range(7) if not gates[j]]  # nothing that would still fit is left out
            assert all(costs.share([g or i == j for i, g in enumerate(gates)]) > budget for j in more)
    assert best_gates([0.0] * 7, (4, 3), costs, 1.0) == (True,) * 7


def test_a_preferred_dear_branch_takes_the_place_of_a_stand_in():
    costs = Costs.of(network())
    preference = [-1.0, -1.0, 3.0, -1.0, 2.0, -1.0, -1.0]
    gates = best_gates(preference, (4, 3), costs, costs.share((False, False, True, False, True, False, False)))
    assert gates[2] and gates[4]
    shares = {costs.share(gates) for gates in product((False, True), repeat=7) if any(gates[:4]) and any(gates[4:])}
    with pytest.raises(ConfigError, match=r"method.budget = .* is less than the smallest subnet takes"):
        best_gates(preference, (4, 3), costs, 0.9 * min(shares))


def test_subnets_of_smaller_devices_lie_within_each_other():
    net = network()
    costs = Costs.of(net)
    g = torch.Generator().manual_seed(2)
    budgets = [0.8, 0.6, 0.3, 0.1]
    for _ in range(20):
        preference = torch.randn(7, generator=g).tolist()
        before = (True,) * 7
        for found, budget in zip(nested_gates(preference, (4, 3), net, budgets), budgets, strict=True):
            assert all(old or not new for old, new in zip(before, found, strict=True))
            assert costs.share(found) <= budget and any(found[:4]) and any(found[4:])
            before = found


def test_small_devices_hold_a_subnet_whatever_the_large_ones_prefer():
    net = network("supernet:23-23:width=4")
    costs = Costs.of(net)
    dear = costs.share((False, True, False, True))  # the large ones' favourites fill their budget
    cheap = costs.share((True, False, True, False))
    middle = costs.share((False, True, True, False))
    found = nested_gates([0.0, 1.0, 0.0, 1.0], (2, 2), net, [dear, middle, cheap])
    assert found[-1] == (True, False, True, False)
    for gates, budget in zip(found, [dear, middle, cheap], strict=True):
        assert costs.share(gates) <= budget
    for large, small in pairwise(found):
        assert all(a or not b for a, b in zip(large, small, strict=True))


@pytest.mark.parametrize("criterion", ["gamma", "l1"])
def test_channels_that_do_nothing_go_first(criterion):
    net = network()
    idle = {1, 6}
    with torch.no_grad():
        for name, module in net.named_modules():
            if isinstance(module, Norm) and not name.startswith("fc."):
                module.weight[sorted(idle)] *= 0.01
        for layer in net.layers[:-1]:
            layer.weight[sorted(idle)] *= 0.01
    kept = best_channels(net, (True,) * 7, 0.25, criterion)
    assert {c for c, stays in enumerate(kept) if not stays} == idle
    assert sum(best_channels(net, (True,) * 7, 0.99, criterion)) == 1
    assert best_channels(net, (True,) * 7, 0.0, criterion) == (True,) * 8


def context() -> Context:
    images = torch.randint(0, 256, (300, *SHAPE), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    factory = NetworkFactory(lambda seed: network(seed=seed), seed=1)
    generator = torch.Generator().manual_seed(5)
    return Context(1, factory, images, bytes(32), None, Preprocess("unit"), generator, 7)


def test_re_estimated_statistics_are_those_of_the_public_images():
    ctx = context()
    net = ctx.networks.load()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, Norm):
                module.running_mean.fill_(9.0)
                module.running_var.fill_(0.1)
    supersearch.re_estimated(net, ctx)
    images = ctx.preprocess(ctx.public)
    first = torch.nn.functional.conv2d(images, net.stem.weight, padding=1)
    assert torch.allclose(net.stem.norm.running_mean, first.mean(dim=(0, 2, 3)), atol=0.02)
    assert not net.training and torch.equal(net.stem.norm.num_batches_tracked, torch.tensor(3))
    once = copy_tensors(net)
    supersearch.re_estimated(net, ctx)
    assert all(torch.equal(tensor, once[name]) for name, tensor in copy_tensors(net).items())


def test_a_zeroed_state_is_the_subnet_and_nothing_else():
    ctx = context()
    net = ctx.networks.load()
    choice = Choice((True, False, True, False, False, True, True), tuple(c != 3 for c in range(8)))
    kept = Space.of(net).kept(copy_tensors(net), choice)
    state = supersearch.zeroed(net, kept, ctx)
    small = subnet(net, choice).eval()
    assert all(not state[name][~mask].any() for name, mask in kept.items())
    load_tensors(net, state)
    x = ctx.preprocess(ctx.public[:20])
    assert torch.allclose(net.eval()(x), small(x), atol=1e-5)


def test_the_cost_meter_counts_what_was_trained_and_what_would_have_been():
    net = network()
    costs = Costs.of(net)
    whole, part = Space.of(net).everything, Choice((True, False, False, False, True, False, False), (True,) * 8)
    said = supersearch.spent(costs, net, {0: whole, 3: part}, {0: 10, 3: 30})
    small = describe(subnet(net, part))
    assert said["macs_full"] == 40 * describe(net).macs_per_inference
    assert said["macs_trained"] == 10 * describe(net).macs_per_inference + 30 * small.macs_per_inference
    assert said["parameters_peak"] == said["parameters_full"] == describe(net).parameters
    assert said["tensor_bytes"] == 2 * (describe(net).state_bytes + small.state_bytes)
    assert said["tensor_bytes_full"] == 4 * describe(net).state_bytes


def test_scales_tell_apart_what_was_always_trained_together():
    net = network()
    with torch.no_grad():
        net.block1.branch3.norm.weight.fill_(-4.0)
    assert supersearch.scales(net).tolist() == [1, 1, 4, 1, 1, 1, 1]
