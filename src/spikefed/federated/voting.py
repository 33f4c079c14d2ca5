"""Methods whose server averages votes of 0 and 1, and what may lie around such a vote, as privacy does.

A wrapper sees a vote twice: after the client has cast it, before it is encoded, and when the server counts. What was
put around a vote first is taken off last.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np

from spikefed.federated.contract import ClientContext, Context, Message, NetworkFactory
from spikefed.federated.distillation import Distillation
from spikefed.federated.secure import Votes, VoteSum
from spikefed.federated.setup import Setup
from spikefed.federated.traffic import Exchange


@dataclass(frozen=True)
class Tally:
    """What came of a vote.

    Attributes:
        share: weighted mean of the votes, float64 in [0, 1].
        weights: merge weight by client; empty where the server may not know.
        values: floats for the metrics file.
    """

    share: np.ndarray
    weights: dict[int, float] = field(default_factory=dict[int, float])
    values: dict[str, float] = field(default_factory=dict[str, float])


Uplinks = Mapping[int, Message | VoteSum]
Count = Callable[[Uplinks, Context], Tally]
"""Accepted uploads by client, and the server's context: the tally."""


class Wrapper:
    """What lies around a vote; the methods below leave everything as it is."""

    def check(self, method: Voting, hyper: Any, setup: Setup) -> None:
        """Refuse a method, or an experiment, whose votes it cannot go around.

        Raises:
            ConfigError: one sentence on what does not fit.
        """

    def exchange(self, up: Exchange) -> Exchange:
        """What travels up instead of the vote."""
        return up

    def cast(self, method: Voting, uplink: Message | Votes, ctx: ClientContext) -> Message | Votes:
        """What leaves the method's step instead of the vote."""
        return uplink

    def count(self, count: Count, uplinks: Uplinks, ctx: Context) -> Tally:
        """The tally, by ``count`` of what is inside."""
        return count(uplinks, ctx)


class Voting(Distillation):
    """A distilling method whose merge needs nothing of the uploads but the weighted mean of their votes.

    It calls `cast` on what a client uploads and `tally` on what the server got; `count` is its own rule.

    Attributes:
        wrappers: what lies around its votes, the innermost first (`under`).
        votes: whether that can be; a variant that merges otherwise says False.
    """

    wrappers: tuple[Wrapper, ...] = ()
    votes: ClassVar[bool] = True

    # What a method says.

    def count(self, uplinks: Mapping[int, Any], ctx: Context) -> Tally:
        """The weighted mean of the clients' votes."""
        raise NotImplementedError

    def ballot(self, uplink: Any) -> np.ndarray:
        """The votes of an upload: uint8 of 0 and 1, ``[N, C, T]``."""
        raise NotImplementedError

    def level(self, accuracy: float, levels: int, hyper: Any) -> int:
        """A client's weight as a whole number from 1 to ``levels``; by default all weigh the same."""
        return 1

    # The frame.

    def under(self, *wrappers: Wrapper) -> Self:
        """The same method with its votes wrapped, by the first of these innermost."""
        wrapped = copy.copy(self)
        wrapped.wrappers = wrappers
        return wrapped

    def check(self, hyper: Any, setup: Setup) -> None:
        for wrapper in self.wrappers:
            wrapper.check(self, hyper, setup)
        super().check(hyper, setup)

    def wrapped(self, exchanges: tuple[Exchange, Exchange]) -> tuple[Exchange, Exchange]:
        """The method's `exchanges` with what its wrappers send up instead."""
        up, down = exchanges
        for wrapper in self.wrappers:
            up = wrapper.exchange(up)
        return up, down

    def exchanges(self, hyper: Any, shape: tuple[int, int, int], networks: NetworkFactory) -> tuple[Exchange, Exchange]:
        return self.wrapped(super().exchanges(hyper, shape, networks))

    def cast(self, uplink: Message, ctx: ClientContext) -> Message | Votes:
        """The upload as it leaves the step."""
        for wrapper in self.wrappers:
            uplink = wrapper.cast(self, uplink, ctx)
        return uplink

    def tally(self, uplinks: Uplinks, ctx: Context) -> Tally:
        """The votes counted, through all that lies around them."""
        count: Count = self.count
        for wrapper in reversed(self.wrappers):
            count = partial(wrapper.count, count)
        return count(uplinks, ctx)
