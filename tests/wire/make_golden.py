"""Writes tests/golden/packets.json: ``python -m tests.wire.make_golden``. Only for a new format version, or where a
lossy encoder chooses otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from spikefed.wire import (
    ClassMeansUplink,
    ClientLink,
    CountUplink,
    HintSpikeUplink,
    LabelUplink,
    Message,
    PartialSpikeUplink,
    ProbabilityUplink,
    SelectedWeightsUplink,
    ServerLink,
    SpikeDownlink,
    SpikeUplink,
    WeightsUplink,
    codecs,
    decode,
    nearest_rows,
    select_rows,
)
from spikefed.wire.masked import MaskedVotes, MaskedVoteUplink

from .helpers import PSID, fsd_like, random_spikes

PATH = Path(__file__).parents[1] / "golden" / "packets.json"
IMAGES = np.add.outer(np.arange(24) % 6, np.arange(4)).astype(np.uint8).reshape(24, 1, 2, 2)


def singles() -> list[tuple[str, Message, str]]:
    """Name, message and codec of packets that need no state; contents are made of plain arithmetic."""
    ramp = np.arange(36, dtype=np.float32).reshape(4, 9)
    tensors: dict[str, np.ndarray] = {
        "w": ramp / 16 - 1,
        "steps": np.array(5),
        "b": np.array([0.5, -0.25, 0.0], np.float32),
    }
    tensors["kept"] = np.array([0.1, 3.0], np.float32)
    labels, counts = np.arange(40) * 7 % 11 - 1, np.arange(30).reshape(10, 3) * 5 % 9
    soft = np.ones((5, 4), np.float32) / 4
    found: list[tuple[str, Message, str]] = []
    for codec in ("bitpack", "context"):
        for t in (1, 5, 8, 64):
            found.append((f"spikes-{codec}-{t}", SpikeUplink(3, 2, random_spikes(6, 4, t, 0.2, t), 0.75, PSID), codec))
        found.append((f"spikes-{codec}-silent", SpikeUplink(3, 2, np.zeros((9, 5, 8), np.uint8), 0.75, PSID), codec))
    for codec in ("plain", "context"):
        found.append((f"labels-{codec}", LabelUplink(3, 2, labels, 0.75, PSID, 10), codec))
        found.append((f"counts-{codec}", CountUplink(3, 2, counts, 0.75, PSID, 8), codec))
    found += [
        (f"probabilities-{codec}", ProbabilityUplink(3, 2, soft, 0.75, PSID), codec)
        for codec in ("fp16", "float32", "fp16-zstd")
    ]
    means = np.where(np.arange(4)[:, None] == 1, np.nan, ramp)
    for info in codecs("class-means"):
        found.append((f"class-means-{info.name}", ClassMeansUplink(3, 2, means, 0.75), info.name))
    for info in codecs("weights"):
        message = WeightsUplink(3, 2, tensors, 100, 0.75, exact=("kept",))
        found.append((f"weights-{info.name}", message, info.name))
    kept = {"w": np.arange(36).reshape(4, 9) % 5 == 1, "b": np.array([True, False, True])}
    whole = {"steps": None, "kept": None}
    for info in codecs("selected-weights"):
        selected = SelectedWeightsUplink(3, 2, tensors, kept, 100, 0.75, exact=("kept",))
        found.append((f"selected-weights-{info.name}", selected, info.name))
    known = WeightsUplink(3, 2, tensors, 100, 0.75, exact=("kept",), kept={**kept, **whole})
    found.append(("weights-selection-float32", known, "float32"))
    partial = select_rows(random_spikes(9, 4, 8), np.arange(9) % 3 == 0)
    found.append(("partial-spikes-context", PartialSpikeUplink(3, 2, partial, 0.75, PSID), "context"))
    # Regular enough to be coded, not sent as plain bits.
    regular = random_spikes(40, 4, 8, 0.05) | (np.arange(4) == 1).astype(np.uint8)[None, :, None]
    sent = select_rows(regular, np.arange(40) < 30)
    found += [
        ("labels-context-coded", LabelUplink(3, 2, np.repeat(np.arange(5), 60), 0.75, PSID, 10), "context"),
        ("counts-context-coded", CountUplink(3, 2, regular.sum(axis=2, dtype=int), 0.75, PSID, 8), "context"),
        ("partial-spikes-context-coded", PartialSpikeUplink(3, 2, sent, 0.75, PSID), "context"),
        ("hint-spikes-context-coded", HintSpikeUplink(3, 2, regular, regular[:, ::-1], 0.75, PSID), "context"),
    ]
    votes = MaskedVotes(np.arange(49, dtype=np.uint16) * 251 % 1024, 10)
    found.append(("masked-votes-ring", MaskedVoteUplink(3, 2, votes, (4, 3, 4), PSID), "ring"))
    for info in codecs("hint-spikes"):
        message = HintSpikeUplink(3, 2, random_spikes(6, 4, 8), random_spikes(6, 7, 8), 0.75, PSID)
        found.append((f"hint-spikes-{info.name}", message, info.name))
    return found


def stream(near: bool) -> list[bytes]:
    """Down and up packets of three rounds of one client."""
    rows = nearest_rows(IMAGES) if near else None
    server, client = ServerLink("context", "context", near=rows), ClientLink(0, "context", "context", near=rows)
    packets = []
    for number, step in enumerate(fsd_like(3, n=24, c=5, clients=1), start=1):
        if step["down"] is not None:
            message = SpikeDownlink(number, step["down"], PSID)
            packets.append(server.encode(message, client=0))
            client.decode(packets[-1], message.plan().for_client(0))
        up = SpikeUplink(number, 0, step["up"][0], 0.75, PSID)
        packets.append(client.encode(up))
        server.decode(packets[-1], up.plan())
    return packets


def content_of(message: Message) -> Any:
    """JSON form of a content: Algorithm 2 bits in hex for spikes, lists elsewhere (NaN as null)."""
    content = message.content
    if message.kind == "spikes":
        return np.packbits(content.reshape(-1)).tobytes().hex()
    if message.kind == "partial-spikes":
        return {"rows": content.rows.astype(int).tolist(), "spikes": np.packbits(content.spikes).tobytes().hex()}
    if message.kind == "hint-spikes":
        return {
            "spikes": np.packbits(content.spikes).tobytes().hex(),
            "hint": np.packbits(content.hint).tobytes().hex(),
        }
    if isinstance(message, WeightsUplink | SelectedWeightsUplink):
        kept = {n: m.astype(int).tolist() for n, m in (message.kept or {}).items() if m is not None}
        return {n: array.tolist() for n, array in content.items()} | ({"which": kept} if kept else {})
    return json.loads(json.dumps(content.tolist()).replace("NaN", "null"))


def entry_of(message: Message, codec: str) -> dict[str, Any]:
    packet = message.encode(codec)
    entry = {"kind": message.kind, "codec": codec, "shape": list(message.plan().header_shape),
             "content": content_of(message), "packet": packet.hex()}  # fmt: skip
    decoded = content_of(decode(packet, message.plan()))
    return entry if decoded == entry["content"] else {**entry, "decoded": decoded}


def golden() -> dict[str, Any]:
    packets = {name: entry_of(message, codec) for name, message, codec in singles()}
    streams = {}
    for near in (False, True):
        story = fsd_like(3, n=24, c=5, clients=1)
        spikes = [s for step in story for s in ([step["down"]] if step["down"] is not None else []) + [step["up"][0]]]
        streams["near" if near else "plain"] = [
            {"content": np.packbits(s.reshape(-1)).tobytes().hex(), "packet": packet.hex()}
            for s, packet in zip(spikes, stream(near), strict=True)
        ]
    near_rows = nearest_rows(IMAGES)
    assert near_rows is not None
    return {
        "about": "packets of docs/wire-format.md; spikes as Algorithm 2 bits; streams are [24, 5, 8], one client",
        "packets": packets,
        "streams": streams,
        "near": near_rows.tolist(),
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(golden(), indent=1) + "\n", encoding="utf-8")
