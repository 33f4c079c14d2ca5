"""Speed and memory of spike codec "context" beside zstd -3 and np.packbits.

    python -m benchmarks.codec [--rows 8000] [--out results/codec]

Streams are drawn at random so that nobody needs data: a true train for each row and class, with noise from round to
round. Times are the process's own CPU time on one core, the best of several. Memory is the peak of what numpy and
Python hold while 1,000,000 x 10 x 8 spikes are coded from blocks, against both references, and decoded (native code
allocates one row).
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zstandard

from spikefed.wire import context, contextnative
from spikefed.wire.bitpack import packed_bytes
from spikefed.wire.codec import Memory, SideInfo


def stream(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Global spikes, last upload and this upload, uint8 [rows, 10, 8]."""
    rng = np.random.default_rng(seed)
    rates = np.full((rows, 10), 0.004)
    rates[np.arange(rows), rng.integers(0, 10, rows)] = 0.93
    truth = (rng.random((rows, 10, 8)) < rates[:, :, None]).astype(np.uint8)

    def noisy(share: float) -> np.ndarray:
        trains = rng.random((rows, 10, 1)) < share
        return truth ^ (trains & (rng.random((rows, 10, 8)) < 0.4)).astype(np.uint8)

    return noisy(0.02), noisy(0.04), noisy(0.04)


def best(call: Callable[[], object], repeats: int) -> float:
    """Least CPU seconds of several calls, after one to warm up."""
    call()
    found = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)


def speeds(rows: int, repeats: int = 7) -> list[dict]:
    """Bytes and million spikes a second of each codec, for a predicted message and for pure noise."""
    global_, previous, spikes = stream(rows)
    noise = np.random.default_rng(1).integers(0, 2, spikes.shape, dtype=np.uint8)
    side, shape = SideInfo(np.packbits(global_)), spikes.shape
    _, memory = context.encode_packed(np.packbits(previous), shape, None, side)
    results = []

    def add(codec: str, size: int, encode: Callable[[], object], decode: Callable[[], object]) -> None:
        results.append({
            "codec": codec, "bytes": size, "bytes_per_row": round(size / rows, 4),
            "encode_mspikes_per_s": round(spikes.size / best(encode, repeats) / 1e6, 1),
            "decode_mspikes_per_s": round(spikes.size / best(decode, repeats) / 1e6, 1),
        })  # fmt: skip

    def add_all(name: str, array: np.ndarray) -> None:
        packed, zstd, expander = np.packbits(array), zstandard.ZstdCompressor(level=3), zstandard.ZstdDecompressor()
        payload, _ = context.encode_packed(packed, shape, memory, side)
        add("context" + name, len(payload), lambda: context.encode_packed(packed, shape, memory, side),
            lambda: context.decode_packed(payload, shape, memory, side))  # fmt: skip
        small = zstd.compress(packed.tobytes())
        add("zstd-3 of packed" + name, len(small), lambda: zstd.compress(np.packbits(array).tobytes()),
            lambda: np.unpackbits(np.frombuffer(expander.decompress(small), np.uint8)))  # fmt: skip
        add("np.packbits" + name, packed_bytes(shape), lambda: np.packbits(array), lambda: np.unpackbits(packed))

    add_all("", spikes)
    add_all(" (noise)", noise)
    return results


def peak_megabytes(rows: int = 1_000_000) -> dict[str, float]:
    """Peak allocation while ``rows`` rows are coded and decoded from blocks, and the payload's size."""
    parts, shape = stream(4096), (rows, 10, 8)
    counts = [min(4096, rows - first) for first in range(0, rows, 4096)]
    tracemalloc.start()
    side, last, packed = (context.pack_blocks((part[:n] for n in counts), shape) for part in parts)
    memory = Memory({"previous": last})
    payload, new = context.encode_packed(packed, shape, memory, SideInfo(side))
    del packed, new
    back, _ = context.decode_packed(payload, shape, memory, SideInfo(side))
    same = all(np.array_equal(part, parts[2][: len(part)]) for part in context.unpack_blocks(back, shape))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert same
    return {"rows": rows, "peak_mb": round(peak / 1e6, 1), "payload_bytes": len(payload)}


def main() -> None:
    from benchmarks import provenance

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--out", type=Path, default=Path("results/codec"))
    given = parser.parse_args()
    content = {"native": contextnative.available(), "rows": given.rows, "speed": speeds(given.rows),
               "memory": peak_megabytes()}  # fmt: skip
    for entry in content["speed"]:
        print(f"{entry['codec']:28} {entry['bytes_per_row']:8} B/row  {entry['encode_mspikes_per_s']:9} M/s encode "
              f"{entry['decode_mspikes_per_s']:9} M/s decode")  # fmt: skip
    print(content["memory"])
    print(provenance.write(given.out, "speed", content, sys.argv))


if __name__ == "__main__":
    main()
