"""The two ends of secure aggregation in the round loop: sessions of `protocol`, carried by requests and replies."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from spikefed.errors import PacketError
from spikefed.federated.exchange import Reply, Request, Transport
from spikefed.federated.secure import Opened, Votes, VoteSum
from spikefed.privacy.protocol import ClientSession, ServerSession
from spikefed.wire import Message, Record
from spikefed.wire.masked import MaskedVotes, MaskedVoteUplink

_LENGTH = struct.Struct("<IB")
NO_REPLY = "no answer came"


class SecureVotes:
    """A client's end; one session at a time, the newest round's. Nothing of it is ever saved.

    Args:
        client: its number.
        context: the public set id.
        levels: w, the largest vote.
        random: gives random bytes; the operating system's.
    """

    def __init__(self, client: int, context: bytes, levels: int, random: Callable[[int], bytes] = os.urandom) -> None:
        self.client = client
        self._context = context
        self._levels = levels
        self._random = random
        self._session: ClientSession | None = None
        self._inbox = b""
        self.seconds = 0.0

    def handle(self, request: Request) -> Reply:
        """Answer keys, shares and unmask requests; a refusal becomes a reply with ``error``."""
        started = time.perf_counter()
        data = request.downlink or b""
        try:
            if request.action == "keys":
                self._session = ClientSession(self.client, request.round, self._context, self._levels, self._random)
                return Reply(self.client, request.round, self._session.advertise())
            session = self._of(request.round)
            answer = session.share(data) if request.action == "shares" else session.reveal(data)
            return Reply(self.client, request.round, answer)
        except PacketError as error:
            return Reply(self.client, request.round, error=str(error))
        finally:
            self.seconds += time.perf_counter() - started

    def _of(self, round: int) -> ClientSession:
        if self._session is None or self._session.round != round:
            raise PacketError("round", f"client {self.client} has no keys of round {round}; it joins the next round")
        return self._session

    def split(self, request: Request) -> Request:
        """Take the inbox of shares off the downlink. Raises PacketError."""
        data = request.downlink or b""
        if len(data) < _LENGTH.size:
            raise PacketError("downlink", "it lacks the shares of the other clients")
        size, has_downlink = _LENGTH.unpack_from(data)
        if len(data) < _LENGTH.size + size:
            raise PacketError("downlink", "it is cut within the shares of the other clients")
        self._of(request.round)
        self._inbox = data[_LENGTH.size : _LENGTH.size + size]
        return replace(request, downlink=data[_LENGTH.size + size :] if has_downlink else None)

    def mask(self, votes: Votes) -> Message:
        """The votes and, behind them, their weight, under this round's masks. Raises PacketError."""
        started = time.perf_counter()
        session = self._of(votes.round)
        plain = np.append(votes.votes.reshape(-1).astype(np.uint32), np.uint32(votes.weight))
        values = session.mask(self._inbox, plain)
        self.seconds += time.perf_counter() - started
        shape = votes.votes.shape
        return MaskedVoteUplink(
            votes.round, votes.client, MaskedVotes(values, session.bits), shape, votes.public_set_id
        )


class SecureSum:
    """The server's end.

    Args:
        context, levels: as for clients.
        deadline_s: seconds to wait in each of the small exchanges; None waits for all.
    """

    def __init__(self, context: bytes, levels: int, deadline_s: float | None = None) -> None:
        self._context = context
        self._levels = levels
        self._deadline_s = deadline_s
        self._session = ServerSession(0, context, levels)
        self._inboxes: dict[int, bytes] = {}
        self._records: list[Record] = []

    def prepare(self, round: int, clients: Sequence[int], transport: Transport) -> dict[int, str]:
        """Stages keys and shares. Returns who fell out, and why."""
        self._session = session = ServerSession(round, self._context, self._levels)
        failed = self._ask(transport, "keys", dict.fromkeys(clients), session.read_keys)
        if len(session.roster) < 2:
            return dict.fromkeys(clients, "a sum of fewer than two votes hides nothing") | failed
        failed |= self._ask(transport, "shares", session.rosters(), session.read_shares)
        self._inboxes = session.inboxes()
        return failed

    def attach(self, client: int, downlink: bytes | None) -> bytes:
        """The sealed shares for a client, then its downlink."""
        inbox = self._inboxes[client]
        self._record("down", client, "secure-inbox", _LENGTH.size + len(inbox))
        return _LENGTH.pack(len(inbox), downlink is not None) + inbox + (downlink or b"")

    def open(self, uplinks: Mapping[int, Any], transport: Transport) -> Opened:
        """Stage unmask: the sum, or for every client why there is none."""
        session = self._session
        wrong = {c: f"votes of {u.votes.bits} bits" for c, u in uplinks.items() if u.votes.bits != session.bits}
        masked = {c: u.votes.values for c, u in uplinks.items() if c not in wrong}
        reveals: dict[int, Mapping[int, bytes]] = {}

        def read(client: int, data: bytes) -> None:
            reveals[client] = session.read_reveal(client, data)

        try:
            self._ask(transport, "unmask", session.survivors(masked), read)
            total = session.open(masked, reveals)
            shape = next(iter(uplinks.values())).shape
            return Opened(self._checked(total, shape, tuple(sorted(masked))), wrong)
        except PacketError as error:
            return Opened(None, dict.fromkeys(uplinks, str(error)) | wrong)

    def _checked(self, total: np.ndarray, shape: tuple[int, ...], clients: tuple[int, ...]) -> VoteSum:
        weight = int(total[-1])
        if not len(clients) <= weight <= len(clients) * self._levels:
            raise PacketError("weight", f"the sum of weights {weight} is impossible for {len(clients)} clients")
        votes = total[:-1].reshape(shape)
        outside = int(np.count_nonzero(votes > weight))
        return VoteSum(np.minimum(votes, weight), weight, clients, outside)

    def _ask(
        self,
        transport: Transport,
        action: str,
        messages: Mapping[int, bytes | None],
        read: Callable[[int, bytes], None],
    ) -> dict[int, str]:
        """One small exchange with the clients of ``messages``; those whose answer was not accepted, and why."""
        round = self._session.round
        requests = [Request(client, round, data, action) for client, data in messages.items()]  # type: ignore[arg-type]
        for client, data in messages.items():
            if data is not None:
                self._record("down", client, f"secure-{action}", len(data))
        came = transport.round(requests, self._deadline_s, None)
        replies = {reply.client: reply for reply in came if reply.round == round}
        failed = {}
        for client in messages:
            reply = replies.get(client)
            if reply is None or not reply.uplink:
                failed[client] = (reply.error if reply else None) or NO_REPLY
                continue
            self._record("up", client, f"secure-{action}", len(reply.uplink))
            try:
                read(client, reply.uplink)
            except PacketError as error:
                failed[client] = str(error)
        return failed

    def _record(self, direction: str, client: int, kind: str, size: int) -> None:
        round = self._session.round
        self._records.append(Record(round, direction, client, kind, "none", 8 * size, size, 0, size, size))

    def records(self) -> list[Record]:
        """What was sent and received since the last call."""
        records = self._records
        self._records = []
        return records
