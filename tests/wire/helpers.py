"""What several wire tests share."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from spikefed.wire import Plan
from spikefed.wire.header import unpack

PSID = bytes(range(32))


def random_spikes(n: int, c: int, t: int, rate: float = 0.2, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((n, c, t)) < rate).astype(np.uint8)


def fsd_like(rounds: int, n: int = 120, c: int = 10, t: int = 8, clients: int = 3, seed: int = 0) -> list[dict]:
    """Rounds of {"down": spikes or None, "up": {client: spikes}} whose trains repeat from round to round."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, c, n)
    rates = np.full((n, c), 0.02)
    rates[np.arange(n), labels] = 0.9
    truth = (rng.random((n, c, t)) < rates[:, :, None]).astype(np.uint8)
    story, down = [], None
    for number in range(rounds):
        noise = 0.08 / (number + 1)
        up = {k: truth ^ (rng.random((n, c, t)) < noise).astype(np.uint8) for k in range(clients)}
        story.append({"down": down, "up": up})
        down = (np.mean(list(up.values()), axis=0) > 0.5).astype(np.uint8)
    return story


def up_plan(shape: tuple[int, int, int], round: int = 3, client: int | None = 1) -> Plan:
    return Plan.spikes("up", round=round, client=client, shape=shape, public_set_id=PSID)


def header_bytes(packet: bytes) -> int:
    return len(packet) - len(unpack(packet)[1])


def payload(packet: bytes) -> bytes:
    return bytes(unpack(packet)[1])


def repair(packet: bytes | bytearray) -> bytes:
    """The CRC made right, so that a broken packet reaches the code behind it."""
    if len(packet) < 7:
        return bytes(packet)
    fixed = bytearray(packet)
    struct.pack_into("<I", fixed, 3, zlib.crc32(fixed[7:]))
    return bytes(fixed)
