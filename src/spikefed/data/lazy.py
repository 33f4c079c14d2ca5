"""Images that stay where they are until somebody asks for them: an index first, pixels when needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

Rows = np.ndarray
Reader = Callable[[Rows], Tensor]
"""Row numbers ``[n]`` of the source to a tensor ``[n, ...]``."""


IN_MEMORY_BYTES = 256 << 20
"""Sets up to this size are read at once; larger ones when their rows are asked for."""


def evenly(count: int, most: int) -> range:
    """At most ``most`` row numbers at equal distances."""
    return range(0, count, max(1, -(-count // most)))


class LazyImages:
    """Stands where a tensor ``[N, C, H, W]`` or ``[N, T, C, H, W]`` stands; only rows can be taken from it.

    Args:
        read: gives rows of the source, always the same for the same numbers.
        rows: int64 ``[N]``, the rows of the source that this view has, in its order.
        item_shape: shape of one item.
        dtype: of the tensors that ``read`` gives.
        digest: says what the source holds: 32 bytes that change with its content, as far as its files tell.
    """

    def __init__(
        self, read: Reader, rows: Rows, item_shape: Sequence[int], dtype: torch.dtype, digest: Callable[[], bytes]
    ) -> None:
        self._read = read
        self._rows = rows
        self._digest = digest
        self.shape = torch.Size((len(rows), *item_shape))
        self.dtype = dtype

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def ndim(self) -> int:
        """Number of axes, that of the items included."""
        return len(self.shape)

    def numel(self) -> int:
        """Numbers in all items."""
        return prod(self.shape)

    def __getitem__(self, index: slice | Tensor | np.ndarray | Sequence[int]) -> Tensor:
        """The items at ``index``, read now."""
        return self._read(self._rows[_plain(index)])

    def take(self, index: Any) -> LazyImages:
        """A view of the items at ``index``; nothing is read."""
        return LazyImages(self._read, self._rows[_plain(index)], self.shape[1:], self.dtype, self._digest)

    def map(self, change: Callable[[Tensor], Tensor]) -> LazyImages:
        """The items as ``change`` makes them, row by row and when asked for. ``change`` gets ``[n, ...]``."""
        one = change(torch.zeros((1, *self.shape[1:]), dtype=self.dtype))
        return LazyImages(lambda rows: change(self._read(rows)), self._rows, one.shape[1:], one.dtype, self._digest)

    def digest(self) -> bytes:
        """SHA-256 (32 bytes) of what the source holds and of the rows that this view has of it."""
        told = hashlib.sha256(self._digest())
        told.update(np.ascontiguousarray(self._rows, dtype="<i8").data)
        told.update(np.asarray(self.shape, dtype="<i8").tobytes())
        return told.digest()


def _plain(index: Any) -> Any:
    return index.detach().cpu().numpy() if isinstance(index, Tensor) else index


def joined_rows(first: Tensor | LazyImages, second: Tensor | LazyImages) -> LazyImages:
    """Two sets of items one after the other, still read when asked for.

    ``[N, ...]`` and ``[M, ...]`` make ``[N + M, ...]``.
    """
    cut = len(first)

    def read(rows: Rows) -> Tensor:
        early = rows < cut
        out = torch.empty((len(rows), *first.shape[1:]), dtype=first.dtype)
        for chosen, source, start in ((early, first, 0), (~early, second, cut)):
            if chosen.any():
                out[torch.from_numpy(chosen)] = source[torch.from_numpy(rows[chosen] - start)]
        return out

    def digest() -> bytes:
        return hashlib.sha256(b"".join(map(_digest_of, (first, second)))).digest()

    return LazyImages(read, np.arange(cut + len(second)), first.shape[1:], first.dtype, digest)


def _digest_of(images: Tensor | LazyImages) -> bytes:
    if isinstance(images, LazyImages):
        return images.digest()
    return hashlib.sha256(images.contiguous().numpy().tobytes()).digest()
