"""Selections: laws of the merge, and of what a server optimiser leaves alone."""

from __future__ import annotations

import doctest
import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from spikefed.errors import ConfigError
from spikefed.federated import selection as module
from spikefed.federated.selection import (
    Selection,
    by_branch,
    by_mask,
    by_role,
    everything,
    merge_selected,
    union,
    untouched,
)
from spikefed.networks import build, roles
from spikefed.training import Mask
from spikefed.wire import SelectedWeightsUplink, WeightsUplink

Tensors = dict[str, Tensor]
WEIGHTS = {0: 0.1, 1: 0.27, 2: 0.63}


def network(seed: int) -> Tensors:
    draws = torch.Generator().manual_seed(seed)
    return {
        "conv.weight": torch.randn(4, 3, generator=draws),
        "conv.bias": torch.randn(4, generator=draws),
        "norm.running_var": torch.rand(4, generator=draws, dtype=torch.float64),
        "norm.num_batches_tracked": torch.tensor(seed),
        "head.weight": torch.randn(2, 4, generator=draws),
    }


def some(seed: int, density: float = 0.5) -> Selection:
    """A random selection: whole tensors, parts of tensors, and tensors left out."""
    draws = torch.Generator().manual_seed(1000 + seed)
    entries: dict[str, Tensor | None] = {}
    for name, tensor in network(0).items():
        kind = int(torch.randint(0, 3, (), generator=draws))
        if kind:
            entries[name] = torch.rand(tensor.shape, generator=draws) < density if kind == 2 else None
    return Selection(entries)


def same(one: Tensors, other: Tensors) -> bool:
    return list(one) == list(other) and all(torch.equal(one[n], other[n]) for n in one)


def test_a_selection_of_everything_is_the_plain_weighted_mean_to_the_bit() -> None:
    sent = {c: network(c + 1) for c in WEIGHTS}
    plain = {}
    for name, first in sent[0].items():  # as FedAvg has always summed
        total = sum(WEIGHTS[c] * sent[c][name].to(torch.float64) for c in sorted(sent))
        assert isinstance(total, Tensor)
        plain[name] = total.to(first.dtype) if first.is_floating_point() else total.round().to(first.dtype)
    every = {c: everything(sent[c]) for c in sent}
    ones = {c: Selection({n: torch.ones(t.shape, dtype=torch.bool) for n, t in sent[c].items()}) for c in sent}
    for selections in (None, every, ones, {**every, 1: ones[1]}):
        assert same(merge_selected(sent, WEIGHTS, network(9), selections), plain)


def test_disjoint_selections_lose_nothing() -> None:
    sent, old = {c: network(c + 1) for c in WEIGHTS}, network(9)
    draws = torch.Generator().manual_seed(0)
    owner = {name: torch.randint(0, 3, t.shape, generator=draws) for name, t in old.items()}
    selections = {c: Selection({name: who == c for name, who in owner.items()}) for c in sent}
    merged = merge_selected(sent, WEIGHTS, old, selections)
    for name, who in owner.items():
        for c in sent:
            assert torch.equal(merged[name][who == c], sent[c][name][who == c])


@pytest.mark.parametrize("seed", range(8))
def test_every_entry_is_the_mean_over_those_who_sent_it(seed: int) -> None:
    sent, old = {c: network(c + 1) for c in WEIGHTS}, network(9)
    selections = {c: some(10 * seed + c) for c in sent}
    merged = merge_selected(sent, WEIGHTS, old, selections)
    assert list(merged) == list(old)
    for name, before in old.items():
        for place in np.ndindex(tuple(before.shape)):
            senders = [c for c in sent if name in selections[c]]
            senders = [c for c in senders if (m := selections[c].entries[name]) is None or bool(m[place])]
            if not senders:
                assert merged[name][place] == before[place]
                continue
            total = sum(WEIGHTS[c] for c in senders)
            mean = sum(WEIGHTS[c] * float(sent[c][name][place]) for c in senders) / total
            assert float(merged[name][place]) == pytest.approx(
                mean if before.is_floating_point() else round(mean), rel=1e-6
            )


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_clients_never_matters(seed: int) -> None:
    sent, old = {c: network(c + 1) for c in WEIGHTS}, network(9)
    selections = {c: some(seed + c) for c in sent}
    ends = [
        merge_selected({c: sent[c] for c in order}, WEIGHTS, old, {c: selections[c] for c in reversed(order)})
        for order in itertools.permutations(sent)
    ]
    assert all(same(ends[0], end) for end in ends[1:])


def test_what_is_not_selected_may_be_anything() -> None:
    sent = {0: {"w": torch.tensor([1.0, float("nan")])}, 1: {"w": torch.tensor([float("inf"), 5.0])}}
    kept = {0: Selection({"w": torch.tensor([True, False])}), 1: Selection({"w": torch.tensor([False, True])})}
    assert merge_selected(sent, {0: 0.5, 1: 0.5}, {"w": torch.zeros(2)}, kept)["w"].tolist() == [1.0, 5.0]


def test_nobody_sent_anything() -> None:
    old = network(9)
    assert same(merge_selected({0: {}, 1: {}}, {0: 0.5, 1: 0.5}, old), old)


@pytest.mark.parametrize("seed", range(6))
def test_union_and_intersection_are_those_of_the_entries(seed: int) -> None:
    one, other, tensors = some(seed), some(seed + 50), network(0)

    def entries(selection: Selection) -> set[tuple[str, int]]:
        found = set()
        for name, kept in selection.entries.items():
            mask = torch.ones_like(tensors[name], dtype=torch.bool) if kept is None else kept
            found |= {(name, int(i)) for i in mask.reshape(-1).nonzero()}
        return found

    assert entries(one | other) == entries(one) | entries(other) == entries(union([other, one]))
    assert entries(one & other) == entries(one) & entries(other)
    assert len(entries(one)) == one.count(tensors)
    assert entries(union([])) == set()
    over = one.overlaid(network(1), network(2))
    for name, tensor in over.items():
        mine = torch.tensor([(name, i) in entries(one) for i in range(tensor.numel())]).reshape(tensor.shape)
        assert torch.equal(tensor, torch.where(mine, network(1)[name], network(2)[name]))


def test_by_role_mask_and_branch() -> None:
    net = build("4C3-AP2-12FC", input_shape=(1, 8, 8), classes=3, steps=2, norm="bn")
    role_of = roles(net)
    assert list(by_role(role_of, ["bn_stats"])) == [n for n, r in role_of.items() if r == "bn_stats"]
    assert by_role(role_of, ["weight", "bn_affine", "bn_stats"]).whole
    tasked = {**role_of, "head0": "task[0]", "head1": "task[1]"}
    assert list(by_role(tasked, ["task[1]"])) == ["head1"] and list(by_role(tasked, ["task"])) == ["head0", "head1"]
    first = next(iter(role_of)).split(".")[0]
    assert set(by_branch(role_of, first)) == {n for n in role_of if n.startswith(f"{first}.")}
    mask = Mask({"w": torch.tensor([True, False])})
    assert not by_mask(mask, ["w", "b"]).whole and by_mask(mask, ["b"]).whole


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda r: by_role(r, ["weights"]), "'weights' is no role of a tensor; use weight, bn_affine"),
        (lambda r: by_role(r, ["neuron"]), "has the role 'neuron'; the roles of its tensors are weight"),
        (lambda r: by_branch(r, "blocks.7"), "branch 'blocks.7' has no tensors"),
    ],
)
def test_selections_of_nothing_are_refused(make, why: str) -> None:
    net = build("4C3-AP2-12FC", input_shape=(1, 8, 8), classes=3, steps=2)
    with pytest.raises(ConfigError, match=why):
        make(roles(net))


def test_the_selection_of_a_message() -> None:
    arrays = {"w": np.ones((2, 2), np.float32), "b": np.ones(3, np.float32)}
    kept = np.array([[True, False], [False, True]])
    assert Selection.of_message(WeightsUplink(1, 0, arrays, 3, 0.5)).whole
    known = WeightsUplink(1, 0, arrays, 3, 0.5, kept={"w": kept, "b": None})
    for message in (known, SelectedWeightsUplink(1, 0, arrays, {"w": kept}, 3, 0.5)):
        found = Selection.of_message(message)
        assert found.entries["b"] is None and torch.equal(found.entries["w"], torch.from_numpy(kept))
    assert np.array_equal(found.arrays()["w"], kept)


def test_absent_entries_are_left_as_they_were() -> None:
    before = {"w": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0])}
    after = {"w": torch.tensor([10.0, 20.0]), "b": torch.tensor([30.0]), "new": torch.tensor([7.0])}
    assert untouched(after, before, everything(after)) == after
    part = Selection({"w": torch.tensor([True, False])})
    found = untouched(after, before, part)
    assert found["w"].tolist() == [10.0, 2.0] and found["b"].tolist() == [3.0] and "new" not in found
    fresh = untouched(after, {}, part)
    assert fresh["w"].tolist() == [10.0, 0.0] and list(fresh) == ["w"]


def test_the_examples_in_the_docstrings() -> None:
    found = doctest.testmod(module)
    assert found.attempted > 2 and found.failed == 0
