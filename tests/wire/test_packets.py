"""Round trips, refusals and sizes of packets with the plain codecs."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefed.wire import (
    ClientLink,
    Ledger,
    PacketError,
    Plan,
    ServerLink,
    SpikeDownlink,
    SpikeUplink,
    WeightsDownlink,
    WeightsUplink,
    codecs,
    decode,
    pickle_equivalent_bytes,
    tensor_specs,
    text_equivalent_bytes,
)

from .helpers import PSID, header_bytes, payload, random_spikes, repair, up_plan


@pytest.mark.parametrize(("train", "value"), [("10000001", 129), ("11111111", 255), ("00000000", 0), ("01000000", 64)])
def test_algorithm_2_vectors(train: str, value: int) -> None:
    spikes = np.array([[[int(bit) for bit in train]]], dtype=np.uint8)
    assert payload(SpikeUplink(1, 0, spikes, 0.5, PSID).encode()) == bytes([value])


def test_payload_is_one_byte_a_class_at_eight_steps() -> None:
    assert len(payload(SpikeUplink(1, 0, random_spikes(37, 10, 8), 0.5, PSID).encode())) == 370


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9), st.integers(0, 30), st.integers(1, 64), st.floats(0, 1), st.integers(0, 9))
def test_spike_round_trip(n: int, c: int, t: int, rate: float, seed: int) -> None:
    spikes = random_spikes(n, c, t, rate, seed)
    packet = SpikeUplink(3, 1, spikes, 0.25, PSID).encode()
    message = decode(packet, up_plan((n, c, t)))
    assert isinstance(message, SpikeUplink)
    assert np.array_equal(message.spikes, spikes) and message.spikes.shape == spikes.shape
    assert (message.round, message.client, message.accuracy) == (3, 1, 0.25)
    assert len(payload(packet)) == (n * c * t + 7) // 8


def test_weights_payload_is_the_tensors_own_bytes() -> None:
    tensors = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "count": np.array(7, dtype=np.int64)}
    packet = WeightsUplink(2, 5, tensors, 100, 0.5).encode()
    assert payload(packet) == tensors["w"].astype("<f4").tobytes() + tensors["count"].astype("<i8").tobytes()
    message = decode(packet, Plan.weights("up", round=2, client=5, tensors=tensor_specs(tensors)))
    assert isinstance(message, WeightsUplink) and message.samples == 100
    assert list(message.tensors) == ["w", "count"]
    for name, array in tensors.items():
        assert np.array_equal(message.tensors[name], array) and message.tensors[name].dtype == array.dtype


def test_weights_of_another_network_are_refused() -> None:
    packet = WeightsDownlink(1, {"w": np.zeros(4, np.float32)}).encode()
    plan = Plan.weights("down", round=1, client=None, tensors=tensor_specs({"v": np.zeros(4, np.float32)}))
    with pytest.raises(PacketError) as caught:
        decode(packet, plan)
    assert caught.value.field == "layout"


def test_nan_weights_are_refused_by_name() -> None:
    tensors = {"layer.weight": np.array([1.0, np.nan], np.float32)}
    plan = Plan.weights("down", round=1, client=None, tensors=tensor_specs(tensors))
    with pytest.raises(PacketError, match=r"layer\.weight"):
        decode(WeightsDownlink(1, tensors).encode(), plan)


@pytest.mark.parametrize("accuracy", [float("nan"), float("inf"), -0.01, 1.01])
def test_bad_accuracy_is_refused_at_both_ends(accuracy: float) -> None:
    spikes = random_spikes(2, 3, 8)
    with pytest.raises(PacketError) as caught:
        SpikeUplink(1, 0, spikes, accuracy, PSID)
    assert caught.value.field == "accuracy"
    packet = bytearray(SpikeUplink(3, 1, spikes, 0.5, PSID).encode())
    struct.pack_into("<f", packet, header_bytes(packet) - 4, accuracy)  # the header's last field
    packet = repair(packet)
    with pytest.raises(PacketError) as caught:
        decode(bytes(packet), up_plan((2, 3, 8)))
    assert caught.value.field == "accuracy"


@pytest.mark.parametrize(
    ("field", "plan"),
    [
        ("round", up_plan((4, 3, 8), round=4)),
        ("shape", up_plan((4, 3, 9))),
        ("client", up_plan((4, 3, 8), client=2)),
        ("direction", Plan.spikes("down", round=3, client=1, shape=(4, 3, 8), public_set_id=PSID)),
        ("public_set_id", Plan.spikes("up", round=3, client=1, shape=(4, 3, 8), public_set_id=bytes(32))),
        ("length", up_plan((0, 3, 8))),
        ("kind", Plan.rows("labels", "up", round=3, client=1, shape=(4, 3, 1), public_set_id=PSID)),
    ],
)
def test_each_mismatch_names_its_field(field: str, plan: Plan) -> None:
    packet = SpikeUplink(3, 1, np.ones((40, 3, 8), np.uint8)[:4], 0.5, PSID).encode()
    if field == "length":
        packet += bytes(200)
    with pytest.raises(PacketError) as caught:
        decode(packet, plan)
    assert caught.value.field == field


def test_every_flipped_bit_is_refused() -> None:
    packet = SpikeUplink(3, 1, random_spikes(4, 3, 8), 0.5, PSID).encode()
    for position in range(8 * len(packet)):
        broken = bytearray(packet)
        broken[position // 8] ^= 1 << position % 8
        with pytest.raises(PacketError):
            decode(bytes(broken), up_plan((4, 3, 8)))


def test_every_truncation_is_refused() -> None:
    packet = SpikeUplink(3, 1, random_spikes(4, 3, 8), 0.5, PSID).encode()
    for size in range(len(packet)):
        with pytest.raises(PacketError):
            decode(packet[:size], up_plan((4, 3, 8)))


def test_spikes_that_are_no_spikes() -> None:
    with pytest.raises(PacketError, match="neither 0 nor 1"):
        SpikeDownlink(1, np.frombuffer(b"\0\1\2\0\1\1\0\1", dtype=bool).reshape(1, 1, 8), PSID)
    for bad in (np.full((1, 1, 8), 2, np.uint8), np.zeros((1, 1, 8), np.float32), np.zeros((1, 8), np.uint8)):
        with pytest.raises(PacketError):
            SpikeDownlink(1, bad, PSID)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 6), st.integers(0, 12), st.integers(1, 70), st.floats(0, 1), st.integers(0, 9))
def test_text_size_is_that_of_the_real_text(n: int, c: int, t: int, rate: float, seed: int) -> None:
    spikes = random_spikes(n, c, t, rate, seed)
    rows = [[[int("".join(map(str, train)), 2)] for train in row] for row in spikes.tolist()]
    assert text_equivalent_bytes(spikes) == len(json.dumps(rows))


def test_text_size_of_a_silent_paper_upload() -> None:
    assert text_equivalent_bytes(np.zeros((8000, 10, 8), np.uint8)) == 52 * 8000
    assert pickle_equivalent_bytes(180_012_072, 16) == 180_017_192  # CIFARNet's cell in the paper: 180.017 MB


def test_fsd_and_fedavg_round_with_ledger() -> None:
    ledger, shape = Ledger(), (50, 10, 8)
    server, clients = ServerLink(ledger=ledger), [ClientLink(c) for c in range(4)]
    down = SpikeDownlink(1, random_spikes(*shape), PSID)
    for c, client in enumerate(clients):
        plan = Plan.spikes("down", round=1, client=c, shape=shape, public_set_id=PSID)
        assert np.array_equal(client.decode(server.encode(down, client=c), plan).content, down.spikes)
        data = client.encode(SpikeUplink(1, c, random_spikes(*shape, seed=c), 0.5, PSID))
        message = server.decode(data, up_plan(shape, round=1, client=c))
        assert np.array_equal(message.content, random_spikes(*shape, seed=c))
    totals = ledger.totals(direction="up")
    assert totals.messages == 4 and totals.paper_bytes == 4 * 500 and totals.encoded_bytes == 4 * (500 + 26)
    assert ledger.totals(direction="down", client=2).encoded_bytes == 500 + 22
    assert Ledger.from_lines(ledger.to_lines()).records == ledger.records
    copy = Ledger()
    copy.load_state_dict(ledger.state_dict())
    assert copy.records == ledger.records
    with pytest.raises(PacketError):
        server.decode(b"nonsense", up_plan(shape, round=1, client=0))
    assert ledger.records[-1].kind == "refused" and ledger.records[-1].encoded_bytes == 8


def test_codec_names() -> None:
    names = {(info.kind, info.name) for info in codecs()}
    assert {("spikes", "bitpack"), ("weights", "float32")} <= names
    with pytest.raises(PacketError, match="bitpack"):
        SpikeDownlink(1, random_spikes(1, 1, 8), PSID).encode("nonsense")
