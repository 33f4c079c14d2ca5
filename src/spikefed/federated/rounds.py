"""The round loop: who takes part, what is sent, what is accepted, what the server makes of it.

It knows no files. `experiment` writes what `Server.run_round` returns and saves what `state_dict` gives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.federated.answers import checked, checked_network
from spikefed.federated.collecting import Collector
from spikefed.federated.contract import Context, Message, Method, NetworkFactory, State
from spikefed.federated.divergence import GROWN, GROWTH, advice, growth, ruin
from spikefed.federated.exchange import Request, Transport
from spikefed.federated.participation import Participation
from spikefed.federated.plans import Expectations
from spikefed.federated.publicsource import ServerSource, on_rows
from spikefed.federated.randomness import shared
from spikefed.federated.record import RoundRecord, seconds_by_place
from spikefed.federated.secure import SecureServer
from spikefed.federated.trust import Trust
from spikefed.federated.watch import Watch
from spikefed.training import Evaluation, Mask, mean_evaluation
from spikefed.wire import (
    ClassMeansDownlink,
    CountDownlink,
    LabelDownlink,
    ProbabilityDownlink,
    SelectedWeightsDownlink,
    ServerLink,
    SpikeDownlink,
    WeightsDownlink,
)
from spikefed.wire.codec import find
from spikefed.wire.header import EVERYONE

DOWNLINKS: dict[str, type] = {
    made.kind: made
    for made in (
        SpikeDownlink, WeightsDownlink, LabelDownlink, CountDownlink, ProbabilityDownlink, ClassMeansDownlink,
        SelectedWeightsDownlink,
    )
}  # fmt: skip


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
        repeats: how often those missing are asked again while the quorum is.
        trust: who is set aside.
        secure: lets the server see the sum of the votes only; None for methods without.
        own_context: makes a client's context of a round, where clients have other networks than the server; else None.
        source: makes public rows anew during the run; None: they stay.

    Attributes:
        has_model: whether there is one network for all; over a fleet also where clients keep parts of it, which are
            then what they were at the start.
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
        repeats: int = 0,
        trust: Trust | None = None,
        secure: SecureServer | None = None,
        own_context: Callable[[int, int], Context] | None = None,
        source: ServerSource | None = None,
    ) -> None:
        self._method = method
        self._source = source
        self._plain_context = context
        self._link = link
        self._expectations = expectations
        self._transport = transport
        self._participation = participation
        self._evaluate = evaluate
        self._trust = trust or Trust(strikes=0)
        self._secure = secure
        self._own_context = own_context
        self._collector = Collector(
            self._request, link, expectations, transport, self._trust, deadline_s, quorum, repeats, source
        )
        self.round = 0
        first = context(0)
        away = not hasattr(transport, "client_state")  # what clients keep stays on their machines
        self.has_model = method.has_server_model(first.hyper, first.networks) or (away and method.server_model)
        with shared(first.generator):
            self._state, self._downlink = checked(method, "init_server", method.init_server(first))

    def run_round(self) -> RoundRecord:
        """Run the next round; a round with fewer accepted uploads than the quorum leaves the server as it was."""
        record = RoundRecord(self.round + 1, *self._participation.draw(self.round + 1))
        watch = Watch()
        # 1. Choose whom to ask, and write the requests.
        with watch("open"):
            requests = self._open(record)
        # 2. Ask, and ask those missing again while the quorum is; what comes is decoded and checked at once.
        with watch("collect"):
            self._collector(requests, record, watch)
        # 3. The method's server step, on what was accepted.
        with watch("merge"):
            self._close(record)
        # 4. Measure the network that came of it.
        with watch("measure"):
            self._enter_secure_traffic()
            record.evaluation = self._measure(record)
        record.downlink = self._downlink
        record.seconds = seconds_by_place(watch, record.replies.values())
        self.round = record.round
        return record

    def _open(self, record: RoundRecord) -> list[Request]:
        """A request for every trusted client of the round, with the downlink."""
        round = record.round
        if self._downlink is not None and self._downlink.round != round:
            # Older than this round when the rounds since had no quorum. One message object for all clients: the link
            # codes it once, so that everybody gets the same bytes. A method may have nothing to say again.
            self._downlink = self._method.repeated(self._downlink, round, self._context(round))
        if self._source is not None and self._source.begin(round, self._downlink, self._own_weights):
            self._state = self._method.renewed(self._state)
        asked = self._trusted(record)
        if self._secure is not None:
            asked = self._prepared(self._secure, asked, record)
        return [self._request(client, round, False) for client in asked]

    def _close(self, record: RoundRecord) -> None:
        """Merge what was accepted, if it is enough."""
        if len(record.uplinks) < max(1, self._collector.quorum):
            return
        # Sorted: a sum of floats must not depend on who answered first.
        uplinks = dict(sorted(record.uplinks.items()))
        if self._secure is not None:
            uplinks = self._opened(self._secure, uplinks, record)
        if uplinks:
            self._merge(uplinks, record)

    def _enter_secure_traffic(self) -> None:
        """The secure sum's own messages go into the ledger beside the others."""
        if self._secure is not None and self._link.ledger is not None:
            for entry in self._secure.records():
                self._link.ledger.add(entry)

    def _merge(self, uplinks: dict[int, Message], record: RoundRecord) -> None:
        """The method's server step; a server whose network it ruins stays as it was, and the record says so."""
        self._state = self._without_liars(record.round)
        ctx = self._context(record.round)
        try:
            with shared(ctx.generator):
                answer = self._method.server_round(self._state, uplinks, ctx)
                state, downlink, diagnostics = checked(self._method, "server_round", answer)
        except Exception:
            if self._ruined(ctx, record):  # a network full of NaN may fail anywhere
                return
            raise
        if self.has_model:
            self._method.server_network(state, ctx)
            if self._ruined(ctx, record):
                return
            grown = growth(ctx.networks)
            if grown > GROWTH:
                diagnostics = replace(diagnostics, values={**diagnostics.values, GROWN: grown})
        self._state = state
        self._downlink = downlink
        if self._source is not None:
            self._source.merged()
        record.diagnostics = diagnostics

    @staticmethod
    def _ruined(ctx: Context, record: RoundRecord) -> bool:
        found = ruin(ctx.networks)
        if found is not None:
            record.diverged = (
                f"the server's network diverged: {found}; it keeps that of the round before; "
                f"{advice(ctx.hyper, 'lr', 'distil_lr', 'server_lr')}"
            )
        return found is not None

    def _context(self, round: int) -> Context:
        """The server's context of a round, on the public rows of now."""
        ctx = self._plain_context(round)
        return ctx if self._source is None else on_rows(ctx, self._source.rows)

    def _own_weights(self) -> Mapping[str, Tensor]:
        return NetworkFactory.weights(self.network())

    def network(self) -> nn.Module:
        """The network that the run reports; shared memory, valid until the next step.

        A method without a server model gives the network of the first client that has one.
        """
        if self.has_model:
            net = self._method.server_network(self._state, self._context(self.round))
            return checked_network(self._method, net)
        everyone = range(self._participation.clients)
        return next(self._client_networks(everyone), None) or self._context(0).networks.load()

    def mask(self) -> Mask | None:
        """The mask of the network that the run reports, if it has one."""
        return self._method.server_mask(self._state)

    def whose(self) -> str:
        """Whom `network` belongs to: ``server``, or ``client N`` of a method without a server model."""
        if self.has_model:
            return "server"
        first = next(self.client_networks(), None)
        return "nobody" if first is None else f"client {first[0]}"

    def client_networks(self) -> Iterator[tuple[int, nn.Module]]:
        """Number and own network of every client in this process that has one; shared memory, valid until the next."""
        if hasattr(self._transport, "client_state"):
            yield from self._networks_of(range(self._participation.clients))

    def _client_networks(self, clients: Iterable[int]) -> Iterator[nn.Module]:
        return (net for _, net in self._networks_of(clients))

    def _networks_of(self, clients: Iterable[int]) -> Iterator[tuple[int, nn.Module]]:
        for client in clients:
            state = self._transport.client_state(client)  # type: ignore[attr-defined]
            own = self._context(self.round) if self._own_context is None else self._own_context(client, self.round)
            net = None if state is None else self._method.client_network(state, own)
            if net is not None:
                yield client, net

    def _measure(self, record: RoundRecord) -> Evaluation:
        """The server's network on the test set; the mean over the round's clients where the server has none."""
        if self.has_model:
            return self._evaluate(self.network(), record.round)
        networks = self._client_networks(record.participants)
        parts = [self._evaluate(net, record.round) for net in networks]
        return mean_evaluation(parts or [self._evaluate(self.network(), record.round)])

    def _request(self, client: int, round: int, intra: bool) -> Request:
        data = None
        if self._downlink is not None:
            if self._source is not None:
                self._link.near = self._source.near(told=True)
            data = self._link.encode(self._addressed(self._downlink, client, round), client=client, intra=intra)
        if self._source is not None:
            data = self._source.attach(client, round, data, self._link.ledger)
        return Request(client, round, data if self._secure is None else self._secure.attach(client, data))

    def _addressed(self, downlink: Message, client: int, round: int) -> Message:
        """What of the downlink this client gets."""
        if type(self._method).addressed is Method.addressed:
            return downlink
        own = self._method.addressed(self._state, downlink, client, self._context(round))
        if own is not downlink and find(own.kind, self._link.down).feedback:
            raise ConfigError(
                f"method {self._method.name} sends every client something else, and codec '{self._link.down}' has one "
                "state for all; use float32, fp16, qsgd or cosine as wire.weights_down"
            )
        return own

    def _prepared(self, secure: SecureServer, asked: list[int], record: RoundRecord) -> list[int]:
        """Those of the clients with whom keys and shares could be exchanged."""
        failed = secure.prepare(record.round, asked, self._transport)
        for client, reason in failed.items():
            record.drop(client, "secure", reason)
        return [client for client in asked if client not in failed]

    def _opened(self, secure: SecureServer, uplinks: dict[int, Message], record: RoundRecord) -> dict[int, Message]:
        """The sum of the masked votes, from nobody in particular; empty when it cannot be opened."""
        opened = secure.open(uplinks, self._transport)
        for client, reason in opened.dropped.items():
            record.drop(client, "secure", reason)
        return {} if opened.total is None else {EVERYONE: opened.total}

    def _without_liars(self, round: int) -> State:
        """The method's state, without what it remembers of clients that the next round will not ask."""
        gone = self._trust.set_aside(round + 1)
        return self._method.forget(self._state, gone) if gone else self._state

    def _trusted(self, record: RoundRecord) -> list[int]:
        """The clients to ask."""
        asked: list[int] = []
        for client in record.participants:
            if away := self._trust.away(client, record.round):
                record.drop(client, "set-aside", away)
            else:
                asked.append(client)
        return asked

    def state_dict(self, clients: Collection[int] | None = None) -> dict[str, Any]:
        """What a checkpoint needs of the server; what a local transport knows of its clients comes beside it.

        Args:
            clients: keep only these clients' links; default all.
        """
        kept = {
            "round": self.round,
            "state": self._state,
            "downlink": None if self._downlink is None else _plain(self._downlink),
            "link": self._link.state_dict(clients),
            "trust": self._trust.state_dict(),
        }
        return kept if self._source is None else {**kept, "source": self._source.state_dict()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.round = saved["round"]
        self._state: State = saved["state"]
        downlink = saved["downlink"]
        self._downlink = None if downlink is None else DOWNLINKS[str(self._expectations.down.kind)](**downlink)
        self._link.load_state_dict(saved["link"])
        if self._source is not None:
            self._source.load_state_dict(saved["source"])
        if "trust" in saved:  # absent in checkpoints of 0.1
            self._trust.load_state_dict(saved["trust"])


def _plain(message: Message) -> dict[str, Any]:
    """A message's fields as a checkpoint holds them: sets as sorted lists, which the message takes back as a set.

    A message that is no selection has no ``kept``, as in checkpoints of 0.1.
    """
    values = {each.name: getattr(message, each.name) for each in dataclasses.fields(message)}
    plain = {key: sorted(value) if isinstance(value, frozenset) else value for key, value in values.items()}
    return {key: value for key, value in plain.items() if key != "kept" or value is not None}
