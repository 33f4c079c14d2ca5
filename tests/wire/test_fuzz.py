"""Whatever bytes come: PacketError naming a field, or what the CRC vouches for; nothing else.

`benchmarks/codec_fuzz.py` says how long the slowest packet takes.
"""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefed.wire import PacketError, Plan, ServerLink, contextnative, decode
from spikefed.wire.header import Header, pack

from .helpers import PSID, header_bytes, repair
from .mutation import corpus, mutate

PACKETS = corpus()


def check(data: bytes, plan: Plan) -> bool:
    """Decode; True if it was accepted. Any error but PacketError, or a codec's own failure, ends the test."""
    try:
        message = decode(data, plan)
    except PacketError as error:
        assert error.__cause__ is None, f"the codec itself failed: {error.__cause__!r}"
        assert error.field
        return False
    assert message.kind == plan.kind and message.direction == plan.direction and message.round == plan.round
    return True


def fuzz(count: int, seed: int) -> int:
    rng = np.random.default_rng(seed)
    accepted = 0
    for _ in range(count):
        packet, plan = PACKETS[rng.integers(len(PACKETS))]
        other, other_plan = PACKETS[rng.integers(len(PACKETS))]
        data = mutate(packet, other, rng)
        accepted += check(data, plan if rng.random() < 0.9 else other_plan)
    return accepted


def test_the_corpus_itself_is_accepted() -> None:
    assert len(PACKETS) > 25
    assert all(check(packet, plan) for packet, plan in PACKETS)


def test_mutated_packets() -> None:
    accepted = fuzz(6000, seed=1)
    assert 0 < accepted < 3000  # repaired payloads of raw codecs are packets in their own right


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_million_mutated_packets() -> None:
    assert fuzz(1_000_000, seed=2) > 0


@pytest.mark.slow
def test_coverage_guided_fuzzer() -> None:
    """The fuzzer's own loop, 60,000 inputs; skipped where atheris is not installed."""
    pytest.importorskip("atheris")
    script = Path(__file__).with_name("fuzz_decode.py")
    done = subprocess.run(
        [sys.executable, str(script), "-atheris_runs=60000"], capture_output=True, text=True, timeout=1700
    )
    assert done.returncode == 0, done.stderr[-3000:]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, len(PACKETS) - 1), st.booleans())
def test_random_bytes(data: bytes, index: int, with_header: bool) -> None:
    packet, plan = PACKETS[index]
    check(repair(packet[: header_bytes(packet)] + data) if with_header else data, plan)


@pytest.mark.parametrize("data", [None, 7, "text", [1, 2], np.zeros(100, np.uint8), memoryview(bytes(99))[::3]])
def test_what_is_not_bytes(data: object) -> None:
    with pytest.raises(PacketError) as caught:
        decode(data, PACKETS[0][1])  # type: ignore[arg-type]
    assert caught.value.field == "packet"


def test_a_huge_shape_in_the_header_allocates_nothing() -> None:
    plan = PACKETS[0][1]
    forged = pack(Header(2, "spikes", "up", 2, 1, (2**32 - 1,) * 3, PSID, accuracy=0.5), b"")
    tracemalloc.start()
    with pytest.raises(PacketError) as caught:
        decode(forged, plan)
    assert caught.value.field == "shape"
    with pytest.raises(PacketError) as caught:
        decode(bytes(10_000_000), plan)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.field == "length" and peak < 11_000_000


@pytest.mark.skipif(not contextnative.available(), reason="the native library is not built")
def test_a_hostile_payload_of_a_large_plan() -> None:
    shape = (8000, 10, 8)
    plan = Plan.spikes("up", round=2, client=1, shape=shape, public_set_id=PSID)
    rng = np.random.default_rng(0)
    header = Header(2, "spikes", "up", 2, 1, shape, PSID, accuracy=0.5)
    for size in (0, 1, 1000, 79_998):
        check(pack(header, rng.bytes(size) + b"\x01"), plan)


def test_a_link_survives_the_same_treatment() -> None:
    rng = np.random.default_rng(3)
    link = ServerLink("context", "context")
    packet, plan = next(p for p in PACKETS if p[1].kind == "spikes" and p[1].direction == "up")
    for _ in range(500):
        try:
            link.decode(mutate(packet, packet, rng), plan.for_client(1))
        except PacketError as error:
            assert error.__cause__ is None
    assert link.decode(packet, plan.for_client(1)).round == 2
