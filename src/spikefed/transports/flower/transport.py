"""The transport over Flower: one message a client a round, a deadline, a quorum, and nobody is believed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from flwr.app import Message
from flwr.common.constant import ErrorCode

from spikefed.errors import PacketError
from spikefed.federated.exchange import OnReply, Reply, Request
from spikefed.transports.flower.schema import pack_request, unpack_reply
from spikefed.transports.flower.session import Lost

ROUND = "train.round"
FAREWELL = "query.farewell"
STEP_FAILED = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
GRACE_S = 2.0
"""How much longer than the deadline a message lives, so that a straggler skips to the newest round."""
LOOK_EVERY_S = 0.2
MOST_ERRORS = 10
"""Errors that one client may answer a round with before it counts as failed; a node that went away gives one."""
ASK_AGAIN_S = 60.0
"""A client that is there and silent for so long is asked a second time, then after twice as long, and so on.

Flower can lose a reply (seen when a SuperNode answered a run that had ended meanwhile). A client answers what it has
answered before from memory, so asking too often costs a message and no work.
"""
NO_DEADLINE_TTL_S = 12 * 3600.0


class Grid(Protocol):
    """What the transport needs of a session."""

    generation: int

    def online(self) -> set[int]: ...
    def push(self, messages: Sequence[Message]) -> list[str | None]: ...
    def pull(self, message_ids: Sequence[str]) -> list[Message]: ...


@dataclass
class Roster:
    """The clients of a run, as the transport and each round's collection know them.

    Attributes:
        nodes: node id by client number.
        asked: ``message id -> (client, round)`` of requests of earlier rounds without a reply so far.
        absent: clients that were silent when they were asked last.
    """

    nodes: dict[int, int]
    asked: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    absent: set[int] = field(default_factory=set[int])


class FlowerTransport:
    """Carries requests to SuperNodes and replies back.

    Args:
        grid: the session.
        nodes: node id by client number; a client is known by its key alone.
        run: identity of the run, the same after a restart, so that a client knows a repeated round again.
        note: told in one sentence what went wrong and whom it concerns.
        public: what the server says of its public set; a client whose own differs answers with what differs.
    """

    def __init__(
        self,
        grid: Grid,
        nodes: Mapping[int, int],
        run: str,
        note: Callable[[str], None] = lambda text: None,
        public: str = "",
    ) -> None:
        self._grid = grid
        self._roster = Roster(dict(nodes))
        self.run = run
        self.note = note
        self._public = public
        self.on_reply: OnReply | None = None

    def round(
        self, requests: Sequence[Request], deadline_s: float | None = None, quorum: int | None = None
    ) -> list[Reply]:
        """See `spikefed.federated.Transport`. A client that is away is asked when it comes back, until the deadline.

        A client that was silent the last time and is still offline is not waited for. Replies to earlier rounds are
        handed on with their own round; the round loop ignores them by name.
        """
        return _Collection(self, self._grid, self._roster, requests, deadline_s, quorum).run()

    def farewell(self, seconds: float) -> None:
        """Tell the clients that are there that the run is over, and wait until they have heard it."""
        end = time.monotonic() + seconds
        requests = [Request(client, 0, None) for client in self._roster.nodes]
        online = self._grid.online()
        here = [r for r in requests if self._roster.nodes[r.client] in online]
        ids = [i for i in self._grid.push([self.message(r, FAREWELL, seconds) for r in here]) if i] if here else []
        while ids and time.monotonic() < end:
            heard = {reply.metadata.reply_to_message_id for reply in self._grid.pull(ids)}
            ids = [i for i in ids if i not in heard]
            time.sleep(LOOK_EVERY_S)

    def message(self, request: Request, kind: str, ttl: float) -> Message:
        """A request as a Flower message."""
        content = pack_request(request, self.run, self._public)
        return Message(content, self._roster.nodes[request.client], kind, ttl=ttl, group_id=str(request.round))

    def state_dict(self, clients: Sequence[int] | None = None) -> dict[str, Any]:
        """Clients keep their own state; a checkpoint of the server holds none of it."""
        return {"run": self.run}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.run = saved["run"]


class _Collection:
    """One call of `FlowerTransport.round`.

    Args:
        transport: makes messages and is told what goes wrong.
        grid: the session.
        roster: the clients; what this round leaves open is written there.
        requests, deadline_s, quorum: of the call.
    """

    def __init__(
        self,
        transport: FlowerTransport,
        grid: Grid,
        roster: Roster,
        requests: Sequence[Request],
        deadline_s: float | None,
        quorum: int | None,
    ) -> None:
        self._transport = transport
        self._grid = grid
        self._roster = roster
        self._requests = {request.client: request for request in requests}
        self._quorum = len(requests) if quorum is None else quorum
        self._deadline_s = deadline_s
        self._replies: list[Reply] = []
        self._answered: set[int] = set()
        self._ids: dict[str, int] = {}  # message ids of this call -> client
        self._not_before: dict[int, float] = {}  # when a client may be asked, or asked again
        self._errors: Counter[int] = Counter()
        self._patience: dict[int, float] = dict.fromkeys(self._requests, ASK_AGAIN_S)
        self._generation = grid.generation
        self._online: set[int] = set()

    def run(self) -> list[Reply]:
        start = time.monotonic()
        while True:
            late = self._deadline_s is not None and time.monotonic() - start >= self._deadline_s
            try:
                self._online = self._grid.online()
                if not late:
                    self._ask(start)
                self._collect()
            except Lost:
                continue  # ask again in the new Flower run; clients answer from memory what they have answered before
            waiting = self._waited_for()
            if not waiting or late:
                break
            time.sleep(LOOK_EVERY_S)
        silent = set(self._requests) - self._answered
        self._roster.absent = (self._roster.absent - set(self._requests)) | silent
        round = next(iter(self._requests.values())).round if self._requests else 0
        self._roster.asked |= {i: (client, round) for i, client in self._ids.items() if client in silent}
        return self._replies

    def _waited_for(self) -> set[int]:
        """Clients whose reply is missing and worth waiting for."""
        missing = set(self._requests) - self._answered
        enough = len(self._answered) >= self._quorum
        return {
            c for c in missing if not enough or c not in self._roster.absent or self._roster.nodes[c] in self._online
        }

    def _ask(self, start: float) -> None:
        if self._generation != self._grid.generation:
            self._generation = self._grid.generation
            self._ids.clear()
            self._roster.asked.clear()
            self._not_before.clear()
        now = time.monotonic()
        waiting = set(self._ids.values())
        due = [
            request
            for client, request in self._requests.items()
            if client not in self._answered
            and self._roster.nodes[client] in self._online
            and now >= self._not_before.get(client, 0)
        ]
        if not due:
            return
        left = NO_DEADLINE_TTL_S if self._deadline_s is None else max(1.0, start + self._deadline_s - now)
        ids = self._grid.push([self._transport.message(request, ROUND, left + GRACE_S) for request in due])
        for request, message_id in zip(due, ids, strict=True):
            if message_id is None:
                self._not_before[request.client] = now + 1.0
            else:
                self._ids[message_id] = request.client
                self._patience[request.client] *= 2 if request.client in waiting else 1
                self._not_before[request.client] = now + self._patience[request.client]

    def _collect(self) -> None:
        for message in self._grid.pull([*self._ids, *self._roster.asked]):
            message_id = message.metadata.reply_to_message_id
            if message_id in self._roster.asked:
                client, round = self._roster.asked.pop(message_id)
                if not message.has_error():
                    self._replies.append(Reply(client, round, error="it came after its round had ended"))
                continue
            client = self._ids.pop(message_id, None)
            if client is None or client in self._answered:
                continue
            error = message.error if message.has_error() else None
            self._errors[client] += error is not None
            # The node went away, or its message did: ask again. But a client may claim any error, and without a limit
            # it would hold a round that has no deadline for ever.
            if error is not None and error.code != STEP_FAILED and self._errors[client] < MOST_ERRORS:
                self._transport.note(f"client {client}: {(error.reason or '')[:200]}; asked again when it is there")
                if client not in self._ids.values():
                    self._not_before[client] = time.monotonic() + 1.0
                continue
            self._answered.add(client)
            self._replies.append(self._read(message, client))
            if self._transport.on_reply is not None:
                self._transport.on_reply(self._requests[client].round, len(self._answered), len(self._requests))

    def _read(self, message: Message, client: int) -> Reply:
        round = self._requests[client].round
        if message.has_error():
            return Reply(client, round, error=f"its step failed: {(message.error.reason or '')[:300]}")
        try:
            return unpack_reply(message.content, self._transport.run, client)
        except PacketError as error:
            return Reply(client, round, refused=error.field, error=str(error))
