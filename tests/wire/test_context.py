"""Spike codec "context": round trips, twin equality, near-ideal length, size limits, refusal of foreign payloads."""

from __future__ import annotations

import dataclasses
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefed.wire import (
    ClientLink,
    Ledger,
    PackedSpikes,
    PacketError,
    ServerLink,
    SpikeUplink,
    context,
    contextnative,
    contexttwin,
    decode,
    nearest_rows,
)
from spikefed.wire.codec import Memory, SideInfo
from spikefed.wire.contextmodel import ModelState, squash_table, stretch_table
from spikefed.wire.packed import packed_bytes

from .helpers import PSID, fsd_like, payload, random_spikes, up_plan

native_only = pytest.mark.skipif(not contextnative.available(), reason="the native library is not built")


def bits(spikes: np.ndarray) -> np.ndarray:
    return np.packbits(spikes.reshape(-1))


def assert_both_agree(spikes, memory, side, monkeypatch) -> tuple[bytes, Memory]:
    payload, after = context.encode_packed(bits(spikes), spikes.shape, memory, side)
    monkeypatch.setattr(contextnative, "available", lambda: False)
    slow, slow_after = context.encode_packed(bits(spikes), spikes.shape, memory, side)
    back, back_after = context.decode_packed(payload, spikes.shape, memory, side)
    monkeypatch.undo()
    assert slow == payload and slow_after.id == after.id == back_after.id
    assert np.array_equal(back, bits(spikes))
    back, back_after = context.decode_packed(payload, spikes.shape, memory, side)
    assert np.array_equal(back, bits(spikes)) and back_after.id == after.id
    return payload, after


@pytest.mark.parametrize("seed", range(10))
def test_native_and_python_agree_byte_for_byte(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    n, c, t = int(rng.integers(0, 14)), int(rng.integers(1, 9)), int(rng.choice([1, 2, 7, 8, 9, 16, 33, 63, 64]))
    near = nearest_rows(rng.integers(0, 4, (n, 1, 3, 3), dtype=np.uint8)) if n else None
    memory = None
    for number in range(3):
        side = [None, SideInfo(bits(random_spikes(n, c, t, 0.3, seed))), SideInfo(None, near)][(seed + number) % 3]
        side = None if side is not None and side.packed is None and side.near is None else side
        spikes = random_spikes(n, c, t, float(rng.random()) ** 2, seed + number)
        _, memory = assert_both_agree(spikes, memory, side, monkeypatch)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 8), st.integers(1, 40), st.integers(1, 64), st.sampled_from([0.0, 0.01, 0.2, 0.9, 1.0]))
def test_round_trip_and_limit_of_any_shape(n: int, c: int, t: int, rate: float) -> None:
    spikes = random_spikes(n, c, t, rate)
    packet = SpikeUplink(3, 1, spikes, 0.5, PSID).encode("context")
    assert np.array_equal(decode(packet, up_plan((n, c, t))).content, spikes)
    assert len(payload(packet)) <= packed_bytes((n, c, t))


@native_only
@pytest.mark.parametrize(("n", "c", "t"), [(3, 1000, 8), (40, 1000, 1), (2, 1000, 64), (2000, 10, 8), (1, 1, 1)])
@pytest.mark.parametrize("rate", [0.0, 0.05, 0.5, 1.0])
def test_wide_and_long_shapes(n: int, c: int, t: int, rate: float) -> None:
    spikes = random_spikes(n, c, t, rate)
    payload, _ = context.encode_packed(bits(spikes), spikes.shape)
    assert np.array_equal(context.decode_packed(payload, spikes.shape)[0], bits(spikes))
    assert len(payload) <= packed_bytes(spikes.shape)


def test_trains_above_64_steps_travel_as_bits() -> None:
    spikes = random_spikes(3, 2, 65)
    payload, _ = context.encode_packed(bits(spikes), spikes.shape)
    assert payload == bits(spikes).tobytes()
    with pytest.raises(PacketError, match="never coded"):
        context.decode_packed(payload[:-1], spikes.shape)


def test_random_spikes_cost_no_more_than_their_bits() -> None:
    spikes = random_spikes(60, 10, 8, 0.5)
    payload, memory = context.encode_packed(bits(spikes), spikes.shape)
    assert payload == bits(spikes).tobytes()
    assert np.array_equal(memory.shared["previous"], bits(spikes))  # still the next round's reference
    assert len(context.encode_packed(bits(spikes), spikes.shape, memory)[0]) < 0.75 * len(payload)


def test_silent_message_costs_a_few_bytes() -> None:
    assert len(context.encode_packed(bits(np.zeros((400, 10, 8), np.uint8)), (400, 10, 8))[0]) < 16


def test_within_three_percent_of_the_models_own_ideal() -> None:
    memory, side = None, None
    for step in fsd_like(3, clients=1, n=150):
        spikes = step["up"][0]
        ideal, decisions = context.ideal_bits(bits(spikes), spikes.shape, memory, side)
        payload, memory = context.encode_packed(bits(spikes), spikes.shape, memory, side)
        assert decisions >= 1500
        assert ideal <= 8 * len(payload) <= 1.03 * ideal + 8
        side = SideInfo(bits(spikes))


def test_references_pay() -> None:
    story = fsd_like(4, clients=1)
    memory, intra, predicted = None, [], []
    for step in story:
        spikes = step["up"][0]
        side = SideInfo(bits(step["down"])) if step["down"] is not None else None
        intra.append(len(context.encode_packed(bits(spikes), spikes.shape)[0]))
        payload, memory = context.encode_packed(bits(spikes), spikes.shape, memory, side)
        predicted.append(len(payload))
    assert sum(predicted[1:]) < 0.75 * sum(intra[1:])


def test_wrong_reference_is_refused_or_shorter_never_a_crash() -> None:
    first, second = fsd_like(2, clients=1)
    _, memory = context.encode_packed(bits(first["up"][0]), first["up"][0].shape)
    payload, _ = context.encode_packed(bits(second["up"][0]), (120, 10, 8), memory)
    with pytest.raises(PacketError):  # the canonical tail differs: found even without the reference hash
        context.decode_packed(payload, (120, 10, 8))


def test_only_the_encoders_own_bytes_are_accepted() -> None:
    spikes = random_spikes(30, 5, 8, 0.1)
    payload, _ = context.encode_packed(bits(spikes), spikes.shape)
    changed = [payload[:-1], payload[:-2], payload + b"\1"]
    for position in range(len(payload)):
        for change in (1, 128, 255):
            other = bytearray(payload)
            other[position] ^= change
            changed.append(bytes(other))
    accepted = 0
    for other in changed:
        try:
            packed, _ = context.decode_packed(other, spikes.shape)
        except PacketError:
            continue
        accepted += 1
        assert context.encode_packed(packed, spikes.shape)[0] == other
    assert accepted < len(changed) // 2
    with pytest.raises(PacketError):
        context.decode_packed(payload + b"\0", spikes.shape)


@native_only
@pytest.mark.parametrize("codec", ["context", "bitpack"])
def test_a_million_rows_within_64_mb(codec: str) -> None:
    """Blocks in, packet, blocks out, with the links' memories: a fifth of a million rows; the rest grows with N."""
    shape, block = (200_000, 10, 8), random_spikes(4096, 10, 8, 0.05)
    rows = [min(4096, shape[0] - first) for first in range(0, shape[0], 4096)]
    server, client = ServerLink(codec, codec, ledger=Ledger()), ClientLink(1, codec, codec)
    tracemalloc.start()
    message = SpikeUplink(3, 1, PackedSpikes.from_blocks((block[:count] for count in rows), shape), 0.5, PSID)
    back = server.decode(client.encode(message), up_plan(shape))
    assert isinstance(back, SpikeUplink)
    assert all(np.array_equal(b, block[: len(b)]) for b in back.packed.blocks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert server.ledger is not None and server.ledger.records[0].paper_bytes == 2_000_000
    assert 5 * peak < 64e6 + 4 * 5e6  # the fixed part is counted once


def test_packed_spikes_are_unpacked_when_asked_for() -> None:
    spikes = random_spikes(23, 3, 5)
    message = decode(SpikeUplink(3, 1, PackedSpikes.of(spikes), 0.5, PSID).encode("context"), up_plan((23, 3, 5)))
    assert isinstance(message, SpikeUplink) and "spikes" not in vars(message)
    assert np.array_equal(message.spikes, spikes) and message.spikes is message.content
    changed = dataclasses.replace(message, accuracy=0.25)
    assert changed.accuracy == 0.25 and np.array_equal(changed.spikes, spikes)
    assert np.array_equal(pickle.loads(pickle.dumps(message)).spikes, spikes)
    with pytest.raises(AttributeError, match="nothing"):
        message.nothing  # noqa: B018
    for bad in (np.zeros(3, np.uint8), np.full(44, 255, np.uint8)):
        with pytest.raises(PacketError):
            PackedSpikes(bad, (23, 3, 5))


def test_blocks_of_odd_sizes_and_wrong_totals() -> None:
    spikes = random_spikes(23, 3, 5)
    packed = PackedSpikes.from_blocks((spikes[:7], spikes[7:8], spikes[8:]), spikes.shape)
    assert np.array_equal(packed.bits, bits(spikes))
    assert np.array_equal(np.concatenate(list(packed.blocks(rows=4))), spikes)
    with pytest.raises(PacketError, match="shape"):
        PackedSpikes.from_blocks((spikes[:7],), spikes.shape)


def test_tables_are_monotone_and_inverse() -> None:
    squash, stretch = squash_table().astype(int), stretch_table().astype(int)
    assert (np.diff(squash) >= 0).all() and squash[3071] == 32768 and squash[0] == 4
    assert np.abs(squash + squash[::-1] - 65536).max() <= 1
    assert (np.diff(stretch) >= 0).all()
    middle = np.arange(64, 4032)
    assert np.abs(squash[stretch[middle] + 3071] - (middle * 16 + 8)).max() <= 64


def test_state_survives_the_memory_form() -> None:
    _, memory = context.encode_packed(bits(random_spikes(50, 10, 8)), (50, 10, 8))
    again = ModelState.recall(memory).arrays()
    seen = memory.shared["tables"] > 0
    assert np.array_equal(again["tables"] > 0, seen) and seen.any()
    assert np.abs(again["tables"][seen].astype(int) - memory.shared["tables"][seen].astype(int)).max() <= 32
    assert contexttwin.SILENT == 0  # kinds index INPUTS


def test_nearest_rows_by_hand() -> None:
    images = np.array([0, 10, 1, 11, 0], dtype=np.uint8).reshape(5, 1, 1, 1)
    near = nearest_rows(images)
    assert near is not None and near.dtype == np.int32
    assert near.tolist() == [
        [-1, -1, -1, -1, -1], [0, -1, -1, -1, -1], [0, 1, -1, -1, -1], [1, 2, 0, -1, -1], [0, 2, 1, 3, -1],
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    big = rng.integers(0, 256, (70, 1, 28, 28), dtype=np.uint8)
    assert np.array_equal(nearest_rows(big), nearest_rows(big, block=16))
