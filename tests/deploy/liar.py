"""A client program that does harm: ``python liar.py story|hang client FILE ...``.

``story`` tells another lie in every round, `STORY` in order; once set aside for them it comes back and fails.
``hang`` takes part in the first round and never answers again.
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from spikefed.federated import Reply, Request
from spikefed.wire.header import pack, unpack

PROGRAM = (sys.executable, str(Path(__file__)))
"""How to start it in a client's place."""


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


STORY = [*SPOIL, "nan-report"]


def main() -> None:
    program = sys.argv[1]
    sys.argv = ["spikefed", *sys.argv[2:]]
    from spikefed.deploy.memory import Memory
    from spikefed.transports.flower import schema

    honest = Memory.handle

    def hang(self: Memory, request: Request, run: str) -> Reply:
        if request.round >= 2:
            time.sleep(3600)
        return honest(self, request, run)

    def story(self: Memory, request: Request, run: str) -> Reply:
        if request.round > len(STORY):
            raise RuntimeError("broken on purpose")
        reply, kind = honest(self, request, run), STORY[request.round - 1]
        if kind in SPOIL:
            return dataclasses.replace(reply, uplink=SPOIL[kind](reply.uplink))
        schema.math = SimpleNamespace(isfinite=lambda value: True)  # type: ignore[attr-defined]
        return dataclasses.replace(reply, report={"loss": math.nan})

    Memory.handle = {"hang": hang, "story": story}[program]  # type: ignore[method-assign]
    from spikefed.cli import main as spikefed

    spikefed()


if __name__ == "__main__":
    main()
