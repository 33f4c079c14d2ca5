"""Packets of every kind, and ways to break them; used by the fuzz tests and by the coverage-guided fuzzer."""

from __future__ import annotations

import numpy as np

from spikefed.wire import (
    ClassMeansDownlink,
    ClassMeansUplink,
    CountDownlink,
    CountUplink,
    HintSpikeUplink,
    LabelDownlink,
    LabelUplink,
    Message,
    PartialSpikeDownlink,
    PartialSpikeUplink,
    Plan,
    ProbabilityDownlink,
    ProbabilityUplink,
    SelectedWeightsDownlink,
    SelectedWeightsUplink,
    SpikeDownlink,
    SpikeUplink,
    WeightsDownlink,
    WeightsUplink,
    codecs,
    select_rows,
)
from spikefed.wire.masked import MaskedVotes, MaskedVoteUplink

from .helpers import PSID, header_bytes, random_spikes, repair


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
        WeightsUplink(2, 1, tensors, 9, 0.5, exact=("b",)),
        WeightsDownlink(2, tensors),
        WeightsUplink(2, 1, tensors, 9, 0.5, kept={"w": rng.random((5, 7)) < 0.4, "n": None, "b": None}),
        SelectedWeightsUplink(2, 1, tensors, {"w": rng.random((5, 7)) < 0.1, "b": np.ones(4, bool)}, 9, 0.5),
        SelectedWeightsDownlink(2, tensors, {"w": rng.random((5, 7)) < 0.6}, exact=("b",)),
        MaskedVoteUplink(2, 1, MaskedVotes(rng.integers(0, 1 << 13, 145, dtype=np.uint16), 13), (6, 3, 8), PSID),
        HintSpikeUplink(2, 1, random_spikes(6, 3, 8), random_spikes(6, 5, 8), 0.5, PSID),
        PartialSpikeDownlink(2, select_rows(random_spikes(6, 3, 1), rng.random(6) < 0.5), PSID),
        LabelDownlink(2, rng.integers(-1, 10, 30), PSID, 10),
        CountDownlink(2, rng.integers(0, 9, (6, 3)), PSID, 8),
        ProbabilityDownlink(2, rng.dirichlet(np.ones(3), 6), PSID),
        ClassMeansDownlink(2, rng.random((4, 3))),
    ]
    found = []
    for message in messages:
        for info in codecs(message.kind):
            found.append((message.encode(info.name), message.plan()))
    return found


def mutate(packet: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Flip, overwrite, cut, lengthen, splice or replace; two times out of three with the CRC repaired."""
    broken, head = bytearray(packet), header_bytes(packet)
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
        elif way == 5 and len(broken) > head:  # payload only: most of these pass the header
            place = int(rng.integers(head, len(broken)))
            broken[place : place + 4] = rng.bytes(min(4, len(broken) - place))
        elif way == 6 and len(broken) > head:
            broken[head:] = rng.bytes(len(broken) - head)
    return repair(bytes(broken)) if rng.random() < 0.67 else bytes(broken)
