"""A federation whose clients compute on chips of their own: shared weights, unlike errors.

A client on its chip trains, validates and predicts there: forward passes and input gradients are the chip's, weights
learn straight through and travel as exact numbers. What the server computes is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spikefed.federated.contract import ClientContext, ClientReport, Message, Method, State
from spikefed.federated.wrapped import Wrapped
from spikefed.hardware.crossbar import ChipProfile, OnChip


@dataclass(frozen=True)
class Fleet:
    """The chips of all clients.

    Attributes:
        profiles: of client 0, 1, ..., repeated in turn where there are fewer than clients.
        seed: of client 0's chip; client k has the chip of this seed plus k.
        age_s: seconds from each writing to when the chip computes.
        rewrite: training steps after which a chip is written anew.
    """

    profiles: Sequence[ChipProfile]
    seed: int = 0
    age_s: float = 0.0
    rewrite: int = 20

    def profile(self, client: int) -> ChipProfile:
        """Of one client's chip."""
        return self.profiles[client % len(self.profiles)]


class OnChips(Wrapped):
    """A method whose client steps run on the client's chip; everything else is the method's own.

    Args:
        method: what is run.
        fleet: the chips.
    """

    def __init__(self, method: Method, fleet: Fleet) -> None:
        super().__init__(method)
        self._fleet = fleet

    def client_round(
        self, state: State, downlink: Message | None, ctx: ClientContext
    ) -> tuple[State, Message | None, ClientReport]:
        """The method's own, on the chip of this client."""
        fleet = self._fleet
        chip = OnChip(ctx.networks.network, fleet.profile(ctx.client), fleet.seed + ctx.client, rewrite=fleet.rewrite)
        chip.age(fleet.age_s)
        with chip.running(ctx.generator):
            return self._method.client_round(state, downlink, ctx)
