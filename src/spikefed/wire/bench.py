"""Replays a recorded run through every codec: ``spikefed codec bench RUN``."""

from __future__ import annotations

import json
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from spikefed.errors import ReportError
from spikefed.wire.header import unpack
from spikefed.wire.ideal import ideal
from spikefed.wire.links import ClientLink, ServerLink
from spikefed.wire.messages import Message, SpikeDownlink, SpikeUplink
from spikefed.wire.rowmessages import CountDownlink, CountUplink, LabelDownlink, LabelUplink
from spikefed.wire.sizes import text_equivalent_bytes

_ID = bytes(32)


@dataclass(frozen=True)
class Streams:
    """Recorded spikes of a run.

    Attributes:
        up: per round, client -> uint8 [N, C, T].
        down: per round, what the *next* round's downlink carries, or None.
        near: rows with alike public images, or None.
    """

    up: list[dict[int, np.ndarray]]
    down: list[np.ndarray | None]
    near: np.ndarray | None = None


@dataclass
class CodecResult:
    """Bytes of one codec over a run; packets include their headers, payloads do not."""

    codec: str
    upstream_bytes: int = 0
    downstream_bytes: int = 0
    upstream_payload_bytes: int = 0
    downstream_payload_bytes: int = 0
    up_by_round: list[int] = field(default_factory=list[int])
    down_by_round: list[int] = field(default_factory=list[int])
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0
    spikes: int = 0
    warm: bool = False

    def add_times(self, encode_s: float, decode_s: float, spikes: int) -> None:
        """Times of one message; those of the first are dropped, which finds tables and caches cold."""
        if self.warm:
            self.encode_seconds += encode_s
            self.decode_seconds += decode_s
            self.spikes += spikes
        self.warm = True

    def as_dict(self) -> dict[str, Any]:
        """JSON form, with the speed over all messages in million spikes a second."""
        values = {
            name: value
            for name, value in vars(self).items()
            if not name.endswith("seconds") and name not in ("spikes", "warm")
        }
        if self.encode_seconds > 0 and self.decode_seconds > 0:
            values["encode_mspikes_per_s"] = round(self.spikes / self.encode_seconds / 1e6, 2)
            values["decode_mspikes_per_s"] = round(self.spikes / self.decode_seconds / 1e6, 2)
        return values


def read_streams(run: Path, near: np.ndarray | None = None) -> Streams:
    """The spike tensors in RUN/streams. Raises ReportError when there are none or one cannot be read.

    ``near`` is int64 ``[N]``.
    """
    paths = sorted(Path(run).glob("streams/round-*.npz"))
    if not paths:
        raise ReportError(f"{run} holds no recorded spikes; run it again with --set run.record_streams=true")
    streams = Streams([], [], near)
    for path in paths:
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                n, c, t = (int(size) for size in arrays["shape"])
                trains = {
                    name: np.unpackbits(arrays[name], count=n * c * t).reshape(n, c, t)
                    for name in arrays.files
                    if name == "down" or name.startswith("up_")
                }
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ReportError(f"{path} cannot be read ({error}); run the experiment again") from error
        streams.up.append({int(name[3:]): array for name, array in sorted(trains.items()) if name != "down"})
        streams.down.append(trains.get("down"))
    return streams


def codec_bench(run: Path | str, near: np.ndarray | None = None) -> dict[str, Any]:
    """All codecs on the recorded spikes of a run folder.

    Args:
        run: run folder with ``streams/``.
        near: ``nearest_rows`` of the run's public images; adds codec "context+near".

    Returns:
        {"run", "rounds", "clients", "shape", "codecs": [{"codec", "upstream_bytes", "downstream_bytes",
        "upstream_payload_bytes", ..., "up_by_round", "down_by_round", "encode_mspikes_per_s", ...}],
        "ideal"}; bytes are sums over clients and rounds, "ideal" (and "ideal_near") is that of ``ideal.ideal``. Times
        are the processor time of this process, the first message's not counted.

    Raises:
        ReportError: no recorded spikes.
    """
    streams = read_streams(Path(run), near)
    shape = next(iter(streams.up[0].values())).shape
    results = [_text(streams), _text_zstd(streams)]
    results += [_linked(streams, name, name) for name in ("bitpack", "context")]
    if near is not None:
        results.append(_linked(streams, "context+near", "context", near))
    results.append(_packed(streams, "zstd-3", *_zstd(3)))
    results.append(_packed(streams, "zstd-19", *_zstd(19)))
    results += [
        _rows(streams, f"{kind}-{how}", kind, how) for kind in ("counts", "labels") for how in ("plain", "context")
    ]
    return {
        "run": Path(run).name,
        "rounds": len(streams.up),
        "clients": len(streams.up[0]),
        "shape": list(shape),
        "codecs": [result.as_dict() for result in results],
        "ideal": ideal(streams.up, streams.down),
        **({"ideal_near": ideal(streams.up, streams.down, near)} if near is not None else {}),
    }


def _linked(streams: Streams, label: str, codec: str, near: np.ndarray | None = None) -> CodecResult:
    """Real links at both ends, every packet decoded and compared."""
    return _replay(
        streams, CodecResult(label), ServerLink(codec, codec, near=near),
        lambda c: ClientLink(c, codec, codec, near=near),
        lambda r, c, spikes: SpikeUplink(r, c, spikes, 0.0, _ID), lambda r, spikes: SpikeDownlink(r, spikes, _ID),
    )  # fmt: skip


def _rows(streams: Streams, label: str, kind: str, codec: str) -> CodecResult:
    """What a method would send that uses only counts or labels of the same spikes, both ways."""

    def up(r: int, c: int, spikes: np.ndarray) -> Message:
        counts = spikes.sum(axis=2, dtype=np.int64)
        if kind == "counts":
            return CountUplink(r, c, counts, 0.0, _ID, spikes.shape[2])
        return LabelUplink(r, c, counts.argmax(axis=1), 0.0, _ID, spikes.shape[1])

    def down(r: int, spikes: np.ndarray) -> Message:
        counts = spikes.sum(axis=2, dtype=np.int64)
        if kind == "counts":
            return CountDownlink(r, counts, _ID, spikes.shape[2])
        return LabelDownlink(r, counts.argmax(axis=1), _ID, spikes.shape[1])

    return _replay(streams, CodecResult(label), ServerLink(codec, codec), lambda c: ClientLink(c, codec, codec),
                   up, down)  # fmt: skip


def _replay(
    streams: Streams, result: CodecResult, server: ServerLink, make_client: Callable[[int], ClientLink],
    up: Callable[[int, int, np.ndarray], Message], down: Callable[[int, np.ndarray], Message] | None,
) -> CodecResult:  # fmt: skip
    clients: dict[int, ClientLink] = {}
    last: np.ndarray | None = None
    for number, uploads in enumerate(streams.up, start=1):
        up_bytes = down_bytes = 0
        message = down(number, last) if down is not None and last is not None else None
        for c, spikes in uploads.items():
            client = clients.setdefault(c, make_client(c))
            if message is not None:
                data, seconds = _timed(server.encode, message, client=c)
                _, decode_seconds = _timed(client.decode, data, message.plan().for_client(c))
                down_bytes += len(data)
                result.downstream_payload_bytes += _payload_bytes(data)
            reply = up(number, c, spikes)
            data, seconds = _timed(client.encode, reply)
            back, decode_seconds = _timed(server.decode, data, reply.plan())
            if not np.array_equal(back.content, reply.content):
                raise AssertionError(f"codec {result.codec} did not return what it was given")
            up_bytes += len(data)
            result.upstream_payload_bytes += _payload_bytes(data)
            result.add_times(seconds, decode_seconds, spikes.size)
        result.up_by_round.append(up_bytes)
        result.down_by_round.append(down_bytes)
        last = streams.down[number - 1]
    result.upstream_bytes = sum(result.up_by_round)
    result.downstream_bytes = sum(result.down_by_round)
    return result


def _text(streams: Streams) -> CodecResult:
    """The paper's JSON text, which has no header."""
    return _sized(streams, CodecResult("json-text"), text_equivalent_bytes, header=False)


def _text_zstd(streams: Streams) -> CodecResult:
    """The real text of every message, compressed by zstd -19."""
    squeeze = zstandard.ZstdCompressor(level=19).compress

    def size(spikes: np.ndarray) -> int:
        values = np.packbits(spikes, axis=2)  # bytes of each train, first step first
        shift = -spikes.shape[2] % 8
        nested = [[[int.from_bytes(train, "big") >> shift] for train in row] for row in values]
        return len(squeeze(json.dumps(nested).encode()))

    return _sized(streams, CodecResult("json-text-zstd-19"), size, header=False)


def _packed(
    streams: Streams, label: str, pack: Callable[[bytes], bytes], unpack: Callable[[bytes], bytes]
) -> CodecResult:
    """A general compressor on Algorithm 2's bits."""
    result = CodecResult(label)

    def size(spikes: np.ndarray) -> int:
        packed = np.packbits(spikes.reshape(-1)).tobytes()
        data, seconds = _timed(pack, packed)
        back, decode_seconds = _timed(unpack, data)
        if back != packed:
            raise AssertionError(f"codec {label} did not return what it was given")
        result.add_times(seconds, decode_seconds, spikes.size)
        return len(data)

    return _sized(streams, result, size, header=True)


def _sized(streams: Streams, result: CodecResult, size: Callable[[np.ndarray], int], header: bool) -> CodecResult:
    """Sums of sizes; with ``header``, those of the headers of real packets without references are added."""
    last: np.ndarray | None = None
    for number, (uploads, down) in enumerate(zip(streams.up, streams.down, strict=True), start=1):
        sizes = [size(spikes) for spikes in uploads.values()]
        downs = [size(last)] * len(uploads) if last is not None else []
        messages = [SpikeUplink(number, c, spikes, 0.0, _ID) for c, spikes in uploads.items()] if header else []
        heads = [_header_bytes(message.encode()) for message in messages]
        down_head = _header_bytes(SpikeDownlink(number, last, _ID).encode()) if header and last is not None else 0
        result.upstream_payload_bytes += sum(sizes)
        result.downstream_payload_bytes += sum(downs)
        result.up_by_round.append(sum(sizes) + sum(heads))
        result.down_by_round.append(sum(downs) + down_head * len(downs))
        last = down
    result.upstream_bytes = sum(result.up_by_round)
    result.downstream_bytes = sum(result.down_by_round)
    return result


def _zstd(level: int) -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
    return zstandard.ZstdCompressor(level=level).compress, zstandard.ZstdDecompressor().decompress


def table(bench: dict[str, Any]) -> Iterable[tuple[str, ...]]:
    """Rows for a terminal: codec, up and down bytes, ratio to Algorithm 2 upstream, bytes a row, speeds."""
    paper = next(entry for entry in bench["codecs"] if entry["codec"] == "bitpack")["upstream_payload_bytes"]
    rows = bench["shape"][0] * bench["rounds"] * bench["clients"]
    for entry in bench["codecs"]:
        up = entry["upstream_bytes"]
        yield (
            entry["codec"], f"{up:,}", f"{entry['downstream_bytes']:,}", f"1/{paper / up:.2f}" if up else "-",
            f"{entry['upstream_payload_bytes'] / max(rows, 1):.3f}", f"{entry.get('encode_mspikes_per_s', '-')}",
            f"{entry.get('decode_mspikes_per_s', '-')}",
        )  # fmt: skip


def round_lines(bench: dict[str, Any]) -> Iterable[str]:
    """Lines for a terminal: bytes of each codec by round, up and down, all clients together, headers included; below
    them the entropy of the spikes under the contexts of codec "context" (sum of -log2 p; no headers, and a downlink,
    which all clients read alike, counted once).
    """
    rounds = range(1, bench["rounds"] + 1)
    yield f"{'bytes by round':24}" + "".join(f"{number:>9}" for number in rounds)
    for entry in bench["codecs"]:
        for way in ("up", "down"):
            yield f"{entry['codec']:19}{way:5}" + "".join(f"{size:>9,}" for size in entry[f"{way}_by_round"])
    for name, label in (("ideal", "entropy"), ("ideal_near", "entropy+near")):
        for way in ("up", "down") if name in bench else ():
            cells = "".join(f"{row[f'{way}_bits'] / 8:>9,.0f}" for row in bench[name]["by_round"])
            yield f"{label:19}{way:5}{cells}"
    for name, label in (("ideal", "context"), ("ideal_near", "context+near")):
        for way, start in (("up", ""), ("down", "downstream_")) if name in bench else ():
            coded, ideal = (bench[name][key] / 8 for key in (f"{start}coded_bits", f"{way}stream_bits"))
            excess = bench[name][f"{start}excess"]
            once = ", once for all clients" if way == "down" else ""
            yield f"{label} {way}{once}: payloads of {coded:,.0f} bytes, entropy {ideal:,.0f} bytes, {excess:.2%} above"


def _header_bytes(packet: bytes) -> int:
    return len(packet) - _payload_bytes(packet)


def _payload_bytes(packet: bytes) -> int:
    return len(unpack(packet)[1])


def _timed(call: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, float]:
    start = time.process_time()
    result = call(*args, **kwargs)
    return result, time.process_time() - start
