"""A client program whose replies are spoiled in one named way: ``python liar.py KIND client FILE ...``."""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import time
from collections.abc import Callable

from spikefed.federated import Reply, Request
from spikefed.wire.header import pack, unpack


def header(data: bytes, **changes: object) -> bytes:
    """The packet with other header fields and a checksum that fits them."""
    found, payload = unpack(data)
    return pack(dataclasses.replace(found, **changes), bytes(payload))


def two_gigabytes(data: bytes) -> bytes:
    """The packet claims a shape whose spikes would take 2 GB."""
    return header(data, shape=(50_000_000, 10, 32))


SPOIL: dict[str, Callable[[bytes], bytes]] = {
    "random-bytes": lambda data: os.urandom(len(data)),
    "other-round": lambda data: header(data, round=77),
    "other-public-set": lambda data: header(data, content_id=bytes(8), reference=bytes(8)),
    "nan-accuracy": lambda data: header(data, accuracy=math.nan),
    "accuracy-7": lambda data: header(data, accuracy=7.0),
    "2-gb-claim": two_gigabytes,
}


def main() -> None:
    kind = sys.argv[1]
    sys.argv = ["spikefed", *sys.argv[2:]]
    from spikefed.deploy.memory import Memory
    from spikefed.transports.flower import schema

    if kind == "nan-report":
        schema.math.isfinite = lambda value: True  # type: ignore[assignment]
    honest = Memory.handle

    def handle(self: Memory, request: Request, run: str) -> Reply:
        if kind == "hang":
            if request.round >= 2:
                time.sleep(3600)
            return honest(self, request, run)
        if kind == "raise":
            raise RuntimeError("broken on purpose")
        reply = honest(self, request, run)
        if kind == "nan-report":
            return dataclasses.replace(reply, report={"loss": math.nan})
        return dataclasses.replace(reply, uplink=SPOIL[kind](reply.uplink)) if reply.uplink else reply

    Memory.handle = handle  # type: ignore[method-assign]
    from spikefed.cli import main as spikefed

    spikefed()


if __name__ == "__main__":
    main()
