"""Replies and uploads of a round: asking, asking again, what is accepted and what is dropped."""

from __future__ import annotations

from collections.abc import Callable

from spikefed.errors import PacketError
from spikefed.federated.contract import Message
from spikefed.federated.divergence import DIVERGED
from spikefed.federated.exchange import Reply, Request, Transport
from spikefed.federated.plans import Expectations
from spikefed.federated.publicsource import ServerSource
from spikefed.federated.record import RoundRecord
from spikefed.federated.trust import Trust
from spikefed.federated.watch import Watch
from spikefed.wire import ServerLink

Write = Callable[[int, int, bool], Request]
"""Client, round and whether it must do without references: the request for it."""


class Collector:
    """Carries a round's requests to the clients, and what they upload into the record.

    Args:
        write: makes the request for a client.
        link: the server's end of the wire.
        expectations: shapes of the exchanged messages.
        transport: carries requests and replies.
        trust: hears of what was accepted and what was refused.
        deadline_s: seconds to wait for replies; None waits for all.
        quorum: accepted uploads that are enough.
        repeats: how often those missing are asked again while the quorum is.
        source: knows the public rows of a round, where they change; None: they do not.
    """

    def __init__(
        self,
        write: Write,
        link: ServerLink,
        expectations: Expectations,
        transport: Transport,
        trust: Trust,
        deadline_s: float | None,
        quorum: int,
        repeats: int,
        source: ServerSource | None = None,
    ) -> None:
        self._source = source
        self._write = write
        self._link = link
        self._expectations = expectations
        self._transport = transport
        self._trust = trust
        self._deadline_s = deadline_s
        self.quorum = quorum
        self._repeats = repeats

    def __call__(self, requests: list[Request], record: RoundRecord, watch: Watch) -> None:
        """Replies and accepted uploads into the record; those who never answered are dropped as missing."""
        while True:
            came = self._deliver(requests, record)
            record.replies |= came
            with watch("accept"):
                for request in requests:
                    if request.client in came:
                        self._accept(request.client, came[request.client], record)
            # Nobody is asked twice for what was accepted; whoever was refused has had the chance.
            silent = [request.client for request in requests if request.client not in came]
            if not silent or len(record.uplinks) >= self.quorum or record.attempts > self._repeats:
                break
            record.attempts += 1
            requests = [self._write(client, record.round, False) for client in silent]  # the same bytes, counted again
        for client in silent:
            record.drop(client, "missing", "no reply came before the deadline")

    def _deliver(self, requests: list[Request], record: RoundRecord) -> dict[int, Reply]:
        replies = self._ask(requests, record)
        if self._source is not None:
            self._source.heard(replies)
            bare = [self._write(c, record.round, False) for c, reply in replies.items() if reply.needs_rows]
            replies |= self._ask(bare, record) if bare else {}
            self._source.heard(replies)
        again = [self._write(c, record.round, True) for c, reply in replies.items() if reply.needs_intra]
        return replies | self._ask(again, record) if again else replies

    def _ask(self, requests: list[Request], record: RoundRecord) -> dict[int, Reply]:
        """One call of the transport: the first reply of every client that was asked, to this round."""
        asked = {request.client for request in requests}
        replies: dict[int, Reply] = {}
        for reply in self._transport.round(requests, self._deadline_s, self.quorum):
            if reply.client not in asked:
                record.drop(reply.client, "stranger", "it was not asked")
            elif reply.round < record.round:
                record.drop(
                    reply.client, "late", f"a reply to round {reply.round} came in round {record.round}; ignored"
                )
            elif reply.round > record.round:
                record.drop(
                    reply.client, "round", f"a reply to round {reply.round} in round {record.round} was refused"
                )
                self._trust.refused(reply.client, record.round)
            elif reply.client in replies:
                record.drop(reply.client, "repeated", "a second reply to one request was refused")
                self._trust.refused(reply.client, record.round)
            else:
                replies[reply.client] = reply
        return replies

    def _accept(self, client: int, reply: Reply, record: RoundRecord) -> None:
        """Put a reply's upload into the record, or its fault among what was dropped."""
        if reply.error and not reply.refused:
            record.drop(client, "diverged" if reply.report.get(DIVERGED) else "error", reply.error)
            return
        try:
            record.uplinks[client] = self._uplink(client, reply, record.round)
        except PacketError as error:
            record.drop(client, error.field, str(error))
            if error.field != "reference":
                self._trust.refused(client, record.round)
            return
        if self._expectations.up.kind is not None:
            self._trust.accepted(client)

    def _uplink(self, client: int, reply: Reply, round: int) -> Message:
        """The upload that a reply carries. Raises PacketError."""
        if reply.refused:
            raise PacketError(reply.refused, reply.error or "it cannot be read")
        if self._expectations.up.kind is None:
            return None
        if not reply.uplink:
            raise PacketError("reply", "it carries no upload")
        expectations = self._expectations
        if self._source is not None:
            expectations = expectations.about(self._source.rows.id)
            self._link.near = self._source.near()
        plan = expectations.plan("up", round, client)
        try:
            return self._link.decode(reply.uplink, plan)
        except PacketError as error:
            if error.field != "reference":
                raise
            resend = self._transport.round([Request(client, round, None, "resend")], self._deadline_s, 1)
            if not resend or not resend[0].uplink:
                raise
            return self._link.decode(resend[0].uplink, plan)
