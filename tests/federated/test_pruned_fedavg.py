"""FedAvg under masks that change: exact zeros everywhere, bitmaps once per change, errors of who sends another mask."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from federated.pruned import EVERY, BothFedAvg, PersonalFedAvg, PrunedFedAdam, PrunedFedAvg, kept_after
from federated.tiny import World
from spikefed.errors import ConfigError
from spikefed.federated.methods.fedavg import FedAvg, FedAvgHyperparameters
from spikefed.federated.methods.fedopt import AdaptiveHyperparameters
from spikefed.training import Mask, density
from spikefed.wire import SelectedWeightsDownlink, SelectedWeightsUplink

METHODS: list[tuple[FedAvg, type[FedAvgHyperparameters]]] = [
    (PrunedFedAvg(), FedAvgHyperparameters),
    (PrunedFedAdam(), AdaptiveHyperparameters),
]
PAYLOADS = [("weights", "weights"), ("change", "weights"), ("change", "change")]


def zero_outside(mask: Mask, tensors: dict[str, Any]) -> bool:
    return all(not tensors[name][~kept].any() for name, kept in mask.kept.items() if name in tensors)


@pytest.mark.parametrize(("method", "kind"), METHODS, ids=lambda v: getattr(v, "name", ""))
@pytest.mark.parametrize(("up", "down"), PAYLOADS)
def test_masked_entries_are_0_at_the_server_at_clients_and_in_moments(
    method: FedAvg, kind: type[FedAvgHyperparameters], up: str, down: str
) -> None:
    hyper = kind(payload=up, payload_down=down, local_epochs=2, lr=0.05, weight_decay=0.1, local_batch=8)
    world = World(hyper)
    server, downlink = method.init_server(world.server(0))
    states: dict[int, Any] = {0: {}, 1: {}, 2: {}}
    seen = []
    for round in range(1, 6):
        mask = Mask(server["mask"])
        seen.append(density(mask))
        assert isinstance(downlink, SelectedWeightsDownlink) and zero_outside(mask, server["weights"])
        assert all(zero_outside(mask, moments) for moments in (server.get("m", {}), server.get("v", {})))
        uplinks = {}
        for c in states:
            states[c], uplinks[c], report = method.client_round(states[c], downlink, world.client(c, round))
            assert isinstance(uplinks[c], SelectedWeightsUplink)
            assert torch.equal(torch.from_numpy(uplinks[c].kept["fc.weight"]), mask.kept["fc.weight"])
            assert zero_outside(mask, {n: torch.from_numpy(a) for n, a in uplinks[c].tensors.items()})
            if down == "change":
                assert torch.allclose(states[c]["global"]["fc.weight"], server["weights"]["fc.weight"], atol=1e-6)
        server, downlink, diagnostics = method.server_round(server, uplinks, world.server(round))
        assert diagnostics.values["mask_density"] == density(Mask(server["mask"]))
    left = [int(kept_after(r - r % EVERY) * 12 + 0.5) for r in range(5)]
    assert seen == [count / 12 for count in left] and len(set(seen)) == 3  # the mask did change, twice
    assert method.server_mask(server) is not None


def test_under_a_mask_of_everything_it_is_fedavg_to_the_bit() -> None:
    class Unpruned(PrunedFedAvg):
        def next_mask(self, state: Any, ctx: Any) -> Any:
            return FedAvg.next_mask(self, state, ctx)

    ends = []
    for method in (FedAvg(), Unpruned()):
        world = World(FedAvgHyperparameters(local_epochs=1))
        server, downlink = method.init_server(world.server(0))
        for round in (1, 2):
            done = {c: method.client_round({}, downlink, world.client(c, round)) for c in range(3)}
            server, downlink, _ = method.server_round(server, {c: d[1] for c, d in done.items()}, world.server(round))
        ends.append(server["weights"])
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_mask_of_other_tensors_is_refused() -> None:
    class Wrong(PrunedFedAvg):
        def next_mask(self, state: Any, ctx: Any) -> Mask:
            return Mask({"fc.bias": torch.ones(3, dtype=torch.bool)})

    with pytest.raises(ConfigError, match="masks 'fc.bias' in 'next_mask', which is not what 'maskable' names"):
        Wrong().init_server(World(FedAvgHyperparameters()).server(0))


def test_personal_masks_merge_over_those_who_sent_an_entry() -> None:
    """Clients under masks of their own: the server's side needs nothing more."""
    world, method = World(FedAvgHyperparameters()), PrunedFedAvg()
    server, _ = method.init_server(world.server(0))
    shape = server["weights"]["fc.weight"].shape
    halves = torch.arange(12).reshape(shape) < 6, torch.arange(12).reshape(shape) >= 3
    server = {"weights": world.networks.initial(), "mask": {"fc.weight": torch.ones(shape, dtype=torch.bool)}}
    uplinks = {
        c: SelectedWeightsUplink(
            1, c, {n: (t + c + 1).numpy() for n, t in server["weights"].items()}, {"fc.weight": own.numpy()}, 10, 0.5
        )
        for c, own in enumerate(halves)
    }
    new, _, _ = method.server_round(server, uplinks, world.server(1))
    moved = (new["weights"]["fc.weight"] - server["weights"]["fc.weight"]).reshape(-1)
    assert torch.allclose(moved, torch.tensor([1.0] * 3 + [1.5] * 3 + [2.0] * 6), atol=1e-6)


@pytest.mark.parametrize(("up", "down"), PAYLOADS)
@pytest.mark.parametrize("method", [PersonalFedAvg(), BothFedAvg()], ids=lambda method: method.name)
def test_a_clients_own_mask_stays_with_it_and_holds_exactly(method: FedAvg, up: str, down: str) -> None:
    hyper = FedAvgHyperparameters(
        payload=up, payload_down=down, local_epochs=2, lr=0.05, weight_decay=0.1, local_batch=8
    )
    world = World(hyper)
    server, downlink = method.init_server(world.server(0))
    states: dict[int, Any] = {0: {}, 1: {}}
    for round in range(1, 6):
        uplinks, masks = {}, {c: Mask(state.get("own_mask", {})) for c, state in states.items()}
        told = Mask(server["mask"])
        for c in states:
            states[c], uplinks[c], report = method.client_round(states[c], downlink, world.client(c, round))
            held = told & masks[c]
            assert report.values["own_density"] == density(held)
            sent = torch.from_numpy(uplinks[c].kept["fc.weight"])  # type: ignore[union-attr]
            assert torch.equal(sent, held.kept["fc.weight"])
            assert zero_outside(held, world.networks.weights(world.networks.network))
        before = server["weights"]["fc.weight"]
        server, downlink, _ = method.server_round(server, uplinks, world.server(round))
        nobody = ~(told & masks[0]).kept["fc.weight"] & ~(told & masks[1]).kept["fc.weight"]
        after = server["weights"]["fc.weight"]
        untouched = nobody & Mask(server["mask"]).kept["fc.weight"]  # the server's own next mask may take more away
        assert torch.equal(after[untouched], before[untouched])
    assert not torch.equal(states[0]["own_mask"]["fc.weight"], states[1]["own_mask"]["fc.weight"])
    assert density(Mask(states[1]["own_mask"])) < 0.5
    if method.name == "personal-fedavg":
        assert density(Mask(server["mask"])) == 1  # the server prunes nothing: what is personal stays personal


def test_an_own_mask_of_other_tensors_is_refused() -> None:
    class Wrong(PersonalFedAvg):
        def next_own_mask(self, state: Any, ctx: Any) -> Mask:
            return Mask({"fc.bias": torch.ones(3, dtype=torch.bool)})

    world = World(FedAvgHyperparameters(local_batch=8))
    with pytest.raises(ConfigError, match="masks 'fc.bias' in 'next_own_mask', which is not what 'maskable' names"):
        Wrong().client_round({}, Wrong().init_server(world.server(0))[1], world.client(0, 1))
