"""Masks of a client's own in `tickets`: what is averaged, who holds what, and the shared mask as a special case."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from federated.sparse import STEPS, context
from federated.test_tickets import net
from spikefed.errors import ConfigError
from spikefed.federated import NetworkFactory, ownmasks
from spikefed.federated.averaging import mask_of
from spikefed.federated.methods.tickets import TicketHyperparameters, Tickets
from spikefed.federated.setup import Setup
from spikefed.federated.stages import NOTE, Note
from spikefed.federated.ticketsearch import packed, unpacked
from spikefed.training import Mask, density, magnitudes, mask_of_best


class Run:
    """A federation in one process without a wire, whose clients remember."""

    def __init__(self, clients: int = 2, **given: Any) -> None:
        given = {"sparsities": [0.5, 0.9], "level_rounds": 3, "local_batch": 8, "lr": 0.01, **given}
        self.hyper = TicketHyperparameters(**given)
        self.method, self.clients = Tickets(), clients
        self.networks = NetworkFactory(net, seed=1)
        self.round = 0
        self.states: dict[int, Any] = {c: {} for c in range(clients)}
        self.uplinks: dict[int, Any] = {}
        self.state, self.downlink = self.method.init_server(self.context())

    def context(self, client: int | None = None) -> Any:
        made = context(self, 40, client)
        object.__setattr__(made, "clients", self.clients)
        return made

    def sent_to(self, client: int) -> Any:
        if self.downlink is None:
            return None
        return self.method.addressed(self.state, self.downlink, client, self.context())

    def step(self, *clients: int) -> dict[str, float]:
        self.round += 1
        self.uplinks = {}
        for c in clients or self.states:
            downlink = self.sent_to(c)
            self.states[c], self.uplinks[c], _ = self.method.client_round(self.states[c], downlink, self.context(c))
        self.state, self.downlink, said = self.method.server_round(self.state, self.uplinks, self.context())
        return said.values

    def masks(self) -> dict[int, Mask]:
        """Of the newest uploads."""
        found = {c: mask_of(uplink) for c, uplink in self.uplinks.items()}
        return {c: mask for c, mask in found.items() if mask is not None}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize(
    ("clients", "given"),
    [
        (1, {}),
        (1, {"restart": "keep"}),
        (1, {"search": "one-shot"}),
        (1, {"early_time": True, "probe_rounds": 1, "kl_threshold": 1.0}),
        (1, {"search_on": "ann", "restart": "initial"}),
        (1, {"payload": "change"}),
        (3, {"local_epochs": 0}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else str(value),
)
def test_equal_masks_are_the_shared_mask_to_the_bit(clients: int, given: dict[str, Any]) -> None:
    """One client, or clients that learn nothing, find the mask that the server would find."""
    shared, own = (Run(clients, personal_masks=personal, **given) for personal in (False, True))
    rounds = 0
    while rounds < 12 and not (shared.state["search"]["level"] == 2 and shared.state["search"]["at"] >= 2):
        values = [run.step() for run in (shared, own)]
        assert same(shared.state["result"]["weights"], own.state["result"]["weights"])
        assert same(shared.state["result"]["mask"], own.state["result"]["mask"])
        assert values[0]["mask_density"] == values[1]["mask_density"]
        rounds += 1
    assert density(Mask(own.state["result"]["mask"])) == pytest.approx(0.1, abs=0.005)


def test_masks_differ_where_data_differ_and_each_has_its_sparsity_and_nests() -> None:
    run = Run(personal_masks=True)
    seen: list[dict[int, Mask]] = []
    for _ in range(7):
        run.step()
        seen.append(run.masks())
        for c, mask in run.masks().items():
            sent = {name: torch.from_numpy(array) for name, array in run.uplinks[c].tensors.items()}
            assert same(sent, mask.applied(sent))  # survivors alone
    assert [round(density(masks[0]), 2) for masks in seen] == [1.0] * 3 + [0.5] * 2 + [0.1] * 2
    for before, after in ((3, 4), (5, 6)):
        assert same(dict(seen[before][0].kept), dict(seen[after][0].kept))
    for level in (3, 5):
        one, other = (packed(seen[level][c]) for c in (0, 1))
        assert not torch.equal(one, other)
    for c in (0, 1):
        assert not any((seen[5][c].kept[n] & ~kept).any() for n, kept in seen[3][c].kept.items())


def test_a_mask_is_of_what_the_client_itself_trained() -> None:
    run = Run(personal_masks=True)
    for _ in range(3):
        run.step()
    for c, state in run.states.items():
        weights = {n: torch.from_numpy(a) for n, a in run.uplinks[c].tensors.items()}
        names = list(run.state["mask"])
        wanted = mask_of_best(magnitudes(weights, names), 0.5)
        assert torch.equal(state["masks"]["1"], packed(wanted))


def test_an_entry_is_the_mean_over_those_who_hold_it_and_stays_where_nobody_does() -> None:
    run = Run(personal_masks=True, restart="keep", weighting="samples")
    for _ in range(4):
        before = run.state["weights"]
        run.step()
    after, masks = run.state["weights"], run.masks()
    for name, old in before.items():
        if name not in run.state["mask"]:
            continue
        sent = {c: torch.from_numpy(u.tensors[name]).double() for c, u in run.uplinks.items()}
        kept = {c: mask.kept[name].double() for c, mask in masks.items()}
        n = {c: u.samples for c, u in run.uplinks.items()}
        held = sum(n[c] * kept[c] for c in sent)
        mean = sum(n[c] * kept[c] * sent[c] for c in sent) / torch.clamp(torch.as_tensor(held), min=1)
        wanted = torch.where(torch.as_tensor(held) > 0, torch.as_tensor(mean).float(), old)
        torch.testing.assert_close(after[name], wanted, rtol=1e-6, atol=1e-8)
    nobody = ~(masks[0].kept["fc1.weight"] | masks[1].kept["fc1.weight"])
    assert nobody.any() and torch.equal(after["fc1.weight"][nobody], before["fc1.weight"][nobody])


def test_the_server_sends_each_client_what_it_last_sent() -> None:
    run = Run(3, personal_masks=True)
    for _ in range(4):
        run.step(0, 1)  # client 2 has not been heard
    for c in (0, 1):
        told = mask_of(run.sent_to(c))
        assert told is not None and torch.equal(packed(told), packed(run.masks()[c]))
    dense = mask_of(run.sent_to(2))
    assert dense is not None and density(dense) == 1.0
    assert density(Mask(run.state["result"]["mask"])) == 1.0  # client 2 may hold anything
    run.step(2)
    assert set(run.method.forget(run.state, [2])["own"]) == {"0", "1"}


def test_a_client_that_missed_a_training_takes_part_once_and_prunes_then() -> None:
    run = Run(3, personal_masks=True)
    for _ in range(3):
        run.step(0, 1)
    run.step(0, 2)
    assert {c: round(density(mask), 2) for c, mask in run.masks().items()} == {0: 0.5, 2: 1.0}
    run.step(2)
    assert round(density(run.masks()[2]), 2) == 0.5
    run.step(1)  # client 1 missed the whole of level 1
    assert round(density(run.masks()[1]), 2) == 0.5
    run.step(0, 1, 2)
    found = {c: round(density(mask), 2) for c, mask in run.masks().items()}
    assert found == {0: 0.1, 1: 0.1, 2: 0.1}  # 0 and 2 found theirs in level 1, client 1 in the round before


def test_a_search_that_begins_its_levels_anew_hands_everything_out_again() -> None:
    """With Early-Time tickets are trained after the search: level 1 holds more than the last level searched."""
    run = Run(1, personal_masks=True, early_time=True, probe_rounds=1, kl_threshold=1.0)
    levels = []
    for _ in range(8):
        values = run.step()
        levels.append((int(values["level"]), round(density(run.masks()[0]), 2)))
    assert levels == [(0, 1.0)] * 3 + [(1, 0.5)] * 4 + [(2, 0.1)]


def test_a_client_keeps_the_network_that_it_trained() -> None:
    run = Run(personal_masks=True)
    assert run.method.client_network(run.states[0], run.context()) is None
    for _ in range(6):
        run.step()
    for c in (0, 1):
        own = run.method.client_network(run.states[c], run.context())
        assert own is not None
        sent = {name: torch.from_numpy(array) for name, array in run.uplinks[c].tensors.items()}
        assert same(dict(own.state_dict()), sent)


@pytest.mark.parametrize("criterion", ["spikes", "loss", "operations"])
def test_criteria_are_measured_on_the_clients_own_images(criterion: str) -> None:
    one, other = (Run(personal_masks=True, criterion=criterion, restart="keep") for _ in range(2))
    public = other.context
    other.context = lambda client=None: _without_public(public(client))  # type: ignore[method-assign]
    for _ in range(4):
        one.step()
        other.step()
    assert all(torch.equal(one.states[c]["masks"]["1"], other.states[c]["masks"]["1"]) for c in (0, 1))
    assert density(one.masks()[0]) == pytest.approx(0.5, abs=0.01)


def _without_public(made: Any) -> Any:
    object.__setattr__(made, "public", torch.zeros_like(made.public))
    return made


def test_the_union_is_of_all_that_were_heard() -> None:
    like = Mask({"a": torch.ones(5, dtype=torch.bool)})
    own = {"0": packed(Mask({"a": torch.tensor([1, 0, 0, 1, 0]).bool()}))}
    assert density(ownmasks.union(own, like, 2)) == 1.0
    own["1"] = packed(Mask({"a": torch.tensor([0, 1, 0, 1, 0]).bool()}))
    assert ownmasks.union(own, like, 2).kept["a"].tolist() == [True, True, False, True, False]
    assert torch.equal(unpacked(own["1"], like).kept["a"], torch.tensor([0, 1, 0, 1, 0]).bool())


def test_the_note_tells_the_level_only_where_clients_need_it() -> None:
    for personal, length in ((False, 5), (True, 6)):
        run = Run(1, personal_masks=personal)
        for _ in range(4):
            run.step()
        array = run.downlink.tensors[NOTE]
        assert len(array) == length and Note.read({NOTE: array}).level == (1 if personal else None)
    assert run.networks.network.steps == STEPS


def test_what_does_not_go_with_own_masks_is_one_sentence() -> None:
    for given in ({"search": "early-bird"}, {"search": "snip"}, {"merge": "median"}):
        hyper = TicketHyperparameters(personal_masks=True, **given)
        with pytest.raises(ConfigError, match="personal_masks goes with search = 'imp' or 'one-shot'"):
            Tickets().check(hyper, Setup())
