"""Payloads of the rival methods: round trips, sizes against their papers, refusals."""

from __future__ import annotations

import contextlib
import tracemalloc
from unittest import mock

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefed.wire import (
    MISSING,
    ClassMeansUplink,
    CountUplink,
    LabelUplink,
    PacketError,
    PartialSpikeUplink,
    Plan,
    ProbabilityUplink,
    WeightsUplink,
    bitio,
    codecs,
    confident_labels,
    decode,
    first_steps,
    quantise_distribution,
    select_rows,
    tensor_specs,
    uncertain_rows,
)
from spikefed.wire.bitio import (
    BitReader,
    elias_bits,
    elias_delta_bits,
    golomb_bits,
    golomb_parameter,
    read_elias,
    read_elias_delta,
    read_golomb,
    unary_bits,
)
from spikefed.wire.codec import find
from spikefed.wire.header import Header, pack
from spikefed.wire.rows import digits_bytes, pack_digits, unpack_digits
from spikefed.wire.sparse import stc_bits_per_entry

from .helpers import PSID, payload, random_spikes, repair

WEIGHTS = [info.name for info in codecs("weights")]


def test_digits_by_hand_and_size_of_the_table() -> None:
    assert pack_digits(np.array([1, 2, 3]), 10) == bytes([0, 123])  # 1*100 + 2*10 + 3
    assert np.array_equal(unpack_digits(memoryview(bytes([0, 123])), 3, 10), [1, 2, 3])
    with pytest.raises(PacketError):
        unpack_digits(memoryview(b"\xff"), 2, 10)
    assert digits_bytes(8000, 10) == 3344  # 3,322 bytes at exactly log2(10) bits; groups of 256 round up
    assert digits_bytes(80_000, 9) == 31_875  # 31,699


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 600), st.integers(2, 300), st.integers(0, 5))
def test_digits_round_trip(count: int, base: int, seed: int) -> None:
    digits = np.random.default_rng(seed).integers(0, base, count)
    assert np.array_equal(unpack_digits(memoryview(pack_digits(digits, base)), count, base), digits)


@pytest.mark.parametrize("codec", ["plain", "context"])
@pytest.mark.parametrize("classes", [2, 7, 10, 100])
def test_labels(codec: str, classes: int) -> None:
    labels = np.random.default_rng(classes).integers(MISSING, classes, 300)
    message = LabelUplink(1, 0, labels, 0.5, PSID, classes)
    assert np.array_equal(decode(message.encode(codec), message.plan()).content, labels)
    with pytest.raises(PacketError):
        LabelUplink(1, 0, np.array([classes]), 0.5, PSID, classes)


@pytest.mark.parametrize("codec", ["plain", "context"])
def test_counts(codec: str) -> None:
    counts = random_spikes(90, 10, 8).sum(axis=2)
    message = CountUplink(1, 0, counts, 0.5, PSID, 8)
    assert np.array_equal(decode(message.encode(codec), message.plan()).content, counts)


def test_quantised_distributions_sum_and_round_trip() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(10, 0.3), 200)
    for bits in (1, 2, 4, 8):
        levels = quantise_distribution(probabilities, bits)
        assert (levels.sum(axis=1) == 2**bits - 1).all()
        assert np.abs(levels / (2**bits - 1) - probabilities).max() <= 1 / (2**bits - 1) + 1e-9
        message = CountUplink(1, 0, levels, 0.5, PSID, 2**bits - 1)
        assert np.array_equal(decode(message.encode("context"), message.plan()).content, levels)
    assert np.array_equal(quantise_distribution(probabilities, 1).argmax(axis=1), probabilities.argmax(axis=1))


@pytest.mark.parametrize(("codec", "bytes_each"), [("float32", 4), ("fp16", 2), ("fp16-zstd", None)])
def test_soft_labels(codec: str, bytes_each: int | None) -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.full(10, 0.05), 200).astype(np.float32)
    message = ProbabilityUplink(1, 0, probabilities, 0.5, PSID)
    packet = message.encode(codec)
    assert np.abs(decode(packet, message.plan()).content - probabilities).max() <= (0 if codec == "float32" else 5e-4)
    assert len(payload(packet)) == 2000 * bytes_each if bytes_each else len(payload(packet)) < 4000


def test_zstd_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(50_000_000))
    message = ProbabilityUplink(1, 0, np.zeros((200, 10), np.float32), 0.5, PSID)
    header = Header(42, "probabilities", "up", 1, 0, (200, 10, 0), PSID, accuracy=0.5)
    with pytest.raises(PacketError) as caught:
        decode(pack(header, bomb), message.plan())
    assert caught.value.field == "payload"


@pytest.mark.parametrize("codec", ["float32", "fp16"])
def test_class_means_with_absent_classes(codec: str) -> None:
    means = np.random.default_rng(0).random((10, 10)).astype(np.float32).round(2)
    means[[2, 7]] = np.nan
    message = ClassMeansUplink(1, 0, means, 0.5)
    packet = message.encode(codec)
    assert len(payload(packet)) == 2 + 8 * 10 * (4 if codec == "float32" else 2)
    assert np.allclose(decode(packet, message.plan()).content, means, atol=1e-3, equal_nan=True)


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "a": rng.normal(0, 1e-2, (40, 30)).astype(np.float32),
        "steps": np.array(7, dtype=np.int64),
        "zero": np.zeros(5, np.float32),
        "b": rng.normal(0, 1, 300).astype(np.float32),
    }


@pytest.mark.parametrize("codec", WEIGHTS)
def test_weight_codecs_keep_shapes_integers_and_are_stable(codec: str) -> None:
    tensors = weights()
    message = WeightsUplink(1, 3, tensors, 10, 0.5)
    plan = Plan.weights("up", round=1, client=3, tensors=tensor_specs(tensors))
    back = decode(message.encode(codec), plan).content
    assert [(name, a.shape, a.dtype) for name, a in back.items()] == [(n, a.shape, a.dtype) for n, a in tensors.items()]
    assert back["steps"] == 7
    assert message.encode(codec) == message.encode(codec)
    assert all(np.isfinite(array).all() for array in back.values())


def test_float_codecs_errors_and_sizes() -> None:
    tensors = weights()
    plan = Plan.weights("up", round=1, client=3, tensors=tensor_specs(tensors))
    message = WeightsUplink(1, 3, tensors, 10, 0.5)
    assert len(payload(message.encode("fp16"))) == 2 * 1505 + 8
    assert len(payload(message.encode("cosine-4"))) == 3 * 8 + (1505 * 4 + 7) // 8 + 8
    for codec, tolerance in (("fp16", 1e-3), ("cosine-4", 0.35), ("cosine-2", 1.8)):
        back = decode(message.encode(codec), plan).content
        assert np.linalg.norm(back["b"] - tensors["b"]) < tolerance * np.linalg.norm(tensors["b"])


@pytest.mark.parametrize("codec", ["cosine-2", "cosine-4"])
def test_cosine_leaves_zeros_where_they_are_on_average(codec: str) -> None:
    values = np.zeros(1000, np.float32)
    values[0] = 1.0
    plan = Plan.weights("up", round=1, client=0, tensors=tensor_specs({"w": values}))
    back = decode(WeightsUplink(1, 0, {"w": values}, 1, 0.5).encode(codec), plan).content["w"]
    assert abs(back[1:].sum()) <= np.abs(back[1:]).max() * 1.01  # 999 of them: one is left over
    assert back[0] == pytest.approx(1.0, abs=1e-6)


def test_qsgd_is_unbiased() -> None:
    tensors = {"w": np.array([0.5, -0.25, 0.1, 0.0, 0.8], np.float32)}
    total = np.zeros(5)
    for number in range(1, 1501):
        message = WeightsUplink(number, 0, tensors, 1, 0.5)
        plan = Plan.weights("up", round=number, client=0, tensors=tensor_specs(tensors))
        total += decode(message.encode("qsgd-1"), plan).content["w"]
    assert np.abs(total / 1500 - tensors["w"]).max() < 0.05  # about 4 standard errors


def test_stc_keeps_the_largest_and_matches_its_formula() -> None:
    rng = np.random.default_rng(1)
    tensors = {"w": rng.normal(size=100_000).astype(np.float32)}
    message = WeightsUplink(1, 0, tensors, 1, 0.5)
    packet = message.encode("stc-100")
    back = decode(packet, Plan.weights("up", round=1, client=0, tensors=tensor_specs(tensors))).content["w"]
    largest = np.argsort(-np.abs(tensors["w"]))[:1000]
    assert set(np.flatnonzero(back)) == set(largest)
    assert np.array_equal(np.sign(back[largest]), np.sign(tensors["w"][largest]))
    assert np.allclose(np.abs(back[largest]), np.abs(tensors["w"][largest]).mean())
    assert abs(8 * (len(payload(packet)) - 4) / 1000 / stc_bits_per_entry(0.01) - 1) < 0.02
    assert round(45_003_018 / 400 * stc_bits_per_entry(1 / 400) / 8e6, 3) == 0.156  # MB, specification 5
    assert round(45_003_018 / 100 * stc_bits_per_entry(1 / 100) / 8e6, 3) == 0.512


def test_golomb_and_elias_by_hand() -> None:
    # positions 0, 5, 6 with parameter 1: gaps 0, 4, 0 -> quotients 0, 2, 0 -> 0 110 0; remainders 0 0 0
    assert golomb_bits(np.array([0, 5, 6]), 1).tolist() == [0, 1, 1, 0, 0, 0, 0, 0]
    # 1, 2, 5 -> lengths 0, 1, 2 -> 0 10 110; bits below the leading one: -, 0, 01
    assert elias_bits(np.array([1, 2, 5])).tolist() == [0, 1, 0, 1, 1, 0, 0, 0, 1]
    assert golomb_parameter(1, 100) == 6 and golomb_parameter(5, 5) == golomb_parameter(0, 0) == 0
    assert (
        golomb_parameter(1, 2) == golomb_parameter(382, 1000) == 0 and golomb_parameter(381, 1000) == 1
    )  # phi - 1 = 0.618..


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(0, 5000), max_size=200), st.integers(0, 8), st.lists(st.integers(1, 900), max_size=80),
       st.sampled_from([1, 3, 1 << 16]))  # fmt: skip
def test_golomb_and_elias_round_trip(positions: set[int], parameter: int, values: list[int], piece: int) -> None:
    where, numbers = np.array(sorted(positions), dtype=np.int64), np.array(values, dtype=np.int64)
    bits = [golomb_bits(where, parameter), elias_bits(numbers), elias_delta_bits(numbers)]
    with mock.patch.object(bitio, "PIECE", piece):  # the reader works in pieces; none of them may show
        reader = BitReader(memoryview(np.packbits(np.concatenate(bits)).tobytes()))
        assert np.array_equal(read_golomb(reader, where.size, parameter, 5001), where)
        assert np.array_equal(read_elias(reader, numbers.size, 900), numbers)
        assert np.array_equal(read_elias_delta(reader, numbers.size, 900), numbers)
        reader.finish()


def test_unary_numbers_above_their_limit_are_refused_at_once() -> None:
    for ones, limit, fine in ((4, 4, True), (5, 4, False), (3_000_000, 4, False)):
        reader = BitReader(memoryview(np.packbits(np.concatenate([unary_bits(np.array([ones]))])).tobytes()))
        if fine:
            assert reader.unary(1, limit) == [ones]
            continue
        with pytest.raises(PacketError, match="above"):
            reader.unary(1, limit)


def test_elias_delta_by_hand() -> None:
    # 1 -> width 1; 2 -> width 2, bit 0; 17 -> width 5, bits 0001. Widths 1, 2, 5 as gamma: 0 10 110 | 0 01; then 0 0001
    assert elias_delta_bits(np.array([1, 2, 17])).tolist() == [0, 1, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("levels", [1, 7])
def test_qsgd_is_within_its_papers_bound(levels: int) -> None:
    """Theorem 3.2 of the paper: with m = s (s + sqrt n): (3 + 3/2 log2(2 (s^2 + n) / m)) m + 32 bits on average."""
    n = 100_000
    tensors = {"w": np.random.default_rng(0).normal(size=n).astype(np.float32)}
    bits = 8 * len(payload(WeightsUplink(1, 0, tensors, 1, 0.5).encode(f"qsgd-{levels}")))
    kept = levels * (levels + np.sqrt(n))
    assert bits <= (3 + 1.5 * np.log2(2 * (levels**2 + n) / kept)) * kept + 32
    one = {"w": np.ones(64, np.float32)}  # all levels above 0 at 7 levels of norm 8: the dense form is shorter
    assert len(payload(WeightsUplink(1, 0, one, 1, 0.5).encode("qsgd-7"))) <= 4 + 1 + 64 * 4 / 8


@pytest.mark.parametrize("codec", [info.name for info in codecs("weights")])
@pytest.mark.parametrize("fill", [0x00, 0xFF, 0x55])
def test_hostile_weights_take_no_more_memory_than_a_few_plans(codec: str, fill: int) -> None:
    """The longest packet that the plan lets in, of a plan of 2 MB, under every codec."""
    size = 500_000
    tensors = {"w": np.zeros(size, np.float32)}
    plan = WeightsUplink(1, 0, tensors, 1, 0.5).plan()
    number = find("weights", codec).number
    head = Header(number, "weights", "up", 1, 0, plan.shape, plan.content_id, samples=1, accuracy=0.5)
    for length in (plan.max_packet_bytes - 60, size // 2 + 8, size // 4 + 8, 2 * size, 4 * size):
        packet = pack(head, bytes([fill]) * length)
        tracemalloc.start()
        with contextlib.suppress(PacketError):
            decode(packet, plan)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * 4 * size + 16e6  # four plans, and the pieces that readers work in


@pytest.mark.parametrize("codec", WEIGHTS)
def test_exact_tensors_travel_as_they_are(codec: str) -> None:
    tensors = {
        "w": np.linspace(-1, 1, 300, dtype=np.float32),
        "running_var": np.array([1e-30, 3.0, 7e37], np.float32),
        "wide": np.array([1e300, -0.1]),
        "count": np.array(12345678901, np.int64),
        "flags": np.array([True, False]),
    }
    message = WeightsUplink(1, 3, tensors, 10, 0.5, exact={"running_var", "wide"})
    packet = message.encode(codec)
    plan = Plan.weights("up", round=1, client=3, tensors=tensor_specs(tensors, exact=["wide", "running_var"]))
    back = decode(packet, plan)
    for name in ("running_var", "wide", "count", "flags"):
        assert np.array_equal(back.content[name], tensors[name]) and back.content[name].dtype == tensors[name].dtype
    assert back.exact == {"running_var", "wide"}  # type: ignore[attr-defined]
    with pytest.raises(PacketError) as caught:  # both ends must agree on what is exact
        decode(packet, Plan.weights("up", round=1, client=3, tensors=tensor_specs(tensors)))
    assert caught.value.field == "layout"
    with pytest.raises(PacketError, match="no such tensor"):
        WeightsUplink(1, 3, tensors, 10, 0.5, exact=["w2"])


@pytest.mark.parametrize("codec", WEIGHTS)
def test_bools_above_one_are_refused(codec: str) -> None:
    message = WeightsUplink(1, 0, {"w": np.ones(3, np.float32), "flag": np.array([True])}, 1, 0.5)
    packet = message.encode(codec)
    at = len(packet) - 1
    assert packet[at] == 1  # the last tensor's byte in every codec
    with pytest.raises(PacketError, match="neither 0 nor 1"):
        decode(repair(packet[:at] + b"\x02"), message.plan())


@pytest.mark.parametrize("codec", WEIGHTS)
def test_large_numbers_are_clipped_or_refused_by_the_sender(codec: str) -> None:
    """What a sender may encode, its receiver can read: no infinity ever comes out of an honest packet."""
    for tensors in (
        {"w": np.full(400, 3e38, np.float32)},
        {"w": np.full(400, 6e4, np.float16)},
        {"w": np.full(400, 1e200)},
    ):
        message = WeightsUplink(1, 0, tensors, 1, 0.5)
        try:
            packet = message.encode(codec)
        except PacketError as error:
            assert error.field == "tensors"
            continue
        assert np.isfinite(decode(packet, message.plan()).content["w"]).all()


def test_halves_of_probabilities_and_means_are_clipped() -> None:
    large = np.array([[1e6, -1e6, 0.25]], np.float32)
    for codec in ("fp16", "fp16-zstd"):
        message = ProbabilityUplink(1, 0, large, 0.5, PSID)
        assert decode(message.encode(codec), message.plan()).content.tolist() == [[65504.0, -65504.0, 0.25]]
    means = ClassMeansUplink(1, 0, large, 0.5)
    assert decode(means.encode("fp16"), means.plan()).content.tolist() == [[65504.0, -65504.0, 0.25]]
    with pytest.raises(PacketError, match="means"):
        ClassMeansUplink(1, 0, np.zeros((10, 0), np.float32), 0.5)


def test_zstd_takes_exactly_one_frame() -> None:
    message = ProbabilityUplink(1, 0, np.full((50, 10), 0.1, np.float32), 0.5, PSID)
    packet = message.encode("fp16-zstd")
    for extra in (b"\0", packet[-20:], zstandard.ZstdCompressor().compress(b"more")):
        with pytest.raises(PacketError) as caught:
            decode(repair(packet + extra), message.plan())
        assert caught.value.field == "payload"


def test_partial_switches_by_hand() -> None:
    spikes = np.zeros((3, 2, 4), np.uint8)
    spikes[0, 0, :4] = 1  # class 0 leads by 4
    spikes[1, 1, :1] = 1  # class 1 leads by 1
    assert uncertain_rows(spikes, 2).tolist() == [False, True, True]
    assert confident_labels(spikes, 2).tolist() == [0, MISSING, MISSING]
    assert first_steps(spikes, 2).shape == (3, 2, 2)
    message = PartialSpikeUplink(1, 0, select_rows(spikes, uncertain_rows(spikes, 2)), 0.5, PSID)
    back = decode(message.encode(), message.plan()).content
    assert np.array_equal(back.fill(np.ones_like(spikes))[1:], spikes[1:])
    assert back.fill(np.ones_like(spikes))[0].all()
