"""Privacy of what clients upload, as wrappers around the vote of any method that counts one (`voting`).

Randomised response changes the votes before they leave, and takes its bias out of their mean (`response`). A secure sum
shows the server the sum of the votes and nothing else of one client (`secure`, `spikefed.privacy`).
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spikefed.errors import ConfigError
from spikefed.federated.contract import ClientContext, Context, Message
from spikefed.federated.response import Source, account, noise_source, respond, unbiased
from spikefed.federated.secure import Votes, VoteSum
from spikefed.federated.setup import Setup
from spikefed.federated.traffic import Exchange
from spikefed.federated.voting import Count, Tally, Voting, Wrapper
from spikefed.wire import SpikeUplink


@dataclass(frozen=True)
class RandomisedResponse(Wrapper):
    """Every uploaded spike is told with probability e^eps / (1 + e^eps) and flipped otherwise.

    Attributes:
        epsilon: of one spike in one round, above 0.
        delta: of the composition over spikes and rounds, in (0, 1).
        source: where the randomness comes from; ``seeded`` repeats a run and protects nothing.
    """

    epsilon: float
    delta: float = 1e-5
    source: Source = "system"

    def check(self, method: Voting, hyper: Any, setup: Setup) -> None:
        if method.uplink_kind != "spikes":
            raise ConfigError(
                f"'privacy.response_epsilon' flips uploaded spikes, and method {method.name} uploads "
                f"{method.uplink_kind}; use fsd, or leave it out"
            )

    def cast(self, method: Voting, uplink: Message | Votes, ctx: ClientContext) -> SpikeUplink:
        assert isinstance(uplink, SpikeUplink)
        noise = noise_source(self.source, ctx.generator)
        return dataclasses.replace(uplink, spikes=respond(uplink.spikes, self.epsilon, noise))

    def count(self, count: Count, uplinks: Mapping[int, Message | VoteSum], ctx: Context) -> Tally:
        tally = count(uplinks, ctx)
        row = int(np.prod(tally.share.shape[1:]))
        promise = account(self.epsilon, self.delta, row, ctx.round)
        return Tally(unbiased(tally.share, self.epsilon), tally.weights, tally.values | promise)


@dataclass(frozen=True)
class SecureSums(Wrapper):
    """The server learns the sum of the votes only.

    Attributes:
        levels: w, of a client's weight; with 1 all weigh the same.
    """

    levels: int = 1

    def check(self, method: Voting, hyper: Any, setup: Setup) -> None:
        if hyper.vote != "weighted":
            raise ConfigError(
                f"'method.vote' = '{hyper.vote}' needs every client's votes, which 'privacy.secure' hides from the "
                "server; choose one of the two"
            )
        if method.uplink_kind not in ("spikes", "labels"):
            raise ConfigError(
                f"'privacy.secure' sums votes of 0 and 1, and method {method.name} uploads {method.uplink_kind}; use "
                "fsd or cfd, or leave it out"
            )
        if setup.clients < 2:
            raise ConfigError(
                "'privacy.secure' sums the votes of at least two clients; raise data.clients, without data.pooled"
            )
        if importlib.util.find_spec("cryptography") is None:
            raise ConfigError("'privacy.secure' needs the package cryptography; install spikefed[privacy]")

    def exchange(self, up: Exchange) -> Exchange:
        return Exchange("masked-votes", up.shape)

    def cast(self, method: Voting, uplink: Any, ctx: ClientContext) -> Votes:
        weight = method.level(uplink.accuracy, self.levels, ctx.hyper)
        votes = method.ballot(uplink) * np.uint16(weight)
        return Votes(ctx.round, ctx.client, votes, weight, ctx.public_set_id)

    def count(self, count: Count, uplinks: Mapping[int, Message | VoteSum], ctx: Context) -> Tally:
        total = next(iter(uplinks.values()))
        assert isinstance(total, VoteSum)
        values: dict[str, float] = {"votes_summed": len(total.clients), "votes_out_of_range": total.outside}
        return Tally(total.votes / total.weight, {}, values)
