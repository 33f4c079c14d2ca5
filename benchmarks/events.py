"""Events decoded a second on one core, beside tonic and SpikingJelly, and faery on a format of its own.

    python benchmarks/events.py [--events 2000000]

Files are written in the published layouts into a temporary folder. Processor time, one thread, median of five, all
readers in turn in one process. Readers of peers run without the packages around them (tests/data/events/peers.py).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import provenance  # noqa: E402
from tests.data.events import writers  # noqa: E402
from tests.data.events.peers import peer  # noqa: E402

from spikefed.data.events import frames, read_aedat2, read_aedat3, read_nmnist, read_spikes  # noqa: E402

REPEATS = 5


def main() -> None:
    """Write files, time readers, print a table and keep a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000, help="events of each format")
    count = parser.parse_args().events
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), count)
    for row in rows:
        print(f"{row['format']:22} {row['reader']:13} {row['events_per_second'] / 1e6:8.2f} M events/s")
    content = {"events": count, "threads": 1, "clock": "cpu", "rows": rows}
    print(f"written: {provenance.write(ROOT / 'results' / 'bench', 'events', content, sys.argv)}")


def measure(folder: Path, count: int) -> list[dict[str, Any]]:
    """One row a reader and format."""
    rng = np.random.default_rng(0)
    small = writers.random_events(rng, count, 34, 300_000)
    rows = np.empty((count, 5), np.uint8)
    rows[:, 0], rows[:, 1] = small["x"], small["y"]
    rows[:, 2] = small["p"] << 7 | small["t"] >> 16
    rows[:, 3], rows[:, 4] = small["t"] >> 8 & 255, small["t"] & 255
    rows.tofile(folder / "n.bin")
    large = writers.random_events(rng, count, 128, 6_000_000)
    (folder / "a2.aedat").write_bytes(writers.aedat2_bytes(large))
    (folder / "a3.aedat").write_bytes(plain_aedat3(large, 4096))
    trains = [(np.sort(rng.random(5000)), rng.integers(0, 700, 5000)) for _ in range(max(1, count // 5000))]
    writers.spikes_file(folder / "shd_train.h5", trains, [0] * len(trains), ["a"])
    held = read_spikes(folder / "shd_train.h5")
    everything = np.arange(len(trains))
    events = read_nmnist(folder / "n.bin")
    calls: dict[tuple[str, str], Callable[[], Any]] = {
        ("N-MNIST", "spikefed"): lambda: read_nmnist(folder / "n.bin"),
        ("AEDAT 2.0", "spikefed"): lambda: read_aedat2(folder / "a2.aedat"),
        ("AEDAT 3.1", "spikefed"): lambda: read_aedat3(folder / "a3.aedat"),
        ("SHD", "spikefed"): lambda: held.events(everything),
        ("frames by time, T = 8", "spikefed"): lambda: frames(events, 8, (34, 34)),
        ("frames by count, T = 8", "spikefed"): lambda: frames(events, 8, (34, 34), by="count"),
    }
    calls |= peers(folder, small)
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for _ in range(REPEATS):
        for key, call in calls.items():
            begun = time.process_time()
            call()
            seconds[key].append(time.process_time() - begun)
    return [
        {
            "format": form, "reader": reader, "events_per_second": round(count / statistics.median(taken)),
            "seconds": [round(value, 4) for value in taken],
        }
        for (form, reader), taken in seconds.items()
    ]  # fmt: skip


def plain_aedat3(events: dict[str, np.ndarray], per_packet: int) -> bytes:
    """Packets of polarity events only."""
    address = events["x"] << 17 | events["y"] << 2 | events["p"] << 1 | 1
    words = np.stack([address, events["t"]], axis=1).astype("<u4")
    cuts = range(0, len(words), per_packet)
    packets = [writers.packet(1, words[c : c + per_packet].tobytes(), 8, len(words[c : c + per_packet])) for c in cuts]
    return writers.HEAD3 + b"".join(packets)


def peers(folder: Path, small: dict[str, np.ndarray]) -> dict[tuple[str, str], Callable[[], Any]]:
    """The readers of other libraries that are installed."""
    calls: dict[tuple[str, str], Callable[[], Any]] = {}
    try:
        io, to_frame = peer("tonic.io"), peer("tonic.functional.to_frame")
    except BaseException as error:  # pytest's skip is no Exception
        print(f"tonic is left out: {error}")
    else:
        dtype = np.dtype([(key, int) for key in "xytp"])
        given = np.zeros(len(small["t"]), dtype)
        for key in "xytp":
            given[key] = small[key]
        calls["N-MNIST", "tonic"] = lambda: io.read_mnist_file(str(folder / "n.bin"), dtype=dtype)
        calls["frames by time, T = 8", "tonic"] = lambda: to_frame.to_frame_numpy(
            given.copy(), (34, 34, 2), n_time_bins=8
        )
    try:
        jelly, dvs = peer("spikingjelly.datasets.utils"), peer("spikingjelly.datasets.cifar10_dvs")
    except BaseException as error:
        print(f"SpikingJelly is left out: {error}")
    else:
        calls["N-MNIST", "SpikingJelly"] = lambda: jelly.load_ATIS_bin(folder / "n.bin")
        calls["AEDAT 2.0", "SpikingJelly"] = lambda: dvs._load_origin_data(folder / "a2.aedat")
        calls["AEDAT 3.1", "SpikingJelly"] = lambda: jelly.load_aedat_v3(folder / "a3.aedat")
        for word, form in (("time", "frames by time, T = 8"), ("number", "frames by count, T = 8")):
            calls[form, "SpikingJelly"] = lambda word=word: jelly.integrate_events_by_fixed_frames_number(
                small, word, 8, 34, 34
            )
    try:
        import faery  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        print(f"faery is left out: {error}")
    else:  # it reads none of these four formats; its own compact one stands for it
        kept = np.zeros(len(small["t"]), faery.EVENTS_DTYPE)
        kept["t"], kept["x"], kept["y"], kept["on"] = (small[key] for key in "txyp")
        faery.events_stream_from_array(kept, (34, 34)).to_file(folder / "f.es")
        calls["ES", "faery"] = lambda: faery.events_stream_from_file(folder / "f.es").to_array()
    return calls


if __name__ == "__main__":
    main()
