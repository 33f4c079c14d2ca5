"""Messages of the rival methods: labels, counts, probabilities, class means, partial spikes, spikes with a hint."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire.hint import HintSpikes
from spikefed.wire.messages import Message, check_spikes, message
from spikefed.wire.partial import PartialSpikes
from spikefed.wire.plan import Plan
from spikefed.wire.share import Share


def _integers(array: np.ndarray, axes: int, low: int, high: int, name: str) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != axes or array.dtype.kind not in "iu":
        raise PacketError(name, f"needs {axes} axes of integers, got {array.dtype} {array.shape}")
    if array.size and (array.min() < low or array.max() > high):
        raise PacketError(name, f"values must lie in [{low}, {high}], got [{array.min()}, {array.max()}]")
    return array


class _Labels(Message):
    kind = "labels"
    default_codec = "plain"
    field = "labels"
    classes: int

    def check(self, content: np.ndarray) -> np.ndarray:
        return _integers(content, 1, -1, self.classes - 1, "labels").astype(np.int32)

    def sizes(self) -> tuple[int, int, int]:
        return len(self.content), self.classes, 1


class _Counts(Message):
    kind = "counts"
    default_codec = "plain"
    field = "counts"
    levels: int

    def check(self, content: np.ndarray) -> np.ndarray:
        if not 1 <= self.levels <= 65535:
            raise PacketError("levels", f"{self.levels} is not in [1, 65535]")
        return _integers(content, 2, 0, self.levels, "counts").astype(np.uint16)

    def sizes(self) -> tuple[int, int, int]:
        return *self.content.shape, self.levels


class _Numbers(Message):
    """float32 [rows, columns]."""

    def sizes(self) -> tuple[int, int, int]:
        return *self.content.shape, 0


class _Probabilities(_Numbers):
    kind = "probabilities"
    default_codec = "float32"
    field = "probabilities"

    def check(self, content: np.ndarray) -> np.ndarray:
        content = np.asarray(content, dtype=np.float32)
        if content.ndim != 2 or not np.isfinite(content).all():
            raise PacketError("probabilities", f"need finite numbers [N, C], got shape {content.shape}")
        return content


class _ClassMeans(_Numbers):
    kind = "class-means"
    default_codec = "float32"
    field = "means"

    def check(self, content: np.ndarray) -> np.ndarray:
        content = np.asarray(content, dtype=np.float32)
        whole = np.isfinite(content).all(axis=-1) | np.isnan(content).all(axis=-1)
        if content.ndim != 2 or content.shape[1] == 0 or not whole.all():
            raise PacketError(
                "means", "need [C, D], D > 0, with rows of finite numbers, or all NaN for a class without samples"
            )
        return content


class _Partial(Message):
    kind = "partial-spikes"
    default_codec = "context"
    field = "partial"

    def check(self, content: PartialSpikes) -> PartialSpikes:
        spikes = check_spikes(content.spikes)
        rows = np.asarray(content.rows, dtype=bool)
        if rows.shape != spikes.shape[:1] or spikes[~rows].any():
            raise PacketError("rows", f"need one flag a row and silent rows where it is off, got {rows.shape}")
        return PartialSpikes(rows, spikes)

    def sizes(self) -> tuple[int, int, int]:
        return self.content.spikes.shape

    def plan(self) -> Plan:
        return Plan.spikes(kind=self.kind, **self._plan_fields())


@message
class LabelUplink(_Labels):
    """Hard labels int [N], -1 = not sent; ``classes`` = C (CFD); ``share``: which N rows, None for all."""

    round: int
    client: int
    labels: np.ndarray
    accuracy: float
    public_set_id: bytes
    classes: int
    share: Share | None = None
    direction = "up"


@message
class LabelDownlink(_Labels):
    """Hard labels of the server, as in ``LabelUplink``."""

    round: int
    labels: np.ndarray
    public_set_id: bytes
    classes: int
    direction = "down"


@message
class CountUplink(_Counts):
    """Counts [N, C] in 0..levels: spikes a class (levels = T), or a quantised distribution (levels = 2^b - 1)."""

    round: int
    client: int
    counts: np.ndarray
    accuracy: float
    public_set_id: bytes
    levels: int
    direction = "up"


@message
class CountDownlink(_Counts):
    """Counts of the server, as in ``CountUplink``."""

    round: int
    counts: np.ndarray
    public_set_id: bytes
    levels: int
    direction = "down"


@message
class ProbabilityUplink(_Probabilities):
    """Soft labels float [N, C] (DS-FL)."""

    round: int
    client: int
    probabilities: np.ndarray
    accuracy: float
    public_set_id: bytes
    direction = "up"


@message
class ProbabilityDownlink(_Probabilities):
    """Soft labels of the server."""

    round: int
    probabilities: np.ndarray
    public_set_id: bytes
    direction = "down"


@message
class ClassMeansUplink(_ClassMeans):
    """Mean output of each class [C, D]; a row of NaN for a class the client lacks (FD). The public set id is zeros."""

    round: int
    client: int
    means: np.ndarray
    accuracy: float
    public_set_id: bytes = bytes(32)
    direction = "up"


@message
class ClassMeansDownlink(_ClassMeans):
    """Mean outputs over clients."""

    round: int
    means: np.ndarray
    public_set_id: bytes = bytes(32)
    direction = "down"


@message
class PartialSpikeUplink(_Partial):
    """Some rows of a client's spikes (partial.py)."""

    round: int
    client: int
    partial: PartialSpikes
    accuracy: float
    public_set_id: bytes
    direction = "up"


@message
class PartialSpikeDownlink(_Partial):
    """Some rows of the global spikes, as in ``PartialSpikeUplink``."""

    round: int
    partial: PartialSpikes
    public_set_id: bytes
    direction = "down"


@message
class HintSpikeUplink(Message):
    """A client's output spikes [N, C, T] and hint spikes [N, H, T] of an inner layer (HDSFL)."""

    round: int
    client: int
    spikes: np.ndarray
    hint: np.ndarray
    accuracy: float
    public_set_id: bytes
    kind = "hint-spikes"
    default_codec = "context"
    direction = "up"
    field = "spikes"

    @property
    def content(self) -> HintSpikes:
        return HintSpikes(self.spikes, self.hint)

    @classmethod
    def parts(cls, source: HintSpikes, plan: Plan) -> dict[str, Any]:
        return {"spikes": source.spikes, "hint": source.hint}

    def check(self, content: np.ndarray) -> np.ndarray:
        spikes = check_spikes(content)
        hint = check_spikes(self.hint)
        if hint.shape[::2] != spikes.shape[::2]:
            raise PacketError("shape", f"hint {hint.shape} and spikes {spikes.shape} differ in rows or steps")
        object.__setattr__(self, "hint", hint)
        return spikes

    def sizes(self) -> tuple[int, int, int]:
        return cast(tuple[int, int, int], self.spikes.shape)

    def plan(self) -> Plan:
        return Plan.hint_spikes(**self._plan_fields(), hint_channels=self.hint.shape[1])
