"""Packets of every kind, and ways to break them; used by the fuzz tests and by the coverage-guided fuzzer."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from spikefed.wire import (
    HEADER_BYTES,
    ClassMeansUplink,
    CountUplink,
    LabelUplink,
    Message,
    PartialSpikeUplink,
    Plan,
    ProbabilityUplink,
    SpikeDownlink,
    SpikeUplink,
    WeightsDownlink,
    WeightsUplink,
    codecs,
    select_rows,
)

from .helpers import PSID, random_spikes


def corpus() -> list[tuple[bytes, Plan]]:
    """One small packet of each kind and codec, with its plan."""
    rng = np.random.default_rng(0)
    tensors = {"w": rng.normal(size=(5, 7)).astype(np.float32), "n": np.array(3), "b": np.zeros(4, np.float32)}
    messages: list[Message] = [
        SpikeUplink(2, 1, random_spikes(6, 3, 8), 0.5, PSID),
        SpikeDownlink(2, random_spikes(5, 4, 5, 0.5), PSID),
        PartialSpikeUplink(2, 1, select_rows(random_spikes(6, 3, 8), rng.random(6) < 0.5), 0.5, PSID),
        LabelUplink(2, 1, rng.integers(-1, 10, 30), 0.5, PSID, 10),
        CountUplink(2, 1, rng.integers(0, 9, (6, 3)), 0.5, PSID, 8),
        ProbabilityUplink(2, 1, rng.dirichlet(np.ones(3), 6), 0.5, PSID),
        ClassMeansUplink(2, 1, np.where(rng.random((4, 1)) < 0.3, np.nan, rng.random((4, 3))), 0.5),
        WeightsUplink(2, 1, tensors, 9, 0.5),
        WeightsDownlink(2, tensors),
    ]
    found = []
    for message in messages:
        for info in codecs(message.kind):
            found.append((message.encode(info.name), message.plan()))
    return found


def repair(packet: bytes) -> bytes:
    """Length and CRC made right, so that a broken packet reaches the code behind the header."""
    if len(packet) < HEADER_BYTES:
        return packet
    fixed = bytearray(packet)
    struct.pack_into("<I", fixed, HEADER_BYTES - 16, len(packet) - HEADER_BYTES)
    crc = zlib.crc32(fixed[HEADER_BYTES:], zlib.crc32(fixed[: HEADER_BYTES - 4]))
    struct.pack_into("<I", fixed, HEADER_BYTES - 4, crc)
    return bytes(fixed)


def mutate(packet: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Flip, overwrite, cut, lengthen, splice or replace; two times out of three with length and CRC repaired."""
    broken = bytearray(packet)
    for _ in range(int(rng.integers(1, 4))):
        way = int(rng.integers(7))
        at = int(rng.integers(len(broken))) if broken else 0
        if way == 0 and broken:
            broken[at] ^= 1 << int(rng.integers(8))
        elif way == 1 and broken:
            broken[at] = int(rng.choice([0, 1, 127, 128, 255, int(rng.integers(256))]))
        elif way == 2:
            del broken[at:]
        elif way == 3:
            broken += rng.bytes(int(rng.integers(1, 20)))
        elif way == 4:
            broken = broken[:at] + bytearray(other[at:])
        elif way == 5 and len(broken) > HEADER_BYTES:  # payload only: most of these pass the header
            place = int(rng.integers(HEADER_BYTES, len(broken)))
            broken[place : place + 4] = rng.bytes(min(4, len(broken) - place))
        elif way == 6 and len(broken) > HEADER_BYTES:
            broken[HEADER_BYTES:] = rng.bytes(len(broken) - HEADER_BYTES)
    return repair(bytes(broken)) if rng.random() < 0.67 else bytes(broken)
