"""Method dc-nas: what clients get and return, what the server makes of it, and that the whole supernet is FedAvg."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from federated.supers import config
from spikefed.errors import ConfigError
from spikefed.experiment import build
from spikefed.experiment import config as configs
from spikefed.federated.averaging import mask_of
from spikefed.federated.methods.dcnas import DcNas
from spikefed.federated.methods.fedavg import FedAvg
from spikefed.federated.samplers import mean_distance
from spikefed.networks import Space, copy_tensors, describe, slimmed, subnet
from spikefed.wire import Ledger


def arrived(message: Any) -> Any:
    """A message as it is decoded: 0 where nothing travelled."""
    if message.kind == "weights":
        return message
    return replace(
        message, tensors={n: np.where(message.kept[n], a, a.dtype.type(0)) for n, a in message.tensors.items()}
    )


class Fleet:
    """All steps of a method by hand, in one process."""

    def __init__(self, tables: dict[str, Any], method: FedAvg) -> None:
        self.federation = build(configs.from_tree(tables))
        self.method = method
        self.server, self.downlink = method.init_server(self.federation.context(0))
        self.states: dict[int, Any] = dict.fromkeys(range(tables["data"]["clients"]), {})
        self.got: dict[int, Any] = {}
        self.sent: dict[int, Any] = {}

    def round(self, number: int):
        ctx = self.federation.context(number)
        for c, state in self.states.items():
            self.got[c] = arrived(self.method.addressed(self.server, self.downlink, c, ctx))
            client = self.federation.client_context(c, number)
            self.states[c], self.sent[c], _ = self.method.client_round(state, self.got[c], client)
        self.server, self.downlink, said = self.method.server_round(self.server, self.sent, ctx)
        return said


@pytest.mark.parametrize(("twin", "payload"), [("none", "weights"), ("ann", "change")])
def test_the_full_sampler_is_fedavg_on_the_supernet_to_the_bit(twin: str, payload: str) -> None:
    network = {**config()["network"], **({"twin": "ann", "steps": 1} if twin == "ann" else {})}
    full = Fleet(config({"sampler": "full", "search_rounds": 4, "payload": payload}, network=network), DcNas())
    tables = config(network=network) | {"method": {"name": "fedavg", "payload": payload}}
    plain = Fleet(tables, FedAvg())
    for number in (1, 2, 3):
        full.round(number)
        plain.round(number)
        for name, tensor in plain.server["weights"].items():
            assert torch.equal(full.server["weights"][name], tensor), name
        for c, message in plain.sent.items():
            assert all(np.array_equal(full.sent[c].tensors[n], a) for n, a in message.tensors.items())


def test_a_client_gets_and_returns_its_branches_and_nobody_elses_change() -> None:
    fleet = Fleet(config({"search_rounds": 3}), DcNas())
    space = Space.of(fleet.federation.networks.network)
    for number in (1, 2):
        before = dict(fleet.server["weights"])
        said = fleet.round(number)
        choices = {c: space.choice(mask_of(message).kept) for c, message in fleet.sent.items()}
        assert len(set(choices.values())) > 1
        for c, message in fleet.sent.items():
            assert mask_of(fleet.got[c]).kept.keys() == before.keys()
            for name, kept in mask_of(message).kept.items():
                assert torch.equal(kept, mask_of(fleet.got[c]).kept[name])
                assert not message.tensors[name][~kept.numpy()].any()
        for j, branch in enumerate(space.branches):
            trained = any(choice.gates[j] for choice in choices.values())
            names = [name for name in before if name.startswith(f"{branch}.")]
            same = all(torch.equal(fleet.server["weights"][name], before[name]) for name in names)
            assert same != trained, branch
        rows = torch.tensor([choice.gates for choice in choices.values()])
        assert said.values["distance"] == mean_distance(rows) and "model_deviation" not in said.values


def test_entries_are_merged_over_those_who_sent_them() -> None:
    """Clients that train nothing and differ by a constant: every entry is the mean over its senders."""
    fleet = Fleet(config({"search_rounds": 3}, training={"local_epochs": 0}), DcNas())
    ctx = fleet.federation.context(1)
    before = dict(fleet.server["weights"])
    for c in fleet.states:
        got = fleet.method.addressed(fleet.server, fleet.downlink, c, ctx)
        _, sent, _ = fleet.method.client_round({}, got, fleet.federation.client_context(c, 1))
        moved = {n: a + np.float32(c + 1) if a.dtype.kind == "f" else a for n, a in sent.tensors.items()}
        fleet.sent[c] = replace(sent, tensors=moved)
    after, _, _ = fleet.method.server_round(fleet.server, fleet.sent, ctx)
    for name, tensor in before.items():
        if tensor.is_floating_point():
            senders = [c for c, message in fleet.sent.items() if mask_of(message).kept[name].any()]
            mean = sum(c + 1 for c in senders) / max(len(senders), 1)  # all have as many samples
            assert torch.allclose(after["weights"][name], tensor + mean, atol=1e-5), name


def test_identical_clients_are_plain_fedavg() -> None:
    """Three times the same upload of the same branches is that upload."""
    fleet = Fleet(config({"search_rounds": 3}), DcNas())
    ctx = fleet.federation.context(1)
    got = fleet.method.addressed(fleet.server, fleet.downlink, 1, ctx)
    _, sent, _ = fleet.method.client_round({}, got, fleet.federation.client_context(1, 1))
    after, _, _ = fleet.method.server_round(fleet.server, {c: replace(sent, client=c) for c in range(3)}, ctx)
    for name, kept in mask_of(sent).kept.items():
        wanted = torch.where(kept, torch.from_numpy(sent.tensors[name]), fleet.server["weights"][name])
        assert torch.allclose(after["weights"][name], wanted, atol=1e-6), name


def test_after_the_search_everybody_trains_what_was_found() -> None:
    fleet = Fleet(config({"prune": 0.5}), DcNas())
    space = Space.of(fleet.federation.networks.network)
    for number in (1, 2, 3, 4):
        said = fleet.round(number)
        net = fleet.method.server_network(fleet.server, fleet.federation.context(number))
        mask = fleet.method.server_mask(fleet.server)
        choice = space.choice(mask.kept)
        assert all(not tensor[~mask.kept[name]].any() for name, tensor in copy_tensors(net).items())
        small = subnet(net, choice)
        assert slimmed(net).name == small.name == space.name(choice)
        assert said.values["network_parameters"] == describe(small).parameters
        assert [said.values[f"gate_{j + 1}"] for j in range(9)] == [float(gate) for gate in choice.gates]
        assert said.values["searching"] == (number <= 2)
    choices = {space.choice(mask_of(message).kept) for message in fleet.sent.values()}
    assert choices == {choice} and sum(choice.channels) == 3
    assert said.values["parameters_peak"] == describe(small).parameters < 0.6 * said.values["parameters_full"]


def test_a_search_that_starts_again_keeps_the_initial_weights_of_what_it_found() -> None:
    fleet = Fleet(config({"retrain": "initial"}), DcNas())
    fleet.round(1)
    fleet.round(2)
    initial = fleet.federation.networks.initial()
    for name, kept in fleet.server["mask"].items():
        assert torch.equal(fleet.server["weights"][name], torch.where(kept, initial[name], 0 * initial[name]))
    assert not torch.equal(fleet.server["result"]["weights"]["stem.weight"], fleet.server["weights"]["stem.weight"])


def test_every_class_of_devices_trains_its_own_subnet_after_the_search() -> None:
    fleet = Fleet(config({"devices": [0.3]}), DcNas())
    space = Space.of(fleet.federation.networks.network)
    fleet.round(1)
    fleet.round(2)
    before = dict(fleet.server["weights"])
    fleet.round(3)
    choices = {c: space.choice(mask_of(message).kept) for c, message in fleet.sent.items()}
    assert choices[0] == choices[2] != choices[1]
    assert all(large or not small for large, small in zip(choices[0].gates, choices[1].gates, strict=True))
    assert choices[0].channels == choices[1].channels
    arrays = {c: message.tensors for c, message in fleet.sent.items()}
    for name, kept in mask_of(fleet.sent[0]).kept.items():
        shared = mask_of(fleet.sent[1]).kept[name] & kept
        if before[name].is_floating_point():
            for who, part in (((0, 1, 2), shared), ((0, 2), kept & ~shared)):
                mean = sum(torch.from_numpy(arrays[c][name]) for c in who) / len(who)
                assert torch.allclose(fleet.server["weights"][name][part], mean[part], atol=1e-6), name


def test_a_prior_is_where_utilities_begin() -> None:
    plain, told = (Fleet(config(given), DcNas()) for given in ({}, {"prior": "sahd"}))
    assert not plain.server["search"]["utilities"].any()
    utilities = told.server["search"]["utilities"]
    assert utilities.std(correction=0) == pytest.approx(0.02) and utilities.sum() == pytest.approx(0)
    again = Fleet(config({"prior": "sahd"}), DcNas())
    assert torch.equal(again.server["search"]["utilities"], utilities)
    ctx = plain.federation.context(2)  # from the second round on the distance leaves room for a preference
    gates = [[f.method.gates(f.server, c, ctx) for c in range(3)] for f in (plain, told)]
    assert gates[0] != gates[1]


@pytest.mark.parametrize("sampler", ["diversified", "uniform", "hadamard"])
def test_bytes_are_counted_as_sent(sampler: str) -> None:
    sizes = {}
    for name in (sampler, "full"):
        federation = build(configs.from_tree(config({"sampler": name, "search_rounds": 4})))
        ledger = Ledger()
        server = federation.server(federation.local_transport(), ledger)
        said = [server.run_round().diagnostics.values for _ in range(2)]
        sizes[name] = (sum(record.encoded_bytes for record in ledger.records), sum(v["tensor_bytes"] for v in said))
        assert len(ledger.records) == 12
    for coded, uncoded in sizes.values():
        assert uncoded < coded < uncoded + 12 * 700  # headers, names and bitmaps of 12 messages
    assert sizes[sampler][1] < 0.8 * sizes["full"][1]


def test_what_a_newcomer_would_type_wrong() -> None:
    for wrong, why in (
        ({"sampler": "random"}, "method.sampler 'random' is not known"),
        ({"search_rounds": 9}, "this search takes 9 rounds but the run has 4; set rounds = 9 or more"),
        ({"share": 0.2}, "method.share = 0.2 opens 1 of 9 branches, but each of the 3 blocks needs one"),
        ({"limit": 0.1}, "method.limit = 0.1 is less than the smallest subnet takes"),
        ({"budget": 0.01}, "method.budget = 0.01 is less than the smallest subnet takes"),
        ({"distance": 5.0}, "method.distance = 5 is farther than samples of 4 of 9 branches can be"),
        ({"send": ["weight"]}, "leave out method.send"),
        ({"payload_down": "change"}, "leave method.payload_down at 'weights'"),
        ({"merge": "median"}, "leave method.merge at 'mean'"),
        ({"devices": [0.2, 0.3]}, r"method.devices = \[0.2, 0.3\] must fall from class to class and begin below"),
        ({"devices": [0.6]}, "must fall from class to class and begin below method.budget = 0.5"),
        ({"devices": [0.3, 0.01]}, r"method.devices = \[0.3, 0.01\] has 0.01, which is less than the smallest subnet"),
        ({"devices": [0]}, r"method.devices = \[0.0\] has 0, which is less than the smallest subnet"),
        ({"devices": [0.3, 0.3]}, "0.3 comes after 0.3; give each class less than the one before"),
        ({"distance_last": 50}, "method.distance_last = 50 is farther than the distance that the search begins with"),
        ({"distance": 3, "distance_last": 3.5}, r"begins with, 3 \(method.distance\); set it to that or less"),
        ({"devices": [0.3, 0.2, 0.1]}, "method.devices makes 4 classes of 3 clients; give fewer budgets"),
        ({"prior": "--sahd"}, "score '-sahd' is not known; the nearest is 'sahd'"),
        ({"prior": "sadh"}, "score 'sadh' is not known; the nearest is 'sahd'"),
        ({"prior": "ensemble"}, "score 'ensemble' ranks the cells of a whole search; set method.prior = 'sahd'"),
    ):
        with pytest.raises(ConfigError, match=why):
            build(configs.from_tree(config(wrong)))
    for network, why in (
        ({"name": "small", "steps": 2}, "network 'small' has no branches to choose from"),
        ({"name": "supernet:12-12", "steps": 2, "norm": "none"}, "set network.norm = 'bn'"),
        ({**config()["network"], "thresholds": "layer"}, "is no tensor of a subnet; leave out .* network.thresholds"),
    ):
        with pytest.raises(ConfigError, match=why):
            build(configs.from_tree(config(network=network)))
    with pytest.raises(ConfigError, match="set chips.train = 'off-chip'"):
        build(configs.from_tree(config(chips={"profile": "rram"})))
    assert build(configs.from_tree(config(chips={"profile": "rram", "train": "off-chip"})))
