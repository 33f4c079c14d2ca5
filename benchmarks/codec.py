"""Speed and memory of spike codec "context" beside zstd -3 and np.packbits.

    python -m benchmarks.codec [--rows 8000] [--out results/codec]

Streams are drawn at random so that nobody needs data: a true train for each row and class, with noise from round to
round. Times are the process's own CPU time on one core, the best of several. Memory is the peak while a message of
1,000,000 x 10 x 8 spikes goes from blocks through a client's and a server's link, both in one process, to blocks again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import zstandard

from spikefed.wire import ClientLink, PackedSpikes, ServerLink, SpikeDownlink, SpikeUplink, context, contextnative
from spikefed.wire.codec import SideInfo
from spikefed.wire.packed import packed_bytes


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


def twin_seconds(rows: int = 2000) -> dict[str, float]:
    """CPU seconds of one decode without the native library: a predicted message, and the slowest payload there is."""
    shape, results = (rows, 10, 8), {"rows": rows}
    spikes = {"predicted": stream(rows)[2], "slowest": np.zeros(shape, np.uint8)}
    spikes["slowest"][:, :, ::2] = 1  # no train is silent or full: nine decisions each, though few bytes
    for name, array in spikes.items():
        payload, _ = context.encode_packed(np.packbits(array), shape)
        with mock.patch.object(contextnative, "available", lambda: False):
            results[f"{name}_s"] = round(best(lambda payload=payload: context.decode_packed(payload, shape), 1), 2)
    return results


def peak_megabytes(rows: int = 1_000_000) -> dict[str, float | None]:
    """Peak memory while a message of ``rows`` rows goes through both links and comes back as blocks.

    ``python_mb``: allocations of numpy and Python (tracemalloc). ``resident_mb``: how far the resident size of a
    process of its own rises meanwhile, native memory included (None where the system does not tell).
    """
    tracemalloc.start()
    size = roundtrip(rows)
    python = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    code = f"from benchmarks.codec import resident_growth; print(resident_growth({rows}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {"rows": rows, "packet_bytes": size, "python_mb": round(python / 1e6, 1),
            "resident_mb": round(int(done.stdout) / 1e6, 1) if done.stdout.strip() != "None" else None}  # fmt: skip


def roundtrip(rows: int) -> int:
    """Send ``rows`` rows from blocks against global spikes that both ends hold; returns the packet's length."""
    parts, shape, ident = stream(4096), (rows, 10, 8), bytes(32)
    counts = [min(4096, rows - first) for first in range(0, rows, 4096)]
    server, client = ServerLink("context", "bitpack"), ClientLink(0, "context", "bitpack")

    def packed(part: np.ndarray) -> PackedSpikes:
        return PackedSpikes.from_blocks((part[:n] for n in counts), shape)

    down = SpikeDownlink(1, packed(parts[0]), ident)  # type: ignore[arg-type]
    client.decode(server.encode(down, client=0), down.plan().for_client(0))
    del down
    up = SpikeUplink(1, 0, packed(parts[2]), 0.5, ident)  # type: ignore[arg-type]
    plan, data = up.plan(), client.encode(up)
    del up
    back = server.decode(data, plan)
    assert isinstance(back, SpikeUplink)
    assert all(np.array_equal(part, parts[2][: len(part)]) for part in back.packed.blocks())
    return len(data)


def resident_growth(rows: int) -> int | None:
    """Bytes by which this process's resident size rises, at its highest, during ``roundtrip`` (Linux)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None

    def kilobytes(name: str) -> int:
        return int(next(line for line in status.read_text().splitlines() if line.startswith(name)).split()[1])

    roundtrip(4096)  # libraries and tables are in place
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark falls to what is held now
    before = kilobytes("VmRSS")
    roundtrip(rows)
    return 1024 * (kilobytes("VmHWM") - before)


def main() -> None:
    from benchmarks import provenance

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--out", type=Path, default=Path("results/codec"))
    given = parser.parse_args()
    content = {"native": contextnative.available(), "rows": given.rows, "speed": speeds(given.rows),
               "memory": peak_megabytes(), "without_native": twin_seconds()}  # fmt: skip
    for entry in content["speed"]:
        print(f"{entry['codec']:28} {entry['bytes_per_row']:8} B/row  {entry['encode_mspikes_per_s']:9} M/s encode "
              f"{entry['decode_mspikes_per_s']:9} M/s decode")  # fmt: skip
    print(content["memory"], content["without_native"])
    print(provenance.write(given.out, "speed", content, sys.argv))


if __name__ == "__main__":
    main()
