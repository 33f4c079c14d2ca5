"""Every tensor of a network once: tied ones are copied, counted and put back as one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.federated import NetworkFactory
from spikefed.networks import build, copy_tensors, describe, load_tensors, retie, state_bytes, state_tensors, ties, wrap


class Tied(nn.Module):
    """Two names for one tensor, in each manner that users have."""

    def __init__(self, manner: str) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.more = nn.Module()
        if manner == "weight":
            self.b.weight = self.a.weight
        elif manner == "layer":
            self.b = self.a
        elif manner == "memory":
            self.b.weight = nn.Parameter(self.a.weight.data)
        elif manner == "buffer":
            self.more.register_buffer("mean", self.norm.running_mean)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.b(self.a(x.flatten(1))))


MANNERS = {"weight": "b.weight", "layer": "b.weight", "memory": "b.weight", "buffer": "more.mean"}
FIRST = {"b.weight": "a.weight", "more.mean": "norm.running_mean"}


@pytest.mark.parametrize("manner", MANNERS)
def test_a_tied_tensor_is_there_once_and_comes_back_tied(manner: str) -> None:
    net, second, first = Tied(manner), MANNERS[manner], FIRST[MANNERS[manner]]
    assert ties(net)[second] == first
    saved = copy_tensors(net)
    assert second not in saved and first in saved
    assert len({t.data_ptr() for t in saved.values()}) == len(saved)
    other = {name: t + 1 if t.is_floating_point() else t for name, t in saved.items()}
    load_tensors(net, other)
    everything = net.state_dict()
    assert torch.equal(everything[first], other[first]) and torch.equal(everything[second], other[first])
    assert ties(net)[second] == first
    with torch.no_grad():
        everything[first].add_(1)
    assert torch.equal(net.state_dict()[second], other[first] + 1)


def test_what_is_not_tied_is_as_in_the_state_dict() -> None:
    net = build("4C3-AP2", input_shape=(1, 4, 4), classes=3, steps=2)
    table = net.state_dict()
    assert list(state_tensors(net)) == list(table) and ties(net) == {}
    saved = copy_tensors(net)
    assert all(
        torch.equal(saved[name], value) and saved[name].data_ptr() != value.data_ptr() for name, value in table.items()
    )


def test_empty_tensors_are_not_tied_by_their_missing_memory() -> None:
    net = nn.Module()
    net.register_buffer("a", torch.zeros(0))
    net.register_buffer("b", torch.zeros(0))
    assert list(state_tensors(net)) == ["a", "b"]


def test_views_that_overlap_are_copied_apart() -> None:
    net = nn.Module()
    net.register_buffer("whole", torch.arange(6.0).view(2, 3))
    net.register_buffer("turned", net.whole.t())
    saved = copy_tensors(net)
    assert set(saved) == {"whole", "turned"} and torch.equal(saved["turned"], saved["whole"].t())
    saved["whole"].zero_()
    assert saved["turned"].any()


def test_weights_under_any_or_all_of_their_names_load() -> None:
    net, source = Tied("weight"), Tied("weight")
    for name in ("a.weight", "b.weight"):
        table = {n: t for n, t in source.state_dict().items() if n not in ("a.weight", "b.weight") or n == name}
        nn.init.zeros_(net.a.weight)
        load_tensors(net, table)
        assert torch.equal(net.a.weight, source.a.weight) and torch.equal(net.b.weight, source.a.weight)
    load_tensors(net, source.state_dict())
    assert torch.equal(net.b.weight, source.a.weight)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.pop("a.bias"), "do not fit network Tied: they lack 'a.bias'; use the network that they were"),
        (lambda t: t.update(other=torch.zeros(1)), "they hold 'other', which the network does not have"),
        (lambda t: t.update({"a.bias": torch.zeros(5)}), r"'a.bias' is \[5\], the network's is \[4\]"),
    ],
)
def test_weights_of_another_network_are_refused_in_one_sentence(change, sentence: str) -> None:
    net = Tied("weight")
    tensors = copy_tensors(net)
    change(tensors)
    with pytest.raises(ConfigError, match=sentence):
        load_tensors(net, tensors)


def test_buffers_that_a_move_has_copied_apart_are_one_again() -> None:
    net = Tied("buffer")
    names = ties(net)
    net.more.mean = net.more.mean.clone()
    assert ties(net) == {}
    retie(net, names)
    assert net.more.mean is net.norm.running_mean


def test_a_factory_gives_each_tensor_once_and_roles_for_those_alone() -> None:
    factory = NetworkFactory(lambda seed: copy.deepcopy(Tied("layer")), seed=0)
    names = list(factory.initial())
    assert names == list(factory.roles) == list(factory.weights(factory.network)) == list(factory.initial(own_seed=3))
    assert names == ["a.weight", "a.bias", *(n for n in factory.network.state_dict() if n.startswith("norm"))]
    net = factory.load({name: torch.ones_like(t) for name, t in factory.initial().items()})
    assert isinstance(net, Tied) and net.b is net.a


def test_tied_tensors_are_counted_once() -> None:
    tied, apart = Tied("weight"), Tied("none")
    assert state_bytes(apart) - state_bytes(tied) == 4 * 16
    rows = [describe(wrap(net, steps=2, classes=4, input_shape=(1, 2, 2))) for net in (tied, apart)]
    assert [table.weights for table in rows] == [16 + 8, 32 + 8]
    assert [table.state_bytes for table in rows] == [state_bytes(tied), state_bytes(apart)]
    assert rows[0].macs == rows[1].macs
