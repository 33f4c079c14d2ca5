"""Event files in the published layouts, written from random events: the other half of every reader."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

HEAD3 = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2017-01-01 00:00:00\r\n#!END-HEADER\r\n"
HEAD2 = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# created by a test\r\n"


def random_events(rng: np.random.Generator, count: int, side: int, last: int) -> dict[str, np.ndarray]:
    """x, y, t (ascending), p."""
    return {
        "x": rng.integers(0, side, count),
        "y": rng.integers(0, side, count),
        "t": np.sort(rng.integers(0, last, count)),
        "p": rng.integers(0, 2, count),
    }


def nmnist_bytes(e: dict[str, np.ndarray]) -> bytes:
    """Events whose times lie beyond 23 bits are told by overflow marks: rows of 240 that add 2^13 us each."""
    out, marks = bytearray(), 0
    for x, y, t, p in zip(e["x"], e["y"], e["t"], e["p"], strict=True):
        while t - (marks << 13) >= 1 << 23:
            out += bytes([0, 240, 0, 0, 0])
            marks += 1
        stamp = int(t) - (marks << 13)
        out += bytes([int(x), int(y), int(p) << 7 | stamp >> 16, stamp >> 8 & 255, stamp & 255])
    return bytes(out)


def aedat2_bytes(e: dict[str, np.ndarray]) -> bytes:
    address = (127 - e["x"]) << 8 | (127 - e["y"]) << 1 | (1 - e["p"])
    words = np.stack([address, e["t"] % 2**32], axis=1).astype(">u4")
    return HEAD2 + words.tobytes()


def packet(kind: int, body: bytes, size: int, number: int, overflow: int = 0, capacity: int | None = None) -> bytes:
    return struct.pack("<HHIIIIII", kind, 1, size, 4, overflow, capacity or number, number, number) + body


def aedat3_bytes(e: dict[str, np.ndarray], cuts: list[int], valid: np.ndarray | None = None) -> bytes:
    """Packets that begin at ``cuts``, a packet of special events between them."""
    out = bytearray(HEAD3)
    marks = np.ones(len(e["t"]), np.int64) if valid is None else valid
    data = (e["x"] << 17 | e["y"] << 2 | e["p"] << 1 | marks).astype("<u4")
    for start, end in zip(cuts, [*cuts[1:], len(e["t"])], strict=True):
        for over in np.unique(e["t"][start:end] >> 31):  # a packet has one overflow count
            rows = np.arange(start, end)[e["t"][start:end] >> 31 == over]
            body = np.stack([data[rows], (e["t"][rows] & 0x7FFFFFFF).astype("<u4")], axis=1).tobytes()
            out += packet(1, body, 8, len(rows), int(over))
        out += packet(0, b"\x07" * 16, 8, 2)
    return bytes(out)


def spikes_file(path: Path, trains: list[tuple[np.ndarray, np.ndarray]], labels: list[int], keys: list[str]) -> None:
    """An HDF5 file as SHD and SSC are: float16 seconds of variable length."""
    import h5py

    with h5py.File(path, "w") as file:
        group = file.create_group("spikes")
        times = group.create_dataset("times", (len(trains),), dtype=h5py.vlen_dtype(np.float16))
        units = group.create_dataset("units", (len(trains),), dtype=h5py.vlen_dtype(np.uint16))
        for i, (t, u) in enumerate(trains):
            times[i], units[i] = t.astype(np.float16), u.astype(np.uint16)
        file["labels"] = np.asarray(labels, dtype=np.uint16)
        extra = file.create_group("extra")
        extra["speaker"] = np.asarray([i % 3 for i in range(len(trains))], dtype=np.uint16)
        extra["keys"] = np.asarray([k.encode() for k in keys])
