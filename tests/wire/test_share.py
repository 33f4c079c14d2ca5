"""Messages about a share of the public rows: lossless, predicted row by row, the same at both ends."""

from __future__ import annotations

import numpy as np
import pytest

from spikefed.errors import PacketError
from spikefed.wire import (
    ClientLink,
    LabelDownlink,
    LabelUplink,
    Ledger,
    PackedSpikes,
    Plan,
    ServerLink,
    SpikeDownlink,
    SpikeUplink,
    nearest_rows,
)
from spikefed.wire.codec import Memory, SideInfo
from spikefed.wire.narrowing import narrow, widen
from spikefed.wire.share import Share

from .helpers import PSID, repair

ROWS, CLASSES, STEPS, ROUNDS = 60, 10, 2, 6
NEAR = nearest_rows(np.random.default_rng(0).integers(0, 9, (ROWS, 1, 4, 4), dtype=np.uint8))


def bits(spikes: np.ndarray) -> np.ndarray:
    return PackedSpikes.of(np.asarray(spikes, dtype=np.uint8)).bits


def slowly_changing(rng: np.random.Generator, flips: float) -> list[np.ndarray]:
    """Trains of every round: each differs from the one before in a few places."""
    spikes, found = (rng.random((ROWS, CLASSES, STEPS)) < 0.1).astype(np.uint8), []
    for _ in range(ROUNDS):
        spikes = spikes ^ (rng.random(spikes.shape) < flips)
        found.append(spikes.astype(np.uint8))
    return found


def share_of(round: int, parts: int) -> Share | None:
    return Share(np.arange((round - 1) % parts, ROWS, parts), ROWS) if parts > 1 else None


def exchanged(kind: str, parts: int, *, lost: int = 0, flips: float = 0.02) -> int:
    """Bytes of all uploads of one client; every message is compared with what was meant."""
    ledger = Ledger()
    client, server = ClientLink(3, "context", "context", NEAR), ServerLink("context", "context", ledger, NEAR)
    rng = np.random.default_rng(1)
    truth, said = slowly_changing(rng, flips), slowly_changing(rng, flips)
    for round in range(1, ROUNDS + 1):
        share = share_of(round, parts)
        rows = slice(None) if share is None else share.rows
        common = {"round": round, "client": 3, "accuracy": 0.5, "public_set_id": PSID, "share": share}
        down: SpikeDownlink | LabelDownlink
        up: SpikeUplink | LabelUplink
        if kind == "spikes":
            down = SpikeDownlink(round, truth[round - 1] ^ said[0], PSID)
            down_plan = Plan.spikes("down", round=round, client=3, shape=down.spikes.shape, public_set_id=PSID)
            up = SpikeUplink(spikes=truth[round - 1][rows], **common)
            plan = Plan.spikes("up", round=round, client=3, shape=up.spikes.shape, public_set_id=PSID, share=share)
        else:
            labels = [spikes[round - 1].sum(axis=2).argmax(axis=1) for spikes in (truth, said)]
            down = LabelDownlink(round, labels[1], PSID, CLASSES)
            down_plan = Plan.rows("labels", "down", round=round, client=3, shape=(ROWS, CLASSES, 1),
                                  public_set_id=PSID)  # fmt: skip
            up = LabelUplink(labels=labels[0][rows], classes=CLASSES, **common)
            plan = Plan.rows("labels", "up", round=round, client=3, shape=(len(up.labels), CLASSES, 1),
                             public_set_id=PSID, share=share)  # fmt: skip
        client.decode(server.encode(down, 3), down_plan)
        packet = client.encode(up)
        if round == lost:
            continue
        back = server.decode(packet, plan)
        assert np.array_equal(back.content, up.content)
    return sum(record.encoded_bytes for record in ledger.records if record.direction == "up")


@pytest.mark.parametrize("kind", ["spikes", "labels"])
@pytest.mark.parametrize("parts", [1, 2, 3, 7])
@pytest.mark.parametrize("lost", [0, 1, 3])
def test_every_share_arrives_as_it_was_also_after_a_lost_packet(kind: str, parts: int, lost: int) -> None:
    assert exchanged(kind, parts, lost=lost) > 0


@pytest.mark.parametrize("kind", ["spikes", "labels"])
def test_fewer_rows_cost_fewer_bytes_in_a_stream_that_changes_slowly(kind: str) -> None:
    header = 31 * ROUNDS
    whole, half = (exchanged(kind, parts) - header for parts in (1, 2))
    assert half < 0.85 * whole


def test_a_share_of_all_rows_is_coded_as_no_share() -> None:
    spikes = slowly_changing(np.random.default_rng(2), 0.1)[0]
    payloads = []
    for share in (None, Share(np.arange(ROWS), ROWS)):
        link = ClientLink(0, "context", "context", NEAR)
        payloads.append(link.encode(SpikeUplink(1, 0, spikes, 0.5, PSID, share)))
    assert payloads[0] == payloads[1]


def test_memory_of_a_share_and_back() -> None:
    rng = np.random.default_rng(3)
    known, fresh, global_ = ((rng.random((5, 3, 2)) < 0.4).astype(np.uint8) for _ in range(3))
    share, inner = Share(np.array([1, 4]), 5), (3, 2)
    old = Memory({"previous": bits(known), "known": np.packbits([1, 1, 0, 0, 0])})
    memory, side = narrow(share, old, SideInfo(bits(global_)), inner)
    assert memory is not None and side is not None and side.packed is not None
    # Row 1 has travelled, row 4 has not.
    assert np.array_equal(PackedSpikes(memory.shared["previous"], (2, 3, 2)).unpack(), [known[1], global_[4]])
    assert np.array_equal(PackedSpikes(side.packed, (2, 3, 2)).unpack(), global_[[1, 4]])
    new = widen(share, Memory({"previous": bits(fresh[[1, 4]])}), old, inner)
    assert np.array_equal(
        PackedSpikes(new.shared["previous"], (5, 3, 2)).unpack(), [known[0], fresh[1], known[2], known[3], fresh[4]]
    )
    assert np.unpackbits(new.shared["known"], count=5).tolist() == [1, 1, 0, 0, 1]


def test_alike_rows_are_named_by_their_places_in_the_share() -> None:
    near = np.array([[-1] * 5, [0, -1, -1, -1, -1], [1, 0, -1, -1, -1], [2, 1, 0, -1, -1], [3, 1, 2, 0, -1]], np.int32)
    got = Share(np.array([1, 2, 4]), 5).alike(near)
    assert got.tolist() == [[-1] * 5, [0, -1, -1, -1, -1], [0, 1, -1, -1, -1]]


@pytest.mark.parametrize("rows", [[2, 1], [1, 1], [-1, 2], [3, 5], [[0, 1]]])
def test_rows_that_are_no_share_are_refused(rows: list) -> None:
    with pytest.raises(PacketError, match="rows"):
        Share(np.array(rows), 5)


def test_a_message_of_another_number_of_rows_is_refused() -> None:
    spikes = np.zeros((3, CLASSES, STEPS), np.uint8)
    with pytest.raises(PacketError, match="rows"):
        SpikeUplink(1, 0, spikes, 0.5, PSID, Share(np.array([0, 4]), ROWS)).encode()


def test_a_broken_packet_of_a_share_is_refused_and_never_a_defect() -> None:
    rng, share = np.random.default_rng(5), Share(np.arange(0, ROWS, 2), ROWS)
    spikes = (rng.random((ROWS // 2, CLASSES, STEPS)) < 0.1).astype(np.uint8)
    plan = Plan.spikes("up", round=1, client=0, shape=spikes.shape, public_set_id=PSID, share=share)
    whole = ClientLink(0, "context", "context").encode(SpikeUplink(1, 0, spikes, 0.5, PSID, share))
    refused = 0
    for _ in range(400):
        packet = bytearray(whole)
        for place in rng.integers(len(packet), size=2):
            packet[place] = rng.integers(256)
        try:
            ServerLink("context", "context").decode(repair(packet), plan)
        except PacketError as error:
            assert error.__cause__ is None, error
            refused += 1
    assert refused > 100
