"""Messages of the rival methods: labels, counts, probabilities, class means, partial spikes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire.hint import HintSpikes
from spikefed.wire.messages import Message, check_common, check_id, check_spikes, register_builder
from spikefed.wire.partial import PartialSpikes
from spikefed.wire.plan import Plan


@dataclass(frozen=True, eq=False)
class _RowMessage(Message):
    """Content in the field named by ``_field``; checked by ``_check``."""

    _field: ClassVar[str]

    @property
    def content(self) -> Any:
        return getattr(self, self._field)

    def plan(self) -> Plan:
        plan = Plan.spikes if self.kind == "partial-spikes" else Plan.rows
        return plan(
            direction=self.direction, round=self.round, client=getattr(self, "client", None), shape=self._shape(),
            public_set_id=self.public_set_id, kind=self.kind,  # type: ignore[attr-defined]
        )  # fmt: skip

    def _shape(self) -> tuple[int, int, int]:
        raise NotImplementedError

    def _check(self, content: Any) -> Any:
        raise NotImplementedError

    def __post_init__(self) -> None:
        object.__setattr__(self, self._field, self._check(self.content))
        object.__setattr__(self, "public_set_id", check_id(self.public_set_id))  # type: ignore[attr-defined]
        check_common(self)


def _integers(array: np.ndarray, axes: int, low: int, high: int, name: str) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != axes or array.dtype.kind not in "iu":
        raise PacketError(name, f"needs {axes} axes of integers, got {array.dtype} {array.shape}")
    if array.size and (array.min() < low or array.max() > high):
        raise PacketError(name, f"values must lie in [{low}, {high}], got [{array.min()}, {array.max()}]")
    return array


class _Labels(_RowMessage):
    kind, default_codec, _field = "labels", "plain", "labels"
    classes: int

    def _check(self, content: np.ndarray) -> np.ndarray:
        return _integers(content, 1, -1, self.classes - 1, "labels").astype(np.int32)

    def _shape(self) -> tuple[int, int, int]:
        return len(self.content), self.classes, 1


class _Counts(_RowMessage):
    kind, default_codec, _field = "counts", "plain", "counts"
    levels: int

    def _check(self, content: np.ndarray) -> np.ndarray:
        if not 1 <= self.levels <= 65535:
            raise PacketError("levels", f"{self.levels} is not in [1, 65535]")
        return _integers(content, 2, 0, self.levels, "counts").astype(np.uint16)

    def _shape(self) -> tuple[int, int, int]:
        return *self.content.shape, self.levels


class _Probabilities(_RowMessage):
    kind, default_codec, _field = "probabilities", "float32", "probabilities"

    def _check(self, content: np.ndarray) -> np.ndarray:
        content = np.asarray(content, dtype=np.float32)
        if content.ndim != 2 or not np.isfinite(content).all():
            raise PacketError("probabilities", f"need finite numbers [N, C], got shape {content.shape}")
        return content

    def _shape(self) -> tuple[int, int, int]:
        return *self.content.shape, 0


class _ClassMeans(_RowMessage):
    kind, default_codec, _field = "class-means", "float32", "means"

    def _check(self, content: np.ndarray) -> np.ndarray:
        content = np.asarray(content, dtype=np.float32)
        if (
            content.ndim != 2
            or content.shape[1] == 0
            or not (np.isfinite(content).all(axis=1) | np.isnan(content).all(axis=1)).all()
        ):
            raise PacketError(
                "means", "need [C, D] with rows of finite numbers, or all NaN for a class without samples"
            )
        return content

    def _shape(self) -> tuple[int, int, int]:
        return *self.content.shape, 0


class _Partial(_RowMessage):
    kind, default_codec, _field = "partial-spikes", "context", "partial"

    def _check(self, content: PartialSpikes) -> PartialSpikes:
        spikes, rows = check_spikes(content.spikes), np.asarray(content.rows, dtype=bool)
        if rows.shape != spikes.shape[:1] or spikes[~rows].any():
            raise PacketError("rows", f"need one flag a row and silent rows where it is off, got {rows.shape}")
        return PartialSpikes(rows, spikes)

    def _shape(self) -> tuple[int, int, int]:
        return self.content.spikes.shape


@dataclass(frozen=True, eq=False)
class LabelUplink(_Labels):
    """Hard labels int [N], -1 = not sent; ``classes`` = C (CFD)."""

    round: int
    client: int
    labels: np.ndarray
    accuracy: float
    public_set_id: bytes
    classes: int
    direction = "up"


@dataclass(frozen=True, eq=False)
class LabelDownlink(_Labels):
    """Hard labels of the server, as in ``LabelUplink``."""

    round: int
    labels: np.ndarray
    public_set_id: bytes
    classes: int
    direction = "down"


@dataclass(frozen=True, eq=False)
class CountUplink(_Counts):
    """Counts [N, C] in 0..levels: spikes a class (levels = T), or a quantised distribution (levels = 2^b - 1)."""

    round: int
    client: int
    counts: np.ndarray
    accuracy: float
    public_set_id: bytes
    levels: int
    direction = "up"


@dataclass(frozen=True, eq=False)
class CountDownlink(_Counts):
    """Counts of the server, as in ``CountUplink``."""

    round: int
    counts: np.ndarray
    public_set_id: bytes
    levels: int
    direction = "down"


@dataclass(frozen=True, eq=False)
class ProbabilityUplink(_Probabilities):
    """Soft labels float [N, C] (DS-FL)."""

    round: int
    client: int
    probabilities: np.ndarray
    accuracy: float
    public_set_id: bytes
    direction = "up"


@dataclass(frozen=True, eq=False)
class ProbabilityDownlink(_Probabilities):
    """Soft labels of the server."""

    round: int
    probabilities: np.ndarray
    public_set_id: bytes
    direction = "down"


@dataclass(frozen=True, eq=False)
class ClassMeansUplink(_ClassMeans):
    """Mean output of each class [C, D]; a row of NaN for a class the client lacks (FD). The public set id is zeros."""

    round: int
    client: int
    means: np.ndarray
    accuracy: float
    public_set_id: bytes = field(default=bytes(32))
    direction = "up"


@dataclass(frozen=True, eq=False)
class ClassMeansDownlink(_ClassMeans):
    """Mean outputs over clients."""

    round: int
    means: np.ndarray
    public_set_id: bytes = field(default=bytes(32))
    direction = "down"


@dataclass(frozen=True, eq=False)
class PartialSpikeUplink(_Partial):
    """Some rows of a client's spikes (partial.py)."""

    round: int
    client: int
    partial: PartialSpikes
    accuracy: float
    public_set_id: bytes
    direction = "up"


@dataclass(frozen=True, eq=False)
class PartialSpikeDownlink(_Partial):
    """Some rows of the global spikes, as in ``PartialSpikeUplink``."""

    round: int
    partial: PartialSpikes
    public_set_id: bytes
    direction = "down"


@dataclass(frozen=True, eq=False)
class HintSpikeUplink(_RowMessage):
    """A client's output spikes [N, C, T] and hint spikes [N, H, T] of an inner layer (HDSFL)."""

    round: int
    client: int
    spikes: np.ndarray
    hint: np.ndarray
    accuracy: float
    public_set_id: bytes
    kind, default_codec, direction = "hint-spikes", "context", "up"

    @property
    def content(self) -> HintSpikes:
        return HintSpikes(self.spikes, self.hint)

    def plan(self) -> Plan:
        return Plan.hint_spikes(
            self.direction, round=self.round, client=self.client, shape=self.spikes.shape,  # type: ignore[arg-type]
            hint_channels=self.hint.shape[1], public_set_id=self.public_set_id,
        )  # fmt: skip

    def __post_init__(self) -> None:
        for name in ("spikes", "hint"):
            object.__setattr__(self, name, check_spikes(getattr(self, name)))
        if self.hint.shape[::2] != self.spikes.shape[::2]:
            raise PacketError("shape", f"hint {self.hint.shape} and spikes {self.spikes.shape} differ in rows or steps")
        object.__setattr__(self, "public_set_id", check_id(self.public_set_id))
        check_common(self)


def _register(kind: str, up: Any, down: Any, axis: int | None = None) -> None:
    """Builders of a row kind; ``axis``: of the shape that is the message's last field (classes, levels)."""

    def last(header: Any) -> tuple[int, ...]:
        return () if axis is None else (header.shape[axis],)

    register_builder(
        kind,
        lambda h, x, plan: up(h.round, h.client, x, h.accuracy, plan.content_id, *last(h)),
        lambda h, x, plan: down(h.round, x, plan.content_id, *last(h)),
    )


_register("labels", LabelUplink, LabelDownlink, axis=1)
_register("counts", CountUplink, CountDownlink, axis=2)
_register("probabilities", ProbabilityUplink, ProbabilityDownlink)
_register("class-means", ClassMeansUplink, ClassMeansDownlink)
_register("partial-spikes", PartialSpikeUplink, PartialSpikeDownlink)
register_builder("hint-spikes", lambda h, x, plan: HintSpikeUplink(
    h.round, h.client, x.spikes, x.hint, h.accuracy, plan.content_id))  # fmt: skip
