from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spikefed.data.idx import read_idx
from spikefed.errors import DataError

from .conftest import idx_bytes, packed


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(array=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=3, max_side=6)), gz=st.booleans())
def test_an_array_comes_back_as_it_was_written(tmp_path: Path, array: np.ndarray, gz: bool) -> None:
    path = tmp_path / ("a.gz" if gz else "a")
    path.write_bytes(packed(array) if gz else idx_bytes(array))
    np.testing.assert_array_equal(read_idx(path, array.ndim), array)


def test_hand_made_bytes() -> None:
    # two images of 1x2 pixels
    assert idx_bytes(np.array([[[1, 2]], [[3, 4]]], np.uint8)) == bytes.fromhex(
        "00000803 00000002 00000001 00000002 01020304"
    )


IMAGES = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "truncated (no idx header)"),
        (b"\x00\x00\x08\x03\x00\x00", "idx header cut off"),
        (b"\x00\x00\x0d\x03" + bytes(12), "magic 0x00000d03, expected 0x00000803"),
        (idx_bytes(np.zeros(3, np.uint8)), "magic 0x00000801"),
        (idx_bytes(IMAGES)[:-1], "truncated (47 of 48 bytes"),
        (idx_bytes(IMAGES) + b"x", "more than its header says"),
        (struct.pack(">4I", 0x803, 2**31, 2**31, 28), "impossible shape"),
        (struct.pack(">4I", 0x803, 4_000_000, 28, 28) + bytes(10), "truncated (10 of 3,136,000,000 bytes"),
    ],
)
def test_bad_content_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "bad-idx"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_idx(path, 3)
    assert says in str(caught.value) and str(path) in str(caught.value)
    path = tmp_path / "bad-idx.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(DataError) as caught:
        read_idx(path, 3)
    assert says in str(caught.value)


def test_every_cut_of_a_gzip_file_is_an_error(tmp_path: Path) -> None:
    whole = packed(IMAGES)
    path = tmp_path / "cut.gz"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"truncated|damaged"):
            read_idx(path, 3)


def test_a_changed_byte_in_gzip_data_is_an_error(tmp_path: Path) -> None:
    whole = bytearray(packed(np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)))
    whole[60] ^= 0x40
    path = tmp_path / "changed.gz"
    path.write_bytes(bytes(whole))
    with pytest.raises(DataError, match="damaged|truncated|idx"):
        read_idx(path, 3)
