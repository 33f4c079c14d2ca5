"""Plans of messages that carry a selection, which both ends work out from the round and the client."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from federated.tiny import World
from spikefed.errors import PacketError
from spikefed.federated import Exchange, Expectations, Selection, everything
from spikefed.federated.messages import to_wire
from spikefed.wire import ClientLink, ServerLink, WeightsDownlink, WeightsUplink


def select(round: int, client: int) -> Selection:
    """One tensor whole, the other one in part, another part for every round and client."""
    draws = torch.Generator().manual_seed(10 * round + client)
    return Selection({"fc.bias": None, "fc.weight": torch.rand(3, 4, generator=draws) < 0.5})


def expectations(world: World) -> Expectations:
    exchange = Exchange("weights", select=select)
    return Expectations(exchange, exchange, world.networks.initial(), bytes(32))


@pytest.mark.parametrize("codec", ["float32", "topk-10", "qsgd-7"])
def test_both_ends_know_another_selection_for_every_round_and_client(codec: str) -> None:
    world = World(None)
    expected, server = expectations(world), ServerLink(codec, "float32")
    clients = {c: ClientLink(c, codec, "float32") for c in range(2)}
    for round in range(1, 5):
        for c, link in clients.items():
            chosen = select(round, c)
            arrays = to_wire(chosen.of(world.networks.initial()))
            kept = {name: chosen.arrays()[name] for name in arrays}
            down = WeightsDownlink(round, arrays, kept=kept)
            back = link.decode(server.encode(down, client=c), expected.plan("down", round, c))
            assert list(back.tensors) == ["fc.weight", "fc.bias"]
            assert np.array_equal(back.tensors["fc.weight"], np.where(kept["fc.weight"], arrays["fc.weight"], 0))
            up = WeightsUplink(round, c, arrays, 5, 0.5, kept=kept)
            got = server.decode(link.encode(up), expected.plan("up", round, c))
            assert np.array_equal(got.kept["fc.weight"], kept["fc.weight"])
            with pytest.raises(PacketError) as caught:  # another client's selection
                server.decode(link.encode(up), expected.plan("up", round, 1 - c))
            assert caught.value.field in ("client", "layout")


def test_a_selection_of_everything_is_the_plan_of_today() -> None:
    world = World(None)
    tensors = world.networks.initial()
    every = Exchange("weights", select=lambda round, client: everything(tensors))
    plain = Expectations(Exchange("weights"), Exchange("weights"), tensors, bytes(32))
    assert Expectations(every, every, tensors, bytes(32)).plan("up", 3, 1) == plain.plan("up", 3, 1)


def test_selected_weights_follow_the_server_unless_told_otherwise() -> None:
    world = World(None)
    masked = Exchange("selected-weights", masked=frozenset({"fc.weight"}))
    own = Exchange("selected-weights", masked=frozenset({"fc.weight"}), own_mask=True)
    expected = Expectations(masked, masked, world.networks.initial(), bytes(32))
    assert expected.plan("up", 1, 0).follows and not expected.plan("down", 1, 0).follows
    assert not Expectations(own, masked, world.networks.initial(), bytes(32)).plan("up", 1, 0).follows
    assert [spec.name for spec in expected.plan("up", 1, 0).masked] == ["fc.weight"]
