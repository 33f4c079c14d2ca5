"""Selections of weights on the wire: every codec, bitmaps that travel once, packets that lie about either."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from spikefed.wire import (
    ClientLink,
    Ledger,
    PacketError,
    Plan,
    SelectedWeightsDownlink,
    SelectedWeightsUplink,
    ServerLink,
    WeightsDownlink,
    WeightsUplink,
    codecs,
    decode,
    tensor_specs,
)
from spikefed.wire.bitmaps import encode_bitmap, read_bitmap
from spikefed.wire.codec import find

from .helpers import header_bytes, payload, repair

CODECS = [info.name for info in codecs("weights")]
LOSSLESS = {info.name for info in codecs("weights") if info.lossless}
Tensors = dict[str, np.ndarray]


def tensors(seed: int = 0) -> Tensors:
    rng = np.random.default_rng(seed)
    return {
        "w": rng.normal(size=(30, 20)).astype(np.float32),
        "steps": np.array(seed, dtype=np.int64),
        "v": rng.normal(size=50).astype(np.float32),
        "var": rng.random(4).astype(np.float32),
    }


def masks(density: float, seed: int = 0) -> Tensors:
    rng = np.random.default_rng(100 + seed)
    return {"w": rng.random((30, 20)) < density, "v": rng.random(50) < density}


def up_plan(round: int, *, follows: bool = False) -> Plan:
    table = tensor_specs(tensors(), exact=["var"], masked=["w", "v"])
    return Plan.selected_weights("up", round=round, client=1, tensors=table, follows=follows)


def down_plan(round: int) -> Plan:
    table = tensor_specs(tensors(), exact=["var"], masked=["w", "v"])
    return Plan.selected_weights("down", round=round, client=1, tensors=table)


def uplink(round: int, kept: Tensors, seed: int = 0) -> SelectedWeightsUplink:
    return SelectedWeightsUplink(round, 1, tensors(seed), kept, 9, 0.5, exact=["var"])


def downlink(round: int, kept: Tensors, seed: int = 0) -> SelectedWeightsDownlink:
    return SelectedWeightsDownlink(round, tensors(seed), kept, exact=["var"])


def masked(content: Tensors, kept: Tensors) -> Tensors:
    return {name: np.where(kept[name], array, 0) if name in kept else array for name, array in content.items()}


def same(one: Tensors, other: Tensors) -> bool:
    return list(one) == list(other) and all(np.array_equal(one[n], other[n]) for n in one)


# A selection that both ends know before


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("density", [0.0, 0.05, 0.5, 1.0])
def test_every_codec_works_on_a_selection_known_before(codec: str, density: float) -> None:
    kept = {**masks(density), "steps": None, "var": None}
    message = WeightsUplink(2, 1, tensors(), 9, 0.5, exact=["var"], kept=kept)
    packet = message.encode(codec)
    plan = Plan.weights("up", round=2, client=1, tensors=tensor_specs(tensors(), ["var"], kept))
    assert len(packet) <= plan.max_packet_bytes
    back = decode(packet, plan)
    flat = {name: array[kept[name]] if kept[name] is not None else array for name, array in tensors().items()}
    alone = WeightsUplink(2, 1, flat, 9, 0.5, exact=["var"])  # the survivors as tensors of their own
    assert payload(packet) == payload(alone.encode(codec))
    assert list(back.content) == list(tensors())
    for name in ("w", "v"):
        assert not back.content[name][~kept[name]].any() and back.content[name].shape == kept[name].shape
    assert np.array_equal(back.content["var"], tensors()["var"]) and back.content["steps"] == 0
    assert np.array_equal(back.kept["w"], kept["w"]) and back.kept["var"] is None
    if codec in LOSSLESS:
        assert same(back.content, masked(tensors(), masks(density)))


@pytest.mark.parametrize("codec", CODECS)
def test_a_selection_of_everything_is_the_packet_of_today(codec: str) -> None:
    whole = WeightsDownlink(2, tensors(), exact=["var"])
    for kept in (dict.fromkeys(tensors()),):
        assert WeightsDownlink(2, tensors(), exact=["var"], kept=kept).encode(codec) == whole.encode(codec)


def test_another_selection_is_another_layout() -> None:
    one, other = ({"w": m, "steps": None, "v": None, "var": None} for m in (masks(0.5)["w"], masks(0.5, 1)["w"]))
    packet = WeightsDownlink(2, tensors(), kept=one).encode()
    for kept in (other, None):
        with pytest.raises(PacketError) as caught:
            decode(packet, Plan.weights("down", round=2, client=None, tensors=tensor_specs(tensors(), (), kept)))
        assert caught.value.field == "layout"


@pytest.mark.parametrize("kind", ["topk-10", "stc-100"])
def test_nothing_is_lost_while_the_selection_changes_every_round(kind: str) -> None:
    """What was decoded, and what the sender still owes, is what there was to send, entry by entry."""
    codec, memory = find("weights", kind), None
    due, got = np.zeros(40), np.zeros(40)
    for round in range(1, 9):
        rng = np.random.default_rng(round)
        names = ["a", "b"] if round % 3 else ["b"]
        content = {name: rng.normal(size=20).astype(np.float32) for name in names}
        kept = {name: rng.random(20) < 0.6 if name == "b" else None for name in names}
        message = WeightsUplink(round, 0, content, 9, 0.5, kept=kept)
        code, memory = codec.encode(message.source, message.plan(), memory, None)
        arrays, _ = codec.decode(memoryview(code), message.plan(), None, None)
        back = message.parts(arrays, message.plan())["tensors"]
        for place, name in ((slice(0, 20), "a"), (slice(20, 40), "b")):
            if name in names:
                mine = np.ones(20, bool) if kept[name] is None else kept[name]
                due[place] += np.where(mine, content[name], 0)
                got[place] += back[name]
    owed = np.concatenate([memory.private["owed/a"], memory.private["owed/b"]])
    assert np.allclose(got + owed, due, atol=1e-4) and np.abs(owed).max() > 0.1
    assert codec.before(memory).private.keys() == codec.unsent(memory).private.keys() == {"owed/a", "owed/b"}


@pytest.mark.parametrize(
    ("kept", "why"),
    [
        ({"w": np.ones((30, 20), bool)}, "no entries are named"),
        ({**dict.fromkeys(tensors()), "x": None}, "'x' is either no tensor"),
        ({**dict.fromkeys(tensors()), "w": np.ones(600, bool)}, r"'w' needs a bool array of shape \(30, 20\)"),
        ({**dict.fromkeys(tensors()), "w": np.ones((30, 20))}, "got float64"),
    ],
)
def test_selections_that_do_not_fit_are_refused(kept: Tensors, why: str) -> None:
    with pytest.raises(PacketError, match=why) as caught:
        WeightsDownlink(1, tensors(), kept=kept)
    assert caught.value.field == "kept"


# A mask that the packet itself names


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("density", [0.0, 0.05, 0.5, 1.0])
def test_a_packet_brings_its_bitmap(codec: str, density: float) -> None:
    kept = masks(density)
    packet = uplink(2, kept).encode(codec)
    back = decode(packet, up_plan(2))
    assert same(back.kept, kept) and len(packet) <= up_plan(2).max_packet_bytes
    known = WeightsUplink(2, 1, tensors(), 9, 0.5, exact=["var"], kept={**kept, "steps": None, "var": None})
    survivors = known.encode(codec)
    bitmap = encode_bitmap([kept["w"].reshape(-1), kept["v"]])
    assert payload(packet) == b"\0" + bitmap + payload(survivors)
    plan = Plan.weights("up", round=2, client=1, tensors=known.table)
    assert same(back.content, decode(survivors, plan).content)


class Pair:
    """A server's link and one client's, and the sizes of what went over them."""

    def __init__(self, codec: str) -> None:
        self.ledger = Ledger()
        self.server = ServerLink(codec, codec, self.ledger)
        self.client = ClientLink(1, codec, codec)
        self.codec = codec

    def down(self, round: int, kept: Tensors) -> bytes:
        message = downlink(round, kept, seed=round)
        data = self.server.encode(message, client=1)
        back = self.client.decode(data, down_plan(round))
        self.check(back.content, message.content, kept)
        assert same(back.kept, kept)
        return data

    def up(self, round: int, kept: Tensors, plan: Plan | None = None) -> bytes:
        message = uplink(round, kept, seed=50 + round)
        data = self.client.encode(message)
        back = self.server.decode(data, plan or up_plan(round))
        self.check(back.content, message.content, kept)
        assert same(back.kept, kept)
        return data

    def check(self, back: Tensors, sent: Tensors, kept: Tensors) -> None:
        assert not back["w"][~kept["w"]].any()
        if self.codec in LOSSLESS:
            assert same(back, masked(sent, kept))


def bitmap_bytes(packet: bytes) -> int:
    """Bytes of the packet's bitmap."""
    body = payload(packet)
    if body[0]:
        return 0
    _, rest = read_bitmap(memoryview(body)[1:], [600, 50])
    return len(body) - 1 - len(rest)


@pytest.mark.parametrize("codec", CODECS)
def test_a_bitmap_travels_once_for_every_change(codec: str) -> None:
    pair, one, two = Pair(codec), masks(0.5), masks(0.2)
    seen = []
    for round, kept in enumerate([one, one, one, two, two, one], start=1):
        seen.append(
            (
                bitmap_bytes(pair.down(round, kept)) > 0,
                bitmap_bytes(pair.up(round, kept, up_plan(round, follows=True))) > 0,
            )
        )
    assert [down for down, _ in seen] == [True, False, False, True, False, True]
    assert not any(up for _, up in seen)  # the server has just said it
    up = [record for record in pair.ledger.records if record.direction == "up"]
    left = [16 + 4 * int(m["w"].sum() + m["v"].sum()) + 8 for m in (one, one, one, two, two, one)]
    assert [record.paper_bytes for record in up] == left
    assert {record.kind for record in up} == {"selected-weights"}


@pytest.mark.parametrize("codec", ["float32", "topk-10"])
def test_a_mask_of_the_clients_own_travels_once_too(codec: str) -> None:
    pair, shared, own = Pair(codec), masks(0.9), masks(0.2)
    sizes = []
    for round in range(1, 5):
        pair.down(round, shared)
        sizes.append(bitmap_bytes(pair.up(round, own)))
    assert sizes[0] > 0 and sizes[1:] == [0, 0, 0]


def test_a_mask_that_is_not_the_servers_is_refused_and_changes_nothing() -> None:
    pair, kept = Pair("float32"), masks(0.5)
    pair.down(1, kept)
    pair.up(1, kept, up_plan(1, follows=True))
    pair.down(2, kept)
    before = pair.server.state_dict()
    with pytest.raises(PacketError, match="another mask than the server's") as caught:
        pair.server.decode(pair.client.encode(uplink(2, masks(0.6))), up_plan(2, follows=True))
    assert caught.value.field == "bitmap"
    assert before.keys() == pair.server.state_dict().keys()
    pair.up(2, kept, up_plan(2, follows=True))


def test_who_has_heard_of_no_mask_sends_everything() -> None:
    server, client = ServerLink("float32", "float32"), ClientLink(1, "float32", "float32")
    everything = {name: np.ones_like(mask) for name, mask in masks(0.5).items()}
    data = client.encode(uplink(1, everything))
    assert bitmap_bytes(data) <= 4
    server.decode(data, up_plan(1, follows=True))
    with pytest.raises(PacketError, match="another mask"):
        server.decode(client.encode(uplink(1, masks(0.5))), up_plan(1, follows=True))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("seed", range(3))
def test_packets_that_get_lost_cost_a_bitmap_and_nothing_else(codec: str, seed: int) -> None:
    """Restarts, losses and masks that change: what is accepted is what was sent; else it is asked for again."""
    rng = np.random.default_rng(seed)
    server, client = ServerLink(codec, codec), ClientLink(1, codec, codec)
    kept, asked = masks(0.9), 0
    for round in range(1, 25):
        if rng.random() < 0.3:
            kept = masks(float(rng.random()), seed=round)
        if rng.random() < 0.15:
            client = ClientLink(1, codec, codec)
        if rng.random() < 0.1:
            saved = server.state_dict()
            server = ServerLink(codec, codec)
            server.load_state_dict(saved)
        message = downlink(round, kept, seed=round)
        data = server.encode(message, client=1)
        if rng.random() < 0.2:
            continue  # lost on its way down
        try:
            back = client.decode(data, down_plan(round))
        except PacketError as error:
            assert error.field == "reference"
            asked += 1
            back = client.decode(server.encode(message, client=1, intra=True), down_plan(round))
        assert same(back.kept, kept)
        up = uplink(round, kept, seed=90 + round)
        data = client.encode(up)
        if rng.random() < 0.2:
            continue  # lost on its way up
        try:
            got = server.decode(data, up_plan(round, follows=True))
        except PacketError as error:
            assert error.field == "reference"
            asked += 1
            got = server.decode(client.encode(up, intra=True), up_plan(round, follows=True))
        assert same(got.kept, kept)
        if codec in LOSSLESS:
            assert same(got.content, masked(up.content, kept))
    assert asked < 12


@pytest.mark.parametrize("codec", ["topk-10", "stc-100"])
def test_error_feedback_under_a_changing_mask_owes_nothing_of_what_is_masked(codec: str) -> None:
    client, server = ClientLink(1, codec, codec), ServerLink(codec, codec)
    due = got = 0.0
    for round in range(1, 7):
        kept = masks(0.7) if round < 4 else {n: m & masks(0.7)[n] for n, m in masks(0.5, 1).items()}
        client.decode(server.encode(downlink(round, kept), client=1), down_plan(round))
        message = uplink(round, kept, seed=round)
        back = server.decode(client.encode(message), up_plan(round, follows=True))
        due = due * kept["w"] + message.content["w"] * kept["w"]
        got = got * kept["w"] + back.content["w"]
    owed = client._sender.memories[-1].private["owed/w"].reshape(30, 20)
    assert not owed[~kept["w"]].any()
    assert np.allclose(got + owed, due, atol=1e-4)


@pytest.mark.parametrize("codec", CODECS)
def test_clients_under_one_mask_get_the_same_survivors(codec: str) -> None:
    """One payload for all that hold the same; who must be told the mask gets it in front of the same numbers."""
    server, kept = ServerLink(codec, codec), masks(0.4)
    clients = {c: ClientLink(c, codec, codec) for c in (1, 2, 3)}
    for round in range(1, 5):
        message, found = downlink(round, kept, seed=round), []
        for c, client in clients.items():
            if c == 3 and round == 2:
                continue  # not asked in this round
            data = server.encode(message, client=c)
            found.append(client.decode(data, down_plan(round).for_client(c)))
            up = SelectedWeightsUplink(round, c, tensors(round + c), kept, 9, 0.5, exact=["var"])
            server.decode(client.encode(up), up_plan(round).for_client(c))
        assert all(same(found[0].content, other.content) for other in found[1:])


BROKEN: dict[str, Callable[[bytearray], bytearray]] = {
    "begins with 7": lambda b: bytearray(b"\7") + b[1:],
    "begins with None": lambda b: bytearray(),
    "coded against none": lambda b: bytearray(b"\1") + b[1:],
    "though the packet": lambda b: bytearray(b"\2") + b[1:],
    "survivors of 600 entries": lambda b: b[:1] + b"\xff\x7f" + b[3:],
    "ends inside its bitmap": lambda b: b[:2],
    "of 5. unary numbers": lambda b: b[:3],
}


@pytest.mark.parametrize("why", BROKEN)
def test_corrupt_bitmaps_are_refused_by_name(why: str) -> None:
    packet = uplink(2, masks(0.1)).encode()
    head = header_bytes(packet)
    broken = repair(packet[:head] + bytes(BROKEN[why](bytearray(packet[head:]))))
    with pytest.raises(PacketError, match=why) as caught:
        decode(broken, up_plan(2))
    assert caught.value.field == "bitmap"


def test_sizes_are_known_before_memory_is_allocated() -> None:
    plan = up_plan(2)
    with pytest.raises(PacketError) as caught:
        decode(uplink(2, masks(1.0)).encode() + bytes(plan.max_packet_bytes), plan)
    assert caught.value.field == "length"
    kept = {**masks(0.1), "steps": None, "var": None}
    narrow = Plan.weights("up", round=2, client=1, tensors=tensor_specs(tensors(), (), kept))
    assert narrow.max_packet_bytes < plan.max_packet_bytes / 3


@pytest.mark.parametrize(
    ("kept", "why"),
    [
        ({"x": np.ones(3, bool)}, "'x' is no tensor of this message"),
        ({"w": None}, "'w' has no mask"),
        ({"w": np.ones(600, bool)}, "'w' needs a bool array"),
    ],
)
def test_masks_that_do_not_fit_are_refused(kept: Tensors, why: str) -> None:
    with pytest.raises(PacketError, match=why) as caught:
        SelectedWeightsDownlink(1, tensors(), kept)
    assert caught.value.field == "kept"
