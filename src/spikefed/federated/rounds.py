"""The round loop: who takes part, what is sent, what is accepted, what the server makes of it.

It knows no files. `experiment` writes what `Server.run_round` returns and saves what `state_dict` gives.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from spikefed.errors import PacketError
from spikefed.federated.contract import Context, Diagnostics, Message, Method, State
from spikefed.federated.exchange import Reply, Request, Transport
from spikefed.federated.participation import Participation
from spikefed.federated.plans import Expectations
from spikefed.training import Evaluation, mean_evaluation
from spikefed.wire import (
    ClassMeansDownlink,
    CountDownlink,
    LabelDownlink,
    ProbabilityDownlink,
    ServerLink,
    SpikeDownlink,
    WeightsDownlink,
)

DOWNLINKS: dict[str, type] = {
    made.kind: made
    for made in (
        SpikeDownlink, WeightsDownlink, LabelDownlink, CountDownlink, ProbabilityDownlink, ClassMeansDownlink,
    )
}  # fmt: skip


@dataclass
class RoundRecord:
    """What happened in one round.

    Attributes:
        round: 1-based number.
        participants: clients asked.
        uplinks: accepted messages by client.
        replies: all replies by client.
        dropped: ``{"client", "reason"}`` of everyone asked whose upload was not accepted.
        diagnostics: what the server step reported; None when nothing was accepted.
        downlink: the message that the next round sends.
        evaluation: the server's network on the test set.
        seconds: wall time by phase.
    """

    round: int
    participants: list[int]
    uplinks: dict[int, Message] = field(default_factory=dict)
    replies: dict[int, Reply] = field(default_factory=dict)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    diagnostics: Diagnostics | None = None
    downlink: Message | None = None
    evaluation: Evaluation | None = None
    seconds: dict[str, float] = field(default_factory=dict)


class Server:
    """The server's side of every round.

    Args:
        method: the method.
        context: makes the server's context of a round (0 before the first).
        link: the server's end of the wire, with the ledger.
        expectations: shapes of the exchanged messages.
        transport: carries requests and replies.
        participation: clients by round.
        evaluate: ``(network, round) -> Evaluation`` on the test set.
        deadline_s: seconds to wait for replies; None waits for all.
        quorum: accepted uploads without which a round changes nothing.
    """

    def __init__(
        self,
        method: Method,
        context: Callable[[int], Context],
        link: ServerLink,
        expectations: Expectations,
        transport: Transport,
        participation: Participation,
        evaluate: Callable[[nn.Module, int], Evaluation],
        deadline_s: float | None = None,
        quorum: int = 1,
    ) -> None:
        self._method = method
        self._context = context
        self._link = link
        self._expectations = expectations
        self._transport = transport
        self._participation = participation
        self._evaluate = evaluate
        self._deadline_s = deadline_s
        self._quorum = quorum
        self.round = 0
        self._state, self._downlink = method.init_server(context(0))

    def run_round(self) -> RoundRecord:
        """Run the next round; a round with fewer accepted uploads than the quorum leaves the server as it was."""
        round = self.round + 1
        record = RoundRecord(round, self._participation(round))
        clock = time.perf_counter
        times = [clock()]
        if self._downlink is not None and self._downlink.round != round:
            # Older than this round when the rounds since had no quorum. One message object for all clients: the link
            # codes it once, so that everybody gets the same bytes.
            self._downlink = dataclasses.replace(self._downlink, round=round)
        requests = [self._request(client, round) for client in record.participants]
        times.append(clock())
        replies = self._deliver(requests)
        times.append(clock())
        for client in record.participants:
            self._accept(client, replies.get(client), record)
        times.append(clock())
        if len(record.uplinks) >= max(1, self._quorum):
            self._state, self._downlink, record.diagnostics = self._method.server_round(
                self._state, record.uplinks, self._context(round)
            )
        times.append(clock())
        record.evaluation = self._measure(record)
        times.append(clock())
        record.downlink = self._downlink
        record.replies = replies
        client_wire = sum(reply.report.get("wire_seconds", 0.0) for reply in replies.values())
        record.seconds = {
            "clients": times[2] - times[1] - client_wire,
            "wire": times[1] - times[0] + times[3] - times[2] + client_wire,
            "server": times[4] - times[3],
            "evaluate": times[5] - times[4],
        }
        self.round = round
        return record

    def network(self) -> nn.Module:
        """The network that the run reports; shared memory, valid until the next step.

        A method without a server model gives the network of the first client that has one.
        """
        if not hasattr(self._method, "client_network"):
            return self._method.server_network(self._state, self._context(self.round))
        everyone = range(self._participation.clients)
        return next(self._client_networks(everyone), None) or self._context(0).networks.load()

    def _client_networks(self, clients: Iterable[int]) -> Iterator[nn.Module]:
        for client in clients:
            state = self._transport.client_state(client)  # type: ignore[attr-defined]
            if state is not None:
                yield self._method.client_network(state, self._context(self.round))  # type: ignore[attr-defined]

    def _measure(self, record: RoundRecord) -> Evaluation:
        """The server's network on the test set; the mean over the round's clients where the server has none."""
        if not hasattr(self._method, "client_network"):
            return self._evaluate(self.network(), record.round)
        networks = self._client_networks(record.participants)
        return mean_evaluation([self._evaluate(net, record.round) for net in networks])

    def _request(self, client: int, round: int, *, intra: bool = False) -> Request:
        if self._downlink is None:
            return Request(client, round, None)
        return Request(client, round, self._link.encode(self._downlink, client=client, intra=intra))

    def _deliver(self, requests: list[Request]) -> dict[int, Reply]:
        replies = {reply.client: reply for reply in self._transport.round(requests, self._deadline_s, self._quorum)}
        again = [self._request(c, requests[0].round, intra=True) for c, reply in replies.items() if reply.needs_intra]
        if again:
            replies |= {r.client: r for r in self._transport.round(again, self._deadline_s, self._quorum)}
        return replies

    def _accept(self, client: int, reply: Reply | None, record: RoundRecord) -> None:
        try:
            if reply is None:
                raise PacketError("reply", "none came before the deadline")
            if reply.error:
                raise PacketError("reply", reply.error)
            if self._expectations.up.kind is None:
                record.uplinks[client] = None
                return
            if not reply.uplink:
                raise PacketError("reply", "it carries no upload")
            plan = self._expectations.plan("up", record.round, client)
            try:
                record.uplinks[client] = self._link.decode(reply.uplink, plan)
            except PacketError as error:
                if error.field != "reference":
                    raise
                resend = self._transport.round([Request(client, record.round, None, "resend")], self._deadline_s, 1)
                if not resend or not resend[0].uplink:
                    raise
                record.uplinks[client] = self._link.decode(resend[0].uplink, plan)
        except PacketError as error:
            record.dropped.append({"client": client, "reason": str(error)})

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs of the server; `rounds` of a local transport come beside it."""
        return {
            "round": self.round,
            "state": self._state,
            "downlink": None if self._downlink is None else dict(vars(self._downlink)),
            "link": self._link.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.round = saved["round"]
        self._state: State = saved["state"]
        downlink = saved["downlink"]
        self._downlink = None if downlink is None else DOWNLINKS[str(self._expectations.down.kind)](**downlink)
        self._link.load_state_dict(saved["link"])
