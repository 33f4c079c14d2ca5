"""Public rows that nobody has: images made from a network of the federation, anew every few rounds.

=========  =============================================================================================================
``sent``   the server makes them from its own network and sends them with the downlink
``seeds``  every participant makes them for itself, and no image travels. The network they are made from must be one
           that all of them can compute: the *echo*, which begins with the common initial weights and is taught, by the
           seed's draws, what the server sent about the rows before. No weights travel either.
=========  =============================================================================================================

Before the server has sent anything there is no such network: the run begins with the public set that the experiment
names, noise by default. A downlink speaks of the rows on which the uploads that it answers were made (``told``), an
upload of the rows of its own round.

**Float-safe.** Two machines may round differently, and whoever follows gradients for a few hundred steps may end at
other pixels. So nobody trusts the arithmetic: echo and synthesis run on one thread, pixels are rounded to bytes, and
each participant compares the SHA-256 of its bytes with the server's. Who has others, or has missed a renewal, asks for
the rows and is sent them; what that costs stands in the ledger.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from spikefed.data import SynthesisPlan, noise, public_set_id, synthesise
from spikefed.errors import PacketError
from spikefed.federated.contract import Context, Message, Method
from spikefed.federated.exchange import Reply, Request
from spikefed.federated.randomness import derive_seed, shared
from spikefed.wire import Ledger, Record
from spikefed.wire.publicrows import RowsNote, attach, split

Kind = Literal["set", "sent", "seeds"]
Tensors = Mapping[str, Tensor]
C = TypeVar("C", bound=Context)

SYNTHESIS = 1
"""Number of the seed of targets and noise among those that a renewal draws."""


class MissingRows(PacketError):
    """This end has not the rows that a round is about, and cannot make them."""

    def __init__(self) -> None:
        super().__init__("public rows", "they are not here; ask for them")


@dataclass(frozen=True, eq=False)
class PublicRows:
    """Rows and their name.

    Attributes:
        images: ``[P, C, H, W]``.
        id: SHA-256 of the rows in their order (`spikefed.data.public_set_id`).
    """

    images: UInt8[Tensor, "P C H W"]
    id: bytes

    @staticmethod
    def of(images: UInt8[Tensor, "P C H W"]) -> PublicRows:
        """Rows under their own hash."""
        return PublicRows(images, public_set_id(images))


@dataclass(frozen=True)
class SourcePlan:
    """Where public rows come from.

    Attributes:
        kind: ``sent`` or ``seeds``.
        every: rounds after which they are made anew.
        synthesis: how.
        classes: outputs of the network.
    """

    kind: Kind
    every: int
    synthesis: SynthesisPlan
    classes: int

    def due(self, round: int) -> bool:
        """Whether rows are made anew before this round's requests are written."""
        return round > 1 and (round - 1) % self.every == 0


class Maker:
    """What both ends compute alike.

    Args:
        method: whose downlinks teach the echo.
        context: context of a round with the *server's* kind of network, its seed and draws for this purpose.
        plan: how.
        first: the rows of the run's beginning.
        near: gives alike rows of a set for codecs that use them (`spikefed.wire.nearest_rows`), or None.
    """

    def __init__(
        self,
        method: Method,
        context: Callable[[int], Context],
        plan: SourcePlan,
        first: PublicRows,
        near: Callable[[UInt8[Tensor, "P C H W"]], Any] | None = None,
    ) -> None:
        self.plan = plan
        self.first = first
        self._method = method
        self._context = context
        self._near = near
        self._made: dict[bytes, Any] = {}

    def start(self) -> dict[str, Tensor]:
        """The echo before anything was said: the common initial weights."""
        return self._context(0).networks.initial()

    def echo(self, weights: Tensors, downlink: Message, told: PublicRows, round: int) -> dict[str, Tensor]:
        """The echo after a downlink about ``told``. Shapes are the network's.

        Args:
            weights: of the echo before.
            downlink: as clients decode it.
            told: rows that it speaks of.
            round: of the downlink.
        """
        ctx = on_rows(self._context(round), told)

        def taught() -> dict[str, Tensor]:
            with one_thread(), shared(ctx.generator):
                return self._method.echo(weights, downlink, ctx)

        said = np.ascontiguousarray(downlink.content)
        key = hashlib.sha256(f"{said.dtype}{said.shape}".encode() + said.tobytes()).digest()
        return self._once(b"echo" + _digest(weights) + key + told.id + round.to_bytes(4, "little"), taught)

    def rows(self, weights: Tensors, round: int) -> PublicRows:
        """New rows from a network with these weights. Shapes of tensors are the network's."""
        ctx = self._context(round)
        seed = derive_seed(ctx.seed, SYNTHESIS, round)
        channels, height, width = self.first.images.shape[1:]

        def made() -> PublicRows:
            if self.plan.synthesis.steps == 0:
                return PublicRows.of(noise(len(self.first.images), (channels, height, width), seed))
            net = ctx.networks.load(weights)
            with one_thread(), shared(ctx.generator):
                found = synthesise(
                    net,
                    self.plan.synthesis,
                    shape=(channels, height, width),
                    classes=self.plan.classes,
                    preprocess=ctx.preprocess,
                    seed=seed,
                )
            return PublicRows.of(found.images)

        return self._once(b"rows" + _digest(weights) + round.to_bytes(4, "little"), made)

    def near(self, rows: PublicRows) -> Any:
        """Side information of codecs about these rows, or None."""
        if self._near is None:
            return None
        near = self._near
        return self._once(b"near" + rows.id, lambda: near(rows.images))

    def _once(self, key: bytes, make: Callable[[], Any]) -> Any:
        """The same inputs give the same result on one machine, so clients of one process share it."""
        if key not in self._made:
            value = make()
            while len(self._made) >= KEPT:
                del self._made[next(iter(self._made))]
            self._made[key] = value
        return self._made[key]


KEPT = 6
"""Results that are remembered: of each sort this renewal's and the last one's."""


class ServerSource:
    """The server's end.

    Args:
        maker: what both ends compute alike.
        decoded: a downlink as clients decode it.
        everyone: clients use the rows too; otherwise nothing is said of them.
    """

    def __init__(self, maker: Maker, decoded: Callable[[Message], Message], everyone: bool = True) -> None:
        self._maker = maker
        self._decoded = decoded
        self._everyone = everyone
        self._echo: Tensors | None = None
        self._holds: dict[int, bytes] = {}
        self._asks: frozenset[int] = frozenset()
        self.rows = maker.first
        self.told = maker.first
        self.renewal = 0

    def begin(self, round: int, downlink: Message | None, own: Callable[[], Tensors]) -> bool:
        """Make rows anew if the round is one for that; whether it was.

        Args:
            round: that begins.
            downlink: that will be sent; None while the server has said nothing, and rows stay.
            own: gives the server's own weights.
        """
        self._asks = frozenset()
        if downlink is None or not self._maker.plan.due(round):
            return False
        if self._maker.plan.kind == "seeds" and self._everyone:
            before = self._maker.start() if self._echo is None else self._echo
            self._echo = self._maker.echo(before, self._decoded(downlink), self.told, round)
            weights = self._echo
        else:
            weights = own()
        self.rows = self._maker.rows(weights, round)
        self.renewal += 1
        return True

    def merged(self) -> None:
        """The next downlink speaks of this round's rows."""
        self.told = self.rows

    def attach(self, client: int, round: int, downlink: bytes | None, ledger: Ledger | None) -> bytes | None:
        """The downlink with a note before it, and with the rows where the client lacks or has asked for them.

        Args:
            client: who gets it.
            round: its number.
            downlink: encoded, or None.
            ledger: gets a line of what the note weighs.
        """
        if not self._everyone:
            return downlink
        whole = client in self._asks
        lacks = self._holds.get(client, self._maker.first.id) != self.rows.id
        send = whole or (self._maker.plan.kind == "sent" and lacks)
        before = whole and downlink is not None and self.told.id != self.rows.id
        note = RowsNote(
            round,
            self.renewal,
            self.rows.id,
            self.told.id,
            self.rows.images.numpy() if send else None,
            self.told.images.numpy() if before else None,
        )
        data = attach(note, downlink)
        size = len(data) - len(downlink or b"")
        plain = (int(send) + int(before)) * self.rows.images.numel()
        if ledger is not None:
            ledger.add(Record(round, "down", client, "public-rows", "zstd", 8 * size, size, 0, plain, plain))
        return data

    def heard(self, replies: Mapping[int, Reply]) -> None:
        """Who answered so has the round's rows, and who asks for them will be sent them."""
        self._holds |= {c: self.rows.id for c, reply in replies.items() if reply.uplink or reply.needs_intra}
        self._asks |= {c for c, reply in replies.items() if reply.needs_rows}

    def near(self, told: bool = False) -> Any:
        """Side information about this round's rows, or those that the downlink speaks of."""
        return self._maker.near(self.told if told else self.rows)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs of this end."""
        return {
            "rows": self.rows.images,
            "told": self.told.images,
            "renewal": self.renewal,
            "echo": None if self._echo is None else dict(self._echo),
            "holds": {str(client): held for client, held in self._holds.items()},
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.rows = PublicRows.of(saved["rows"])
        self.told = PublicRows.of(saved["told"])
        self.renewal = saved["renewal"]
        self._echo = saved["echo"]
        self._holds = {int(client): held for client, held in saved["holds"].items()}


class ClientSource:
    """A client's end.

    Args:
        maker: what both ends compute alike.
    """

    def __init__(self, maker: Maker) -> None:
        self._maker = maker
        self._sets: dict[bytes, PublicRows] = {maker.first.id: maker.first}
        self._echo: Tensors | None = None
        self._renewal = 0
        self.made = False

    def open(self, request: Request) -> tuple[Request, RowsNote]:
        """Take the note off a request, and keep the rows that came with it. Raises PacketError."""
        count, channels, height, width = self._maker.first.images.shape
        note, downlink = split(request.downlink or b"", (count, channels, height, width), request.round)
        for images, name in ((note.images, note.rows), (note.before, note.told)):
            if images is not None:
                came = PublicRows.of(torch.as_tensor(images))
                if came.id != name:
                    raise PacketError("public rows", "they are not those whose hash came with them")
                self._sets[name] = came
        return replace(request, downlink=downlink), note

    def told(self, note: RowsNote) -> PublicRows:
        """Rows that the downlink speaks of. Raises MissingRows."""
        if note.told not in self._sets:
            raise MissingRows
        return self._sets[note.told]

    def renew(self, note: RowsNote, downlink: Message | None) -> PublicRows:
        """This round's rows: known, sent, or made here and found to be the server's.

        Raises:
            MissingRows: none of these.
        """
        self.made = False
        follows = self._maker.plan.kind == "seeds" and note.renewal == self._renewal + 1 and downlink is not None
        if follows:
            before = self._maker.start() if self._echo is None else self._echo
            self._echo = self._maker.echo(before, downlink, self.told(note), note.round)
            self._renewal = note.renewal
            if note.rows not in self._sets:
                own = self._maker.rows(self._echo, note.round)
                self._sets[own.id] = own
                self.made = own.id == note.rows
        if note.rows not in self._sets:
            raise MissingRows
        self._sets = {name: self._sets[name] for name in (note.told, note.rows) if name in self._sets}
        return self._sets[note.rows]

    def near(self, rows: PublicRows) -> Any:
        """Side information of codecs about these rows, or None."""
        return self._maker.near(rows)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs of this end."""
        return {
            "sets": [rows.images for rows in self._sets.values()],
            "echo": None if self._echo is None else dict(self._echo),
            "renewal": self._renewal,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        kept = [PublicRows.of(images) for images in saved["sets"]]
        self._sets = {rows.id: rows for rows in kept}
        self._echo = saved["echo"]
        self._renewal = saved["renewal"]


def on_rows(ctx: C, rows: PublicRows, told: PublicRows | None = None) -> C:
    """A context whose public set is ``rows``, after a downlink about ``told``."""
    return replace(
        ctx, public=rows.images, public_set_id=rows.id, told=None if told is None else (told.images, told.id)
    )


@contextmanager
def one_thread() -> Generator[None, None, None]:
    """Sums are taken in the same order whatever the machine's number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _digest(weights: Tensors) -> bytes:
    found = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        found.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return found.digest()
