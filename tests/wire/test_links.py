"""Links: references, acknowledgements, lost and repeated packets, restarts, error feedback."""

from __future__ import annotations

import numpy as np
import pytest

from spikefed.wire import (
    ClientLink,
    LabelDownlink,
    LabelUplink,
    Ledger,
    PacketError,
    PartialSpikeUplink,
    Plan,
    ServerLink,
    SpikeDownlink,
    SpikeUplink,
    WeightsDownlink,
    WeightsUplink,
    changed_rows,
    nearest_rows,
    select_rows,
    tensor_specs,
)
from spikefed.wire.codec import find
from spikefed.wire.header import NO_REFERENCE, unpack

from .helpers import PSID, fsd_like, header_bytes, payload, up_plan

SHAPE = (120, 10, 8)


def down_plan(round: int, client: int) -> Plan:
    return Plan.spikes("down", round=round, client=client, shape=SHAPE, public_set_id=PSID)


def reference(packet: bytes) -> bytes:
    return unpack(packet)[0].reference


def exchange(server: ServerLink, client: ClientLink, number: int, step: dict) -> tuple[bytes | None, bytes]:
    c, down = client.client, None
    if step["down"] is not None:
        down = server.encode(SpikeDownlink(number, step["down"], PSID), client=c)
        assert np.array_equal(client.decode(down, down_plan(number, c)).content, step["down"])
    up = client.encode(SpikeUplink(number, c, step["up"][c], 0.5, PSID))
    assert np.array_equal(server.decode(up, up_plan(SHAPE, number, c)).content, step["up"][c])
    return down, up


@pytest.mark.parametrize("near", [False, True])
def test_rounds_use_references_and_shrink(near: bool) -> None:
    rows = nearest_rows(np.random.default_rng(0).integers(0, 9, (120, 1, 4, 4), dtype=np.uint8)) if near else None
    server = ServerLink("context", "context", near=rows)
    clients = [ClientLink(c, "context", "context", near=rows) for c in range(3)]
    sizes, downs = [], []
    for number, step in enumerate(fsd_like(5), start=1):
        packets = [exchange(server, client, number, step) for client in clients]
        sizes.append(sum(len(up) for _, up in packets))
        downs.append(packets[0][0])
        if step["down"] is not None:  # one payload for all, only the header differs
            assert len({payload(down) for down, _ in packets if down is not None}) == 1
    assert sizes[-1] < 0.5 * sizes[0]
    assert downs[4] is not None and reference(downs[4]) != NO_REFERENCE
    assert downs[1] is not None and (reference(downs[1]) == NO_REFERENCE) == (not near)


def test_lost_upload_is_not_used_as_a_reference() -> None:
    story = fsd_like(4, clients=1)
    server, client = ServerLink("context", "context"), ClientLink(0, "context", "context")
    exchange(server, client, 1, story[0])
    exchange(server, client, 2, story[1])
    down = server.encode(SpikeDownlink(3, story[2]["down"], PSID), client=0)
    client.decode(down, down_plan(3, 0))
    client.encode(SpikeUplink(3, 0, story[2]["up"][0], 0.5, PSID))  # lost on the way
    _, up = exchange(server, client, 4, story[3])
    assert reference(up) != NO_REFERENCE  # still predicted, from what the server does hold


def test_another_public_set_is_found_out_with_and_without_a_reference() -> None:
    """A packet with a reference leaves the public set's id to it; the intra packet asked for then names the set."""
    story, other = fsd_like(2, clients=1), bytes(32)
    server, client = ServerLink("context", "context"), ClientLink(0, "context", "context")
    exchange(server, client, 1, story[0])
    down = server.encode(SpikeDownlink(2, story[1]["down"], PSID), client=0)
    client.decode(down, down_plan(2, 0))
    strange = SpikeUplink(2, 0, story[1]["up"][0], 0.5, other)
    data, plan = client.encode(strange), up_plan(SHAPE, 2, 0)
    assert reference(data) != NO_REFERENCE and unpack(data)[0].content_id == b""
    for packet, field in ((data, "reference"), (client.encode(strange, intra=True), "public_set_id")):
        with pytest.raises(PacketError) as caught:
            server.decode(packet, plan)
        assert caught.value.field == field
    honest = SpikeUplink(2, 0, story[1]["up"][0], 0.5, PSID)
    assert np.array_equal(server.decode(client.encode(honest), plan).content, honest.spikes)
    assert header_bytes(client.encode(honest)) == 30  # of 120 rows; 31 from 128 rows on


def test_restarted_client_asks_for_intra() -> None:
    story = fsd_like(4, clients=1)
    server, client = ServerLink("context", "context"), ClientLink(0, "context", "context")
    for number in (1, 2, 3):
        exchange(server, client, number, story[number - 1])
    client = ClientLink(0, "context", "context")  # lost its disk
    message = SpikeDownlink(4, story[3]["down"], PSID)
    with pytest.raises(PacketError) as caught:
        client.decode(server.encode(message, client=0), down_plan(4, 0))
    assert caught.value.field == "reference"
    data = server.encode(message, client=0, intra=True)
    assert np.array_equal(client.decode(data, down_plan(4, 0)).content, message.content)
    up = client.encode(SpikeUplink(4, 0, story[3]["up"][0], 0.5, PSID))
    assert np.array_equal(server.decode(up, up_plan(SHAPE, 4, 0)).content, story[3]["up"][0])


def test_restarted_server_asks_for_intra_and_forget_does_too() -> None:
    story = fsd_like(3, clients=1)
    server, client = ServerLink("context", "context"), ClientLink(0, "context", "context")
    exchange(server, client, 1, story[0])
    exchange(server, client, 2, story[1])
    server.forget(0)
    message = SpikeUplink(3, 0, story[2]["up"][0], 0.5, PSID)
    with pytest.raises(PacketError) as caught:
        server.decode(client.encode(message), up_plan(SHAPE, 3, 0))
    assert caught.value.field == "reference"
    back = server.decode(client.encode(message, intra=True), up_plan(SHAPE, 3, 0))
    assert np.array_equal(back.content, message.content)


@pytest.mark.parametrize("seed", range(6))
def test_dropped_repeated_and_reordered_packets_never_decode_wrongly(seed: int) -> None:
    """Random faults in both directions: whatever is accepted is exactly what was sent in that round."""
    rng = np.random.default_rng(seed)
    story = fsd_like(14, n=30, clients=3, seed=seed)
    shape = (30, 10, 8)
    server, clients = ServerLink("context", "context"), [ClientLink(c, "context", "context") for c in range(3)]
    old_down: dict[int, list[bytes]] = {c: [] for c in range(3)}
    old_up: list[bytes] = []
    accepted = 0
    for number, step in enumerate(story, start=1):
        for c, client in enumerate(clients):
            if rng.random() < 0.08:
                clients[c] = client = ClientLink(c, "context", "context")
            plan = Plan.spikes("down", round=number, client=c, shape=shape, public_set_id=PSID)
            if step["down"] is not None:
                message = SpikeDownlink(number, step["down"], PSID)
                arrivals = [server.encode(message, client=c)]
                old_down[c] += arrivals
                if rng.random() < 0.3:
                    arrivals.append(old_down[c][rng.integers(len(old_down[c]))])
                arrivals = [data for data in arrivals for _ in range(rng.integers(1, 3))]
                if rng.random() < 0.2:
                    continue  # the downlink never comes: no upload either
                rng.shuffle(arrivals)
                got = False
                for data in arrivals:
                    try:
                        assert np.array_equal(client.decode(data, plan).content, step["down"])
                        got = True
                    except PacketError as error:
                        assert error.field in ("reference", "round")
                if not got:
                    data = server.encode(message, client=c, intra=True)
                    assert np.array_equal(client.decode(data, plan).content, step["down"])
            up = SpikeUplink(number, c, step["up"][c], 0.5, PSID)
            data = client.encode(up)
            old_up.append(data)
            if rng.random() < 0.2:
                continue
            arrivals = [data, data] if rng.random() < 0.3 else [data]
            arrivals.append(old_up[rng.integers(len(old_up))])
            rng.shuffle(arrivals)
            for data in arrivals:
                plan_up = up_plan(shape, number, c)
                try:
                    back = server.decode(data, plan_up)
                except PacketError as error:
                    if error.field == "reference":
                        back = server.decode(client.encode(up, intra=True), plan_up)
                    else:
                        assert error.field in ("round", "client")
                        continue
                assert np.array_equal(back.content, step["up"][c])
                accepted += 1
    assert accepted > 15


def test_checkpointed_links_continue_with_the_same_bytes() -> None:
    story = fsd_like(4, clients=2)
    server, clients = ServerLink("context", "context"), [ClientLink(c, "context", "context") for c in range(2)]
    for number in (1, 2):
        for client in clients:
            exchange(server, client, number, story[number - 1])
    twin, twins = ServerLink("context", "context"), [ClientLink(c, "context", "context") for c in range(2)]
    twin.load_state_dict(server.state_dict())
    for client, other in zip(clients, twins, strict=True):
        other.load_state_dict(client.state_dict())
    for number in (3, 4):
        for client, other in zip(clients, twins, strict=True):
            assert exchange(server, client, number, story[number - 1]) == exchange(
                twin, other, number, story[number - 1]
            )
    with pytest.raises(PacketError, match="codec|up"):
        ServerLink("bitpack", "context").load_state_dict(server.state_dict())


def test_late_joiner_gets_intra_while_the_others_are_predicted() -> None:
    story = fsd_like(3, clients=2)
    server, clients = ServerLink("context", "context"), [ClientLink(c, "context", "context") for c in range(2)]
    exchange(server, clients[0], 1, story[0])
    exchange(server, clients[0], 2, story[1])
    first, _ = exchange(server, clients[0], 3, story[2])
    late, _ = exchange(server, clients[1], 3, story[2])
    assert first is not None and late is not None
    assert reference(first) != NO_REFERENCE and reference(late) == NO_REFERENCE


def test_label_stream_is_delta_coded() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 500)
    server, client, sizes = ServerLink("context", "context"), ClientLink(0, "context", "context"), []
    for number in range(1, 4):
        down = LabelDownlink(number, labels, PSID, 10)
        client.decode(server.encode(down, client=0), down.plan().for_client(0))
        up = LabelUplink(number, 0, labels, 0.5, PSID, 10)
        data = client.encode(up)
        assert np.array_equal(server.decode(data, up.plan()).content, labels)
        sizes.append(len(payload(data)))
        labels = np.where(rng.random(500) < 0.02, rng.integers(0, 10, 500), labels)
    assert sizes[2] < 60 < 208  # 500 labels of log2(10) bits are 208 bytes


def test_partial_rows_use_the_same_references() -> None:
    story = fsd_like(3, clients=1)
    server, client = ServerLink("context", "context"), ClientLink(0, "context", "context")
    known = np.zeros(SHAPE, np.uint8)
    for number, step in enumerate(story, start=1):
        if step["down"] is not None:
            client.decode(server.encode(SpikeDownlink(number, step["down"], PSID), client=0), down_plan(number, 0))
        rows = changed_rows(step["up"][0], known) if number > 1 else np.ones(120, bool)
        up = PartialSpikeUplink(number, 0, select_rows(step["up"][0], rows), 0.5, PSID)
        back = server.decode(client.encode(up), up.plan()).content
        assert np.array_equal(back.rows, rows) and np.array_equal(back.spikes[rows], step["up"][0][rows])
        known = back.fill(known)
        assert not changed_rows(step["up"][0], known).any()


def test_error_feedback_sends_what_was_dropped_later() -> None:
    tensors = {"w": np.linspace(-1, 1, 400, dtype=np.float32)}
    server, client = ServerLink("stc-100", "stc-100", ledger=Ledger()), ClientLink(0, "stc-100", "stc-100")
    total = np.zeros(400, np.float32)
    for number in range(1, 301):
        message = WeightsUplink(number, 0, tensors, 10, 0.5)
        total += server.decode(client.encode(message), message.plan()).content["w"]
    assert np.corrcoef(total, tensors["w"])[0, 1] > 0.95  # single messages of 4 entries are far from it
    message = WeightsUplink(1, 0, tensors, 10, 0.5)
    one = server.decode(ClientLink(0, "stc-100", "stc-100").encode(message), message.plan())
    assert np.count_nonzero(one.content["w"]) == 4


@pytest.mark.parametrize("codec", ["stc-100", "topk-10"])
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_with_a_lost_update(codec: str, seed: int) -> None:
    """Sum of what arrived + what the sender still holds = sum of all changes, whatever was dropped or sent again."""
    rng = np.random.default_rng(seed)
    server, client = ServerLink(codec, "float32"), ClientLink(0, codec, "float32")
    wanted, arrived = np.zeros(500), np.zeros(500)
    for number in range(1, 25):
        down = WeightsDownlink(number, {"w": np.zeros(2, np.float32)})
        client.decode(server.encode(down, client=0), down.plan().for_client(0))
        change = rng.normal(size=500).astype(np.float32)
        wanted += change
        up = WeightsUplink(number, 0, {"w": change}, 1, 0.5)
        data = client.encode(up)
        if rng.random() < 0.5:
            assert client.encode(up) == data  # sent again: the same bytes, nothing counted twice
        if rng.random() < 0.6:
            arrived += server.decode(data, up.plan()).content["w"]
    down = WeightsDownlink(25, {"w": np.zeros(2, np.float32)})
    client.decode(server.encode(down, client=0), down.plan().for_client(0))
    state = client._sender.own_state(find("weights", codec), 25)
    assert state is not None
    assert np.allclose(arrived + state.private["residual"], wanted, atol=1e-4)


def test_ternary_updates_go_down_to_all_clients_in_one_payload() -> None:
    rng = np.random.default_rng(0)
    server, clients = ServerLink("stc-100", "stc-100"), [ClientLink(c, "stc-100", "stc-100") for c in range(3)]
    wanted, arrived = np.zeros(1000), np.zeros((3, 1000))
    statistics = np.arange(4, dtype=np.float32) / 7
    for number in range(1, 9):
        change = rng.normal(size=1000).astype(np.float32)
        wanted += change
        message = WeightsDownlink(number, {"w": change, "running_mean": statistics}, exact=["running_mean"])
        packets = [server.encode(message, client=c) for c in range(3)]
        assert len({payload(packet) for packet in packets}) == 1
        for client, packet, total in zip(clients, packets, arrived, strict=True):
            back = client.decode(packet, message.plan().for_client(client.client)).content
            assert np.array_equal(back["running_mean"], statistics)
            total += back["w"]
            up = WeightsUplink(number, client.client, {"w": back["w"]}, 1, 0.5)
            server.decode(client.encode(up), up.plan())
    state = server._senders[-1].own_state(find("weights", "stc-100"), 9)
    assert state is not None and (arrived[0] == arrived[1]).all()
    assert np.allclose(arrived[0] + state.private["residual"], wanted, atol=1e-4)


def test_refused_update_gives_its_error_feedback_back() -> None:
    tensors = {"w": np.arange(1, 201, dtype=np.float32)}
    server, client = ServerLink("stc-100", "stc-100"), ClientLink(0, "stc-100", "stc-100")
    specs = tensor_specs(tensors)

    def down(number: int) -> None:
        client.decode(server.encode(WeightsDownlink(number, tensors), client=0),
                      Plan.weights("down", round=number, client=0, tensors=specs))  # fmt: skip

    down(1)
    lost = client.encode(WeightsUplink(1, 0, tensors, 1, 0.5))
    down(2)  # says that the server holds nothing of this client
    again = client.encode(WeightsUplink(2, 0, {"w": np.zeros(200, np.float32)}, 1, 0.5))
    assert payload(again) == payload(lost)  # nothing new to say, so it says the lost change


def test_server_decode_needs_a_client() -> None:
    with pytest.raises(PacketError, match="client"):
        ServerLink().decode(b"", up_plan(SHAPE, client=None))
