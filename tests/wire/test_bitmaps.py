"""Bitmaps of masks: near their entropy, one code each, read by a second implementation of the page."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefed.wire import PacketError
from spikefed.wire.bitmaps import bitmap_limit_bytes, encode_bitmap, read_bitmap


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(0, 300), max_size=4), st.sampled_from([0.0, 0.01, 0.1, 0.3, 0.5, 0.9, 1.0]), st.integers(0, 99)
)
def test_bitmaps_come_back_and_stay_below_their_limit(sizes: list[int], density: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kept = [rng.random(size) < density for size in sizes]
    code = encode_bitmap(kept)
    assert len(code) <= bitmap_limit_bytes(sizes)
    back, rest = read_bitmap(memoryview(code + b"rest"), sizes)
    assert bytes(rest) == b"rest"
    assert all(np.array_equal(a, b) for a, b in zip(kept, back, strict=True))


@pytest.mark.parametrize("density", [0.0001, 0.001, 0.02, 0.1, 0.3, 0.5, 0.8, 0.99])
def test_a_bitmap_is_near_the_entropy_of_its_positions(density: float) -> None:
    kept = np.random.default_rng(0).random(1_000_000) < density
    share = kept.mean()
    entropy_bits = 1e6 * -(share * math.log2(share) + (1 - share) * math.log2(1 - share))
    most = 1.05 * entropy_bits if min(share, 1 - share) < 0.25 else 1e6  # a bit an entry
    assert 8 * len(encode_bitmap([kept])) <= most + 64


def plain_bitmap(code: bytes, sizes: list[int]) -> list[list[int]]:
    """A reader of docs/wire-format.md, section 6.1, in plain lines: a second implementation."""
    counts = []
    for _ in sizes:
        value = shift = 0
        while True:
            byte, code = code[0], code[1:]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        counts.append(value)
    bits = iter(f"{int.from_bytes(code, 'big'):0{8 * len(code)}b}" if code else "")
    found = []
    for k, n in zip(counts, sizes, strict=True):
        r, b = min(k, n - k), 0
        while r and 1000 * r * 2**b <= 481 * n:
            b += 1
        if r and r * (1 + b) + (n >> b) >= n:
            found.append([int(next(bits)) for _ in range(n)])
            continue
        quotients = []
        for _ in range(r):
            quotients.append(0)
            while next(bits) == "1":
                quotients[-1] += 1
        named, at = set(), -1
        for quotient in quotients:
            rest = int("0" + "".join(next(bits) for _ in range(b)), 2)
            at += (quotient << b) + rest + 1
            named.add(at)
        found.append([int((place in named) == (k <= n - k)) for place in range(n)])
    return found


@pytest.mark.parametrize("density", [0.0, 0.004, 0.03, 0.2, 0.5, 0.8, 0.97, 1.0])
def test_a_reader_made_from_the_page_alone_reads_the_same(density: float) -> None:
    rng = np.random.default_rng(3)
    kept = [rng.random(size) < density for size in (0, 1, 7, 400, 1000)]
    assert plain_bitmap(encode_bitmap(kept), [mask.size for mask in kept]) == [
        mask.astype(int).tolist() for mask in kept
    ]


def test_equal_bitmaps_have_one_code_and_no_other() -> None:
    """Whatever bytes are accepted are those that an encoder writes."""
    rng = np.random.default_rng(1)
    code = encode_bitmap([rng.random(40) < 0.2, rng.random(9) < 0.5])
    accepted = 0
    for _ in range(4000):
        broken = bytearray(code)
        for at in rng.integers(0, len(code), 2):
            broken[at] ^= 1 << int(rng.integers(8))
        try:
            back, rest = read_bitmap(memoryview(bytes(broken)), [40, 9])
        except PacketError as error:
            assert error.field == "bitmap"
            continue
        accepted += 1
        assert encode_bitmap(back) + bytes(rest) == bytes(broken)
    assert accepted > 100
