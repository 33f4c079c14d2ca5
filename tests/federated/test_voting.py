"""What lies around a vote: nothing without wrappers, the first innermost, off in the other order."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from federated.tiny import CLASSES, PUBLIC, STEPS, World
from spikefed.federated.methods.cfd import Cfd, CfdHyperparameters
from spikefed.federated.methods.fsd import Fsd, FsdHyperparameters
from spikefed.federated.private import SecureSums
from spikefed.federated.secure import Votes, VoteSum
from spikefed.federated.voting import Tally, Wrapper


class Marked(Wrapper):
    """Says when it was called."""

    def __init__(self, name: str, said: list[str]) -> None:
        self.name, self.said = name, said

    def cast(self, method: Any, uplink: Any, ctx: Any) -> Any:
        self.said.append(f"cast {self.name}")
        return uplink

    def count(self, count: Any, uplinks: Any, ctx: Any) -> Tally:
        tally = count(uplinks, ctx)
        self.said.append(f"count {self.name}")
        return dataclasses.replace(tally, values={**tally.values, self.name: 1.0})


def test_what_was_put_around_first_comes_off_last() -> None:
    said: list[str] = []
    plain = Fsd()
    marked = plain.under(Marked("inner", said), Marked("outer", said))
    assert plain.wrappers == () and len(marked.wrappers) == 2
    world = World(FsdHyperparameters(local_epochs=0, distil_epochs=0, server_epochs=0))
    uploads: dict[int, Any] = {c: marked.client_round({}, None, world.client(c, 1))[1] for c in range(2)}
    assert said == ["cast inner", "cast outer"] * 2
    said.clear()
    state, _ = marked.init_server(world.server(0))
    values = marked.server_round(state, uploads, world.server(1))[2].values
    assert said == ["count outer", "count inner"] and values["inner"] == values["outer"] == 1.0


@pytest.mark.parametrize("method", [(Fsd, FsdHyperparameters), (Cfd, CfdHyperparameters)], ids=["fsd", "cfd"])
def test_a_sum_of_equal_votes_is_the_plain_mean(method: Any) -> None:
    """The sum of what clients would have masked, over their weights, is what `count` makes of their uploads."""
    made, hyper = method
    more = {"tau_w": 1e30} if made is Fsd else {}
    world = World(hyper(local_epochs=1, **more))
    plain, wrapped = made(), made().under(SecureSums())
    seen = {c: plain.client_round({}, None, world.client(c, 1))[1] for c in range(3)}
    votes = [wrapped.client_round({}, None, world.client(c, 1))[1] for c in range(3)]
    assert all(isinstance(vote, Votes) and vote.weight == 1 for vote in votes)
    total = VoteSum(np.sum([v.votes.astype(np.int64) for v in votes], axis=0), 3, (0, 1, 2))
    one, other = plain.tally(seen, world.server(1)), wrapped.tally({-1: total}, world.server(1))
    assert np.allclose(one.share, other.share.reshape(one.share.shape), atol=1e-12)
    assert other.weights == {} and other.values == {"votes_summed": 3, "votes_out_of_range": 0}


def test_masked_votes_have_the_shape_of_the_votes() -> None:
    shape = (PUBLIC, CLASSES, STEPS)
    networks = World(None).networks
    for made, steps in ((Fsd, STEPS), (Cfd, 1)):
        up, down = made().under(SecureSums()).exchanges(made.hyperparameters(), shape, networks)
        assert (up.kind, up.shape) == ("masked-votes", (PUBLIC, CLASSES, steps))
        assert down == made().exchanges(made.hyperparameters(), shape, networks)[1]
