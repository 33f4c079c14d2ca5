"""A client's side of a round: bytes in, bytes out, the same in one process and on a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from spikefed.errors import PacketError
from spikefed.federated.answers import checked
from spikefed.federated.contract import ClientContext, ClientReport, Message, Method, State
from spikefed.federated.divergence import DIVERGED, GROWN, GROWTH, advice, growth, is_finite, ruin
from spikefed.federated.exchange import Reply, Request
from spikefed.federated.plans import Expectations
from spikefed.federated.publicsource import ClientSource, MissingRows, on_rows
from spikefed.federated.randomness import shared
from spikefed.federated.secure import SECURE_ACTIONS, SecureClient, Votes
from spikefed.federated.takehome import TakeHome
from spikefed.federated.watch import Watch
from spikefed.wire import ClientLink
from spikefed.wire.publicrows import RowsNote


class _Refused(Exception):
    """The round ends here for this client, with this reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.error)
        self.reply = reply


class ClientWorker:
    """Runs the client steps of a method and keeps what the client remembers between rounds.

    Args:
        client: client number.
        method: the method.
        context: makes the context of a round (0 before the first).
        link: the client's end of the wire.
        expectations: shapes of the exchanged messages.
        secure: masks the votes of a method that has them summed; None for the others.
        take_home: ``(network, round) -> TakeHome`` measures the client's own network after every step; None: nothing.
        keep: ``(network, round)`` is given the same network before that; None: nobody asks for it.
        source: knows the public rows of each round, where they change during a run; None: they do not.
    """

    def __init__(
        self,
        client: int,
        method: Method,
        context: Callable[[int, int], ClientContext],
        link: ClientLink,
        expectations: Expectations,
        secure: SecureClient | None = None,
        take_home: Callable[[nn.Module, int], TakeHome] | None = None,
        keep: Callable[[nn.Module, int], None] | None = None,
        source: ClientSource | None = None,
    ) -> None:
        self.client = client
        self._method = method
        self._context = context
        self._link = link
        self._expectations = expectations
        self._secure = secure
        self._take_home = take_home
        self._keep = keep
        self._source = source
        self._state: State | None = None
        self._last: Message | None = None

    def handle(self, request: Request) -> Reply:
        """Answer one request. A downlink that is refused becomes a reply with ``error`` or ``needs_intra``."""
        if request.action == "resend":
            return self._resent(request)
        if request.action in SECURE_ACTIONS:
            if self._secure is None:
                return Reply(self.client, request.round, error="this experiment has no secure aggregation")
            return self._secure.handle(request)
        try:
            return self._round(request)
        except _Refused as refused:
            return refused.reply

    def _resent(self, request: Request) -> Reply:
        """The upload of the round once more, for a server that lacks what the first one referred to."""
        if self._last is None or self._last.round != request.round:
            reason = f"client {self.client} has no upload of that round to resend"
            return Reply(self.client, request.round, error=reason)
        return Reply(self.client, request.round, self._link.encode(self._last, intra=True))

    def _round(self, request: Request) -> Reply:
        """Receive, train, send; then keep and measure the client's own network, where that is asked for."""
        watch = Watch()
        with watch("wire"):
            downlink, note = self._received(request)
        with watch("training"):
            context = self._on_public_rows(self._context(self.client, request.round), note, downlink)
            uplink, report = self._trained(downlink, context)
        with watch("wire"):
            data = self._sent(uplink, request.round)
        values = report.values | {"seconds": watch["training"], "wire_seconds": watch["wire"]}
        if self._keep is not None:  # before it is measured: batch statistics may move then
            self._keep(self._own(context), request.round)
        if self._take_home is None:
            return Reply(self.client, request.round, data, values)
        with watch("take home"):
            taken = self._take_home(self._own(context), request.round)
        return Reply(self.client, request.round, data, values | {"take_home_seconds": watch["take home"]}, taken=taken)

    def _own(self, context: ClientContext) -> nn.Module:
        """The network that the step of this round left the client; valid until the next step."""
        assert self._state is not None
        return self._method.taken_home(self._state, context)

    def _received(self, request: Request) -> tuple[Message | None, RowsNote | None]:
        """The downlink, decoded, and what is said of public rows; None where the server says nothing."""
        note = None
        expectations = self._expectations
        try:
            if self._secure is not None:
                request = self._secure.split(request)
            if self._source is not None:
                request, note = self._source.open(request)
            if request.downlink is None:
                return None, note
            if self._source is not None and note is not None:
                told = self._source.told(note)
                expectations = expectations.about(told.id)
                self._link.near = self._source.near(told)
            plan = expectations.plan("down", request.round, self.client)
            return self._link.decode(request.downlink, plan), note
        except MissingRows as error:
            raise _Refused(Reply(self.client, request.round, needs_rows=True)) from error
        except PacketError as error:
            if error.field == "reference":
                raise _Refused(Reply(self.client, request.round, needs_intra=True)) from error
            raise _Refused(Reply(self.client, request.round, error=str(error))) from error

    def _on_public_rows(self, context: ClientContext, note: RowsNote | None, downlink: Message | None) -> ClientContext:
        """The context on this round's public rows, where they change."""
        if self._source is None or note is None:
            return context
        try:
            rows = self._source.renew(note, downlink)
        except MissingRows as error:
            raise _Refused(Reply(self.client, context.round, needs_rows=True)) from error
        told = self._source.told(note) if downlink is not None else None
        self._link.near = self._source.near(rows)
        return on_rows(context, rows, told)

    def _trained(self, downlink: Message | None, context: ClientContext) -> tuple[Message | Votes | None, ClientReport]:
        """The method's step of this client; its state moves on unless the step ruined the network."""
        if self._state is None:
            first = self._context(self.client, 0)
            with shared(first.generator):
                self._state = self._method.init_client(first)
        try:
            with shared(context.generator):
                answer = self._method.client_round(self._state, downlink, context)
                state, uplink, report = checked(self._method, "client_round", answer)
        except Exception:
            # A network full of NaN may fail anywhere: a message refuses them, a sort has no order for them.
            if ruined := self._ruined(context):
                raise _Refused(ruined) from None
            raise
        if ruined := self._ruined(context):
            self._state = state if is_finite(state) else self._state
            raise _Refused(ruined)
        self._state = state
        return uplink, self._with_growth(_with_epsilon(report, context), context)

    def _sent(self, uplink: Message | Votes | None, round: int) -> bytes:
        """The upload's bytes, masked where only sums may be seen; kept until the round is over."""
        if isinstance(uplink, Votes):
            assert self._secure is not None, "votes leave a client masked or not at all"
            try:
                uplink = self._secure.mask(uplink)
            except PacketError as error:
                raise _Refused(Reply(self.client, round, error=str(error))) from error
        self._last = uplink
        return b"" if uplink is None else self._link.encode(uplink)

    def _ruined(self, context: ClientContext) -> Reply | None:
        """The reply of a client whose training diverged; None where its network holds numbers."""
        found = ruin(context.networks)
        if found is None:
            return None
        self._last = None
        reason = (
            f"its training diverged: {found}; it is left out of this round and goes on from "
            f"what it had before; {advice(context.hyper, 'lr', 'distil_lr')}"
        )
        return Reply(self.client, context.round, report={DIVERGED: 1.0}, error=reason)

    @staticmethod
    def _with_growth(report: ClientReport, context: ClientContext) -> ClientReport:
        """The report, and how far the weights grew where that is beyond measure."""
        grown = growth(context.networks)
        return ClientReport({**report.values, GROWN: grown}) if grown > GROWTH else report

    def forget_upload(self) -> None:
        """The round is over: nobody will ask for its upload again."""
        self._last = None

    @property
    def state(self) -> State | None:
        """The method's state of this client; None before its first round."""
        return self._state

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs of this client."""
        kept = {"started": self._state is not None, "state": self._state or {}, "link": self._link.state_dict()}
        return kept if self._source is None else {**kept, "source": self._source.state_dict()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._state = saved["state"] if saved["started"] else None
        self._link.load_state_dict(saved["link"])
        if self._source is not None:
            self._source.load_state_dict(saved["source"])
        self._last = None


def _with_epsilon(report: ClientReport, context: ClientContext) -> ClientReport:
    """The report, and what the client's training has spent where it is private."""
    privacy = getattr(context.hyper, "privacy", None)
    epsilon = None if privacy is None else privacy.epsilon(context)
    return report if epsilon is None else ClientReport({**report.values, "epsilon": epsilon})
