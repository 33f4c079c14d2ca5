"""A bitmap of survivors in few bytes: their number a tensor, then where they stand (docs/wire-format.md, section 6.1).

Of survivors and dropped entries the rarer ones are named, as Golomb-coded gaps where that is sure to be shorter than a
bit an entry. Which of the forms it is follows from the two numbers, so every bitmap has one code and no other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire.bitio import BitReader, golomb_bits, golomb_limit_bits, read_golomb
from spikefed.wire.varint import Cursor, varint

MOST_VARINT_BYTES = 5


def bitmap_limit_bytes(sizes: Sequence[int]) -> int:
    """The most bytes that a bitmap of tensors of these sizes can take."""
    return MOST_VARINT_BYTES * len(sizes) + (sum(sizes) + 7) // 8


def encode_bitmap(kept: Sequence[np.ndarray]) -> bytes:
    """Code of the bitmap: bool ``[size]`` for each tensor. Shapes as the tensors', read flat."""
    counts = [int(np.count_nonzero(mask)) for mask in kept]
    head = b"".join(varint(count, "bitmap") for count in counts)
    bits = [_bits(mask, count) for mask, count in zip(kept, counts, strict=True)]
    return head + np.packbits(np.concatenate([np.zeros(0, np.uint8), *bits])).tobytes()


def read_bitmap(payload: memoryview, sizes: Sequence[int]) -> tuple[list[np.ndarray], memoryview]:
    """Inverse of ``encode_bitmap``: the masks, and the payload behind them. Flat bool arrays of these sizes.

    Raises:
        PacketError("bitmap"): more survivors than entries, positions outside, another count, padding that is not 0.
    """
    try:
        return _read(payload, sizes)
    except PacketError as error:  # of whatever reads bits: to its caller it is the bitmap that is broken
        raise PacketError("bitmap", str(error).partition(": ")[2]) from None


def _read(payload: memoryview, sizes: Sequence[int]) -> tuple[list[np.ndarray], memoryview]:
    cursor = Cursor(payload)
    counts = [cursor.varint("bitmap") for _ in sizes]
    for count, size in zip(counts, sizes, strict=True):
        if count > size:
            raise PacketError("bitmap", f"{count} survivors of {size} entries")
    rest = payload[cursor.at :]
    reader = BitReader(rest)
    masks = [_mask(reader, count, size) for count, size in zip(counts, sizes, strict=True)]
    if reader.take(-reader.at % 8).any():
        raise PacketError("bitmap", "padding bits behind it are not zero")
    return masks, rest[reader.at // 8 :]


def rice_parameter(count: int, size: int) -> int:
    """b: remainder bits of gaps between ``count`` of ``size`` entries, count / size at most 1/2.

    The smallest b with (1 - count / size)^(2^b) below the golden ratio's inverse, by ln(1 - q) = -q: in integers,
    2^b count / size > 0.481.
    """
    parameter = 0
    while (count << parameter) * 1000 <= 481 * size:
        parameter += 1
    return parameter


def _form(count: int, size: int) -> tuple[int, int | None]:
    """How many entries are named (the rarer kind), and the parameter of their gaps; None: a bit an entry."""
    named = min(count, size - count)
    if not named:
        return 0, 0
    parameter = rice_parameter(named, size)
    return named, parameter if golomb_limit_bits(named, parameter, size) < size else None


def _bits(kept: np.ndarray, count: int) -> np.ndarray:
    named, parameter = _form(count, kept.size)
    if parameter is None:
        return kept.astype(np.uint8)
    if not named:
        return np.zeros(0, dtype=np.uint8)
    return golomb_bits(np.flatnonzero(kept if named == count else ~kept), parameter)


def _mask(reader: BitReader, count: int, size: int) -> np.ndarray:
    named, parameter = _form(count, size)
    if parameter is None:
        kept = reader.take(size).astype(bool)
        if np.count_nonzero(kept) != count:
            raise PacketError("bitmap", f"{np.count_nonzero(kept)} bits set where {count} entries survive")
        return kept
    survivors = named == count
    kept = np.full(size, not survivors)
    if named:
        kept[read_golomb(reader, named, parameter, size)] = survivors
    return kept
