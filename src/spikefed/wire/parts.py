"""Which entries of a tensor travel, in a message that carries a selection of them."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spikefed.errors import PacketError


@dataclass(frozen=True, eq=False)
class Part:
    """A tensor of which some entries travel, row-major; two parts are equal when the same entries do.

    Attributes:
        shape: of the whole tensor.
        kept: bool ``[size]``, True where an entry travels; None: all do, in this message.
    """

    shape: tuple[int, ...]
    kept: np.ndarray | None = None

    @classmethod
    def of(cls, name: str, shape: tuple[int, ...], kept: np.ndarray | None) -> Part:
        """The part of tensor ``name`` that a bool array of its shape says.

        Raises:
            PacketError: another shape or type.
        """
        if kept is None:
            return cls(shape)
        if not isinstance(kept, np.ndarray) or kept.dtype != np.bool_ or kept.shape != shape:
            found = f"{kept.dtype} {kept.shape}" if isinstance(kept, np.ndarray) else type(kept).__name__
            raise PacketError("kept", f"'{name}' needs a bool array of shape {shape}, got {found}")
        return cls(shape, kept.reshape(-1))

    @property
    def size(self) -> int:
        """Entries of the whole tensor."""
        return math.prod(self.shape)

    @cached_property
    def count(self) -> int:
        """Entries that travel."""
        return self.size if self.kept is None else int(np.count_nonzero(self.kept))

    @cached_property
    def digest(self) -> str:
        """What the layout line says of them: 16 hex digits of the SHA-256 of their bits; empty when all travel."""
        if self.kept is None:
            return ""
        return hashlib.sha256(np.packbits(self.kept).tobytes()).hexdigest()[:16]

    def taken(self, array: np.ndarray) -> np.ndarray:
        """The entries that travel, ``[count]``; the array itself when all do."""
        return array if self.kept is None else array.reshape(-1)[self.kept]

    def placed(self, values: np.ndarray) -> np.ndarray:
        """Inverse of ``taken``: 0 where nothing travelled. The whole tensor's shape."""
        if self.kept is None:
            return values
        whole = np.zeros(self.size, dtype=values.dtype)
        whole[self.kept] = values
        return whole.reshape(self.shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Part) and (self.shape, self.digest) == (other.shape, other.digest)

    def __hash__(self) -> int:
        return hash((self.shape, self.digest))
