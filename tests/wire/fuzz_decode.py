"""Coverage-guided fuzzing of ``decode`` with atheris: ``python tests/wire/fuzz_decode.py -atheris_runs=1000000``.

The first input byte chooses a packet of the corpus and whether the CRC is repaired; the rest is put over it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris  # pyright: ignore[reportMissingImports]

sys.path.insert(0, str(Path(__file__).parents[2]))
with atheris.instrument_imports(include=["spikefed.wire"]):
    from spikefed.wire import PacketError, decode

from tests.wire.helpers import repair  # noqa: E402
from tests.wire.mutation import corpus  # noqa: E402

PACKETS = corpus()


def one_input(data: bytes) -> None:
    if len(data) < 3:
        return
    packet, plan = PACKETS[data[0] % len(PACKETS)]
    at = min(data[1], len(packet))
    broken = packet[:at] + data[3:] + (packet[at + len(data) - 3 :] if data[2] & 1 else b"")
    try:
        decode(repair(broken) if data[2] & 2 else broken, plan)
    except PacketError as error:
        if error.__cause__ is not None:
            raise error.__cause__ from error


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
