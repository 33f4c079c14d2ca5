"""What a receiver expects. A packet is compared with its plan before a byte of memory is set aside for its content."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire.bitmaps import bitmap_limit_bytes
from spikefed.wire.header import EVERYONE, ID_BYTES, MAX_HEADER_BYTES, NO_REFERENCE, WEIGHT_KINDS, Header
from spikefed.wire.parts import Part
from spikefed.wire.share import Share

TENSOR_DTYPES = ("float32", "float64", "float16", "int64", "int32", "uint8", "bool")
SLACK_BYTES = 64  # above the plain payload: what a codec that fell back to it may add


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape and dtype of one tensor; both ends know the list, so no name ever travels.

    Attributes:
        shape: of what travels; ``[k]`` where ``part`` leaves k entries of the tensor.
        exact: no codec may change its numbers (running statistics of a batch norm, say); it travels as it is.
        masked: a bitmap in the message says which of its entries travel (kind "selected-weights").
        part: which of its entries travel, where both ends know it before; None: the message is no selection.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    exact: bool = False
    masked: bool = False
    part: Part | None = None

    @property
    def lossy(self) -> bool:
        """Whether sparse and quantised codecs may change its numbers: a float tensor that is not exact."""
        return not self.exact and self.dtype.startswith("float")

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.elements * np.dtype(self.dtype).itemsize

    @property
    def line(self) -> str:
        """What the layout id says of it."""
        shape, digest = (self.shape, "") if self.part is None else (self.part.shape, self.part.digest)
        marks = [f"kept={digest}" if digest else "", "exact" * self.exact, "masked" * self.masked]
        return "|".join([self.name, self.dtype, ",".join(map(str, shape)), *filter(None, marks)]) + "\n"

    def narrowed(self, kept: np.ndarray | None) -> TensorSpec:
        """The same tensor in a selection, of which these entries travel (bool, of its shape; None: all)."""
        part = Part.of(self.name, self.shape, kept)
        return replace(self, shape=self.shape if kept is None else (part.count,), part=part)


def tensor_specs(
    tensors: Mapping[str, Any],
    exact: Collection[str] = (),
    kept: Mapping[str, np.ndarray | None] | None = None,
    masked: Collection[str] = (),
) -> tuple[TensorSpec, ...]:
    """The specs of a dict of numpy arrays or torch tensors, in the dict's own order (that of ``state_dict()``).

    Args:
        exact: names of those that no codec may change.
        kept: of a selection: for every tensor which entries travel, bool of its shape, None for all of them.
        masked: names of those whose entries a bitmap in the message names.
    """
    specs: list[TensorSpec] = []
    for name, tensor in tensors.items():
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in TENSOR_DTYPES:
            raise PacketError("tensors", f"'{name}' has dtype {dtype}; use one of {', '.join(TENSOR_DTYPES)}")
        spec = TensorSpec(name, tuple(int(size) for size in tensor.shape), dtype, name in exact, name in masked)
        specs.append(spec if kept is None else spec.narrowed(kept[name]))
    return tuple(specs)


def taken(tensors: Mapping[str, np.ndarray], table: tuple[TensorSpec, ...]) -> dict[str, np.ndarray]:
    """What travels of these tensors, as codecs read it: ``[k]`` where k entries do."""
    return {s.name: tensors[s.name] if s.part is None else s.part.taken(tensors[s.name]) for s in table}


def placed(arrays: Mapping[str, np.ndarray], table: tuple[TensorSpec, ...]) -> dict[str, np.ndarray]:
    """Inverse of ``taken``: whole tensors, 0 where nothing travelled. Shapes are the table's."""
    return {s.name: arrays[s.name] if s.part is None else s.part.placed(arrays[s.name]) for s in table}


def layout_id(tensors: tuple[TensorSpec, ...]) -> bytes:
    """32 bytes naming a tensor table: SHA-256 of its lines in order (docs/wire-format.md, section 2)."""
    return hashlib.sha256("".join(spec.line for spec in tensors).encode()).digest()


@dataclass(frozen=True)
class Plan:
    """The one packet a receiver is willing to take.

    Attributes:
        kind, direction, round, shape: must equal the header's fields.
        content_id: SHA-256 of the public set or tensor table; the header carries its first 8 bytes, or a reference that
            is made of them too.
        client: sender (up) or receiver (down); None takes any.
        hint: for spikes with a hint, the hint layer's channels H.
        tensors: for weights, the table both ends know.
        codecs: names of the codecs that may be used; None = any codec of the kind.
        max_packet_bytes: longest packet looked at.
        share: the public rows that the message speaks of; None: all of them, or what is said is not about rows.
        follows: for selected weights that go up, the bitmap must be that of the newest downlink to the sender.
        finite: refuse NaN and infinity in float tensors (a diverged or hostile client would poison the mean).
    """

    kind: str
    direction: str
    round: int
    shape: tuple[int, int, int]
    content_id: bytes
    client: int | None = None
    hint: int = 0
    tensors: tuple[TensorSpec, ...] = ()
    codecs: tuple[str, ...] | None = None
    max_packet_bytes: int = 0
    finite: bool = True
    share: Share | None = field(default=None, compare=False)
    follows: bool = False

    @staticmethod
    def spikes(
        direction: str, *, round: int, client: int | None, shape: tuple[int, int, int], public_set_id: bytes,
        kind: str = "spikes", share: Share | None = None,
    ) -> Plan:  # fmt: skip
        """A plan for spike trains [N, C, T] on the public set with this 32-byte id, or on a share of N rows of it.

        Args:
            direction: ``up`` or ``down``.
            round: its number, from 1.
            client: who sends or receives; None: a broadcast.
            shape: of the content, in the axes that the kind has.
            public_set_id: 32 bytes that name the public set.
            kind: spikes, partial spikes or another kind of trains.
            share: rows that the message is about, or None.
        """
        n, c, t = (int(size) for size in shape)
        limit = MAX_HEADER_BYTES + SLACK_BYTES + (n * c * t + 7) // 8
        return Plan(
            kind, direction, round, (n, c, t), bytes(public_set_id), client, max_packet_bytes=limit, share=share
        )

    @staticmethod
    def hint_spikes(
        direction: str, *, round: int, client: int | None, shape: tuple[int, int, int], hint_channels: int,
        public_set_id: bytes,
    ) -> Plan:  # fmt: skip
        """A plan for output spikes [N, C, T] and hint spikes [N, hint_channels, T]; in the header (N, C, T, H).

        Args:
            direction: ``up`` or ``down``.
            round: its number, from 1.
            client: who sends or receives; None: a broadcast.
            shape: of the content, in the axes that the kind has.
            public_set_id: 32 bytes that name the public set.
            hint_channels: H, units of the hint layer.
        """
        n, c, t, h = (int(size) for size in (*shape, hint_channels))
        limit = MAX_HEADER_BYTES + SLACK_BYTES + (n * c * t + 7) // 8 + (n * h * t + 7) // 8
        return Plan("hint-spikes", direction, round, (n, c, t), bytes(public_set_id), client, h, max_packet_bytes=limit)

    @staticmethod
    def rows(
        kind: str, direction: str, *, round: int, client: int | None, shape: tuple[int, int, int],
        public_set_id: bytes, share: Share | None = None,
    ) -> Plan:  # fmt: skip
        """A plan for labels (N, C, 1), counts (N, C, levels), probabilities (N, C, 0) or class means (C, D, 0).

        Args:
            kind: of the message.
            direction: ``up`` or ``down``.
            round: its number, from 1.
            client: who sends or receives; None: a broadcast.
            shape: of the content, in the axes that the kind has.
            public_set_id: 32 bytes that name the public set.
            share: rows that the message is about, or None.
        """
        n, c, t = (int(size) for size in shape)
        limit = MAX_HEADER_BYTES + SLACK_BYTES + 5 * n * max(c, 1)
        return Plan(
            kind, direction, round, (n, c, t), bytes(public_set_id), client, max_packet_bytes=limit, share=share
        )

    @staticmethod
    def weights(direction: str, *, round: int, client: int | None, tensors: tuple[TensorSpec, ...]) -> Plan:
        """A plan for the tensors of this table.

        Args:
            direction: ``up`` or ``down``.
            round: its number, from 1.
            client: who sends or receives; None: a broadcast.
            tensors: name, shape and type of each tensor.
        """
        tensors = tuple(tensors)
        limit = MAX_HEADER_BYTES + SLACK_BYTES + 16 * len(tensors) + 2 * sum(spec.nbytes for spec in tensors)
        return Plan("weights", direction, round, (len(tensors), 0, 0), layout_id(tensors), client, tensors=tensors,
                    max_packet_bytes=limit)  # fmt: skip

    @staticmethod
    def selected_weights(
        direction: str, *, round: int, client: int | None, tensors: tuple[TensorSpec, ...], follows: bool = False
    ) -> Plan:
        """A plan for the tensors of this table, of which a bitmap says which entries of the ``masked`` ones travel.

        Args:
            direction: ``up`` or ``down``.
            round: its number, from 1.
            client: who sends or receives; None: a broadcast.
            tensors: name, shape and type of each tensor.
            follows: whether the sender must use the mask of the newest downlink.
        """
        plan = Plan.weights(direction, round=round, client=client, tensors=tensors)
        bitmap = 1 + bitmap_limit_bytes([spec.elements for spec in plan.masked])
        return replace(plan, kind="selected-weights", max_packet_bytes=plan.max_packet_bytes + bitmap, follows=follows)

    def narrowed(self, kept: Mapping[str, np.ndarray]) -> Plan:
        """The same plan once it is known which entries travel; a tensor without an array travels whole.

        Masks have their tensors' shapes.
        """
        return replace(self, tensors=tuple(spec.narrowed(kept.get(spec.name)) for spec in self.tensors))

    def for_client(self, client: int) -> Plan:
        """The same plan for another client."""
        return replace(self, client=client)

    @property
    def header_shape(self) -> tuple[int, ...]:
        """What the header says of sizes: the shape, and H where there is a hint."""
        return (*self.shape, self.hint) if self.kind == "hint-spikes" else self.shape

    @property
    def exact(self) -> frozenset[str]:
        """Names of the tensors that no codec may change."""
        return frozenset(spec.name for spec in self.tensors if spec.exact)

    @property
    def selects(self) -> bool:
        """Whether what travels is a selection, which may be another one next time."""
        return any(spec.part is not None for spec in self.tensors)

    @property
    def masked(self) -> tuple[TensorSpec, ...]:
        """The tensors whose entries a bitmap in the message names."""
        return tuple(spec for spec in self.tensors if spec.masked)

    @property
    def kept(self) -> dict[str, np.ndarray | None] | None:
        """Of a selection: for every tensor which entries travel, None for all; None where the table is no selection.

        Masks have their tensors' shapes.
        """
        parts = {spec.name: spec.part for spec in self.tensors if spec.part is not None}
        if not parts:
            return None
        return {name: None if p.kept is None else p.kept.reshape(p.shape) for name, p in parts.items()}

    @property
    def public_rows(self) -> int:
        """Rows of the public set."""
        return self.shape[0] if self.share is None else self.share.total

    @cached_property
    def spikes_total(self) -> int:
        """N * C * T."""
        return math.prod(self.shape)

    def check(self, header: Header) -> None:
        """Raise PacketError at the first header field that differs from the plan."""
        pairs = (("kind", self.kind, header.kind), ("direction", self.direction, header.direction),
                 ("round", self.round, header.round), ("shape", self.header_shape, header.shape))  # fmt: skip
        for name, expected, got in pairs:
            if expected != got:
                raise PacketError(name, f"expected {expected}, got {got}")
        if self.client is not None and header.client not in (self.client, EVERYONE):
            raise PacketError("client", f"expected {self.client}, got {header.client}")
        if header.direction == "up" and header.client == EVERYONE:
            raise PacketError("client", "an uplink must name its sender")
        if header.reference == NO_REFERENCE and header.content_id != self.content_id[:ID_BYTES]:
            name = "layout" if self.kind in WEIGHT_KINDS else "public_set_id"
            raise PacketError(name, f"{header.content_id.hex()} is not {self.content_id[:ID_BYTES].hex()}; "
                              "both ends need the same public set and network")  # fmt: skip
        if not 0.0 <= header.accuracy <= 1.0:  # false for NaN too
            raise PacketError("accuracy", f"{header.accuracy} is not a number in [0, 1]")
        if header.direction == "down" and header.accuracy != 0.0:
            raise PacketError("accuracy", "a downlink carries none")
        if self.kind not in WEIGHT_KINDS and header.samples != 0:
            raise PacketError("samples", "only weights carry a sample count")
        if self.kind in WEIGHT_KINDS and header.direction == "up" and header.samples == 0:
            raise PacketError("samples", "weights of 0 samples cannot be averaged")

    def check_size(self, nbytes: int) -> None:
        """Raise PacketError when a packet of ``nbytes`` is longer than any honest one can be."""
        if nbytes > self.max_packet_bytes:
            raise PacketError("length", f"{nbytes} bytes, above this plan's limit of {self.max_packet_bytes}")
