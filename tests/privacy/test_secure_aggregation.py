"""Secure aggregation: exact sums, dropouts, uniform uploads, and what clients refuse to tell."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from spikefed.errors import PacketError
from spikefed.privacy import masks, messages, shamir
from spikefed.privacy.protocol import ClientSession, ServerSession, threshold

CONTEXT = bytes(range(32))


def source(seed: int):
    return random.Random(seed).randbytes


def run(
    votes: dict[int, np.ndarray],
    levels: int = 1,
    *,
    after_keys: frozenset[int] = frozenset(),
    after_shares: frozenset[int] = frozenset(),
    after_votes: frozenset[int] = frozenset(),
    seed: int = 0,
) -> tuple[np.ndarray, dict[int, np.ndarray], ServerSession]:
    """A whole round; clients named in ``after_*`` say nothing from that stage on."""
    server = ServerSession(1, CONTEXT, levels)
    clients = {c: ClientSession(c, 1, CONTEXT, levels, source(1000 * seed + c)) for c in votes}
    for c, session in clients.items():
        server.read_keys(c, session.advertise())
    rosters = server.rosters()
    for c in clients.keys() - after_keys:
        server.read_shares(c, clients[c].share(rosters[c]))
    inboxes = server.inboxes()
    masked = {c: clients[c].mask(inboxes[c], votes[c]) for c in server.shared - after_shares}
    questions = server.survivors(masked)
    reveals = {c: server.read_reveal(c, clients[c].reveal(questions[c])) for c in masked.keys() - after_votes}
    return server.open(masked, reveals), masked, server


def random_votes(clients: int, levels: int, size: int = 50, seed: int = 0) -> dict[int, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {3 * c + 1: rng.integers(0, levels + 1, size) for c in range(clients)}


@given(st.integers(2, 6), st.sampled_from([1, 2, 15, 255]), st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_the_sum_is_the_plain_sum(clients: int, levels: int, seed: int) -> None:
    votes = random_votes(clients, levels, seed=seed)
    total, _, server = run(votes, levels, seed=seed)
    assert np.array_equal(total, sum(votes.values()))
    assert server.bits == int(np.ceil(np.log2(clients * levels + 1)))


@pytest.mark.parametrize("stage", ["after_keys", "after_shares", "after_votes"])
@pytest.mark.parametrize("gone", [0, 1, 3])
def test_one_of_four_drops_out(stage: str, gone: int) -> None:
    votes = random_votes(4, 3)
    absent = sorted(votes)[gone]
    total, masked, _ = run(votes, 3, **{stage: frozenset({absent})})  # type: ignore[arg-type]
    counted = set(votes) - ({absent} if stage != "after_votes" else set())
    assert masked.keys() == counted
    assert np.array_equal(total, sum(votes[c] for c in counted))


@given(st.sets(st.integers(0, 8), max_size=4), st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_any_minority_of_nine_drops_out_at_any_stage(gone: set[int], seed: int) -> None:
    votes = random_votes(9, 1, seed=seed)
    absent = [sorted(votes)[i] for i in sorted(gone)]
    stages = [frozenset(absent[i::3]) for i in range(3)]
    total, masked, _ = run(votes, 1, after_keys=stages[0], after_shares=stages[1], after_votes=stages[2])
    assert np.array_equal(total, sum(votes[c] for c in masked))
    assert masked.keys() == votes.keys() - stages[0] - stages[1]


def test_too_many_dropouts_are_refused() -> None:
    votes = random_votes(4, 1)
    a, b = sorted(votes)[:2]
    with pytest.raises(PacketError, match="2 of 4 masked votes came, 3 are needed"):
        run(votes, after_shares=frozenset({a, b}))
    with pytest.raises(PacketError, match="2 shares of client 1 came, 3 are needed"):
        run(votes, after_votes=frozenset({a, b}))


@pytest.mark.parametrize(("bits", "levels"), [(2, 1), (3, 2)])
def test_one_upload_is_uniform_whatever_was_voted(bits: int, levels: int) -> None:
    """Chi-square over ring elements of what the server sees of one client, for silent, full and mixed votes."""
    size = 60_000
    for fill, seed in itertools.product((0, levels, None), (1, 2)):
        votes = {c: np.full(size, levels if fill is None else fill) for c in range(3)}
        if fill is None:
            votes[0] = np.random.default_rng(seed).integers(0, levels + 1, size)
        _, masked, server = run(votes, levels, seed=seed)
        assert server.bits == bits
        for values in masked.values():
            counts = np.bincount(values, minlength=1 << bits)
            assert len(counts) == 1 << bits
            assert stats.chisquare(counts).pvalue > 1e-4
            pairs = np.bincount(values[0::2].astype(int) * (1 << bits) + values[1::2], minlength=1 << 2 * bits)
            assert stats.chisquare(pairs).pvalue > 1e-4
            against = np.array([[((values == v) & (votes[0] == x)).sum() for v in range(1 << bits)]
                                for x in np.unique(votes[0])])  # fmt: skip
            if len(against) > 1:
                assert stats.chi2_contingency(against).pvalue > 1e-4


def test_uploads_of_a_dropped_client_stay_masked_by_its_own_mask() -> None:
    """With all pairwise keys known (a client wrongly declared dead), the own mask still hides a late upload."""
    votes = {c: np.zeros(40_000, dtype=int) for c in range(3)}
    session = {c: ClientSession(c, 1, CONTEXT, 1, source(c)) for c in votes}
    server = ServerSession(1, CONTEXT, 1)
    for c, s in session.items():
        server.read_keys(c, s.advertise())
    for c, roster in server.rosters().items():
        server.read_shares(c, session[c].share(roster))
    masked = {c: session[c].mask(inbox, votes[c]) for c, inbox in server.inboxes().items()}
    late = masked.pop(2)
    questions = server.survivors(masked)
    reveals = {c: server.read_reveal(c, session[c].reveal(q)) for c, q in questions.items()}
    assert not server.open(masked, reveals).any()
    # The server now knows client 2's mask key; take every pairwise mask off its late upload.
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from spikefed.privacy.protocol import pairwise_mask

    key = X25519PrivateKey.from_private_bytes(server._recovered(2, reveals))
    bare = late.copy()
    for other in (0, 1):
        bare_mask = pairwise_mask(key, 2, other, server.roster[other][32:64], 1, CONTEXT, late.size, 2)
        masks.add(bare, bare_mask, 2, 1)
    assert stats.chisquare(np.bincount(bare, minlength=4)).pvalue > 1e-4


def started(clients: int = 3) -> tuple[dict[int, ClientSession], ServerSession]:
    sessions = {c: ClientSession(c, 1, CONTEXT, 1, source(c)) for c in range(clients)}
    server = ServerSession(1, CONTEXT, 1)
    for c, session in sessions.items():
        server.read_keys(c, session.advertise())
    return sessions, server


def finished() -> tuple[dict[int, ClientSession], ServerSession]:
    sessions, server = started()
    for c, roster in server.rosters().items():
        server.read_shares(c, sessions[c].share(roster))
    for c, inbox in server.inboxes().items():
        sessions[c].mask(inbox, np.zeros(4, dtype=int))
    return sessions, server


def test_a_client_answers_one_question_only() -> None:
    """Both kinds of shares of one client would open its votes: the second answer is refused."""
    sessions, server = finished()
    sessions[0].reveal(server.survivors({0, 1})[0])
    with pytest.raises(PacketError, match="once"):
        sessions[0].reveal(server.survivors({0, 1, 2})[0])


def test_a_client_refuses_a_sum_of_few() -> None:
    sessions, _ = finished()
    alone = messages.pack("survivors", 1, 0, {0: b"\1", 1: b"\0", 2: b"\0"})
    with pytest.raises(PacketError, match="a sum of 1 of 3 clients is refused"):
        sessions[0].reveal(alone)
    strangers = messages.pack("survivors", 1, 0, {0: b"\1", 1: b"\1", 9: b"\1"})
    with pytest.raises(PacketError, match="not the clients that shared"):
        sessions[0].reveal(strangers)


def test_a_client_checks_the_roster() -> None:
    sessions, server = started()
    roster = server.roster
    for change, sentence in (
        ({**roster, 0: bytes(96)}, "does not hold the keys"),
        ({0: roster[0]}, "at least two"),
        ({**roster, 2: roster[1]}, "same key"),
    ):
        with pytest.raises(PacketError, match=sentence):
            sessions[0].share(messages.pack("roster", 1, 0, change))
    with pytest.raises(PacketError, match="after the shares"):
        sessions[0].mask(messages.pack("shares", 1, 0, {}), np.zeros(3, dtype=int))


def test_votes_are_masked_once() -> None:
    sessions, server = finished()
    with pytest.raises(PacketError, match="once"):
        sessions[0].mask(server.inboxes()[0], np.ones(4, dtype=int))


def test_a_wrong_share_is_noticed() -> None:
    sessions, server = finished()
    questions = server.survivors({0, 1})
    reveals = {c: server.read_reveal(c, sessions[c].reveal(q)) for c, q in questions.items()}
    ok = {c: np.zeros(4, np.uint8) for c in (0, 1)}
    for victim, sentence in ((0, "seed"), (2, "key|wrong")):
        bad = {c: dict(r) for c, r in reveals.items()}
        bad[1][victim] = (int.from_bytes(bad[1][victim], "big") ^ 1).to_bytes(33, "big")
        with pytest.raises(PacketError, match=sentence):
            server.open(ok, bad)


@given(st.binary(max_size=400), st.sampled_from(sorted(messages.STAGES)))
def test_only_packet_errors_come_out_of_bytes(data: bytes, stage: str) -> None:
    with pytest.raises(PacketError):
        messages.unpack(data, stage, 1, 0)


@pytest.mark.parametrize("stage", sorted(messages.STAGES))
def test_messages_come_back_and_altered_ones_do_not(stage: str) -> None:
    entries = {c: bytes([c]) * messages.STAGES[stage] for c in (2, 7)}
    data = messages.pack(stage, 9, 3, entries)
    assert messages.unpack(data, stage, 9, 3) == entries
    assert len(data) == messages.OVERHEAD_BYTES + 2 * (4 + messages.STAGES[stage])
    for at in range(len(data)):
        with pytest.raises(PacketError):
            messages.unpack(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], stage, 9, 3)
    for round_, client in ((8, 3), (9, 4)):
        with pytest.raises(PacketError, match="round"):
            messages.unpack(data, stage, round_, client)


@given(st.binary(min_size=32, max_size=32), st.integers(1, 7), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_shares_give_the_secret(secret: bytes, t: int, rng: random.Random) -> None:
    shares = shamir.split(secret, range(1, 8), t, source(1))
    chosen = dict(rng.sample(sorted(shares.items()), t))
    assert shamir.combine(chosen) == secret


def test_fewer_shares_fit_every_secret() -> None:
    """t - 1 shares and any other secret still lie on one polynomial: nothing is known."""
    shares = shamir.split(b"a" * 32, range(1, 6), 3, source(2))
    two = {p: shares[p] for p in (1, 4)}
    for wish in (b"b" * 32, bytes(32)):
        points = {0: int.from_bytes(wish, "big")} | {p: int.from_bytes(s, "big") for p, s in two.items()}

        def at(x: int, points: dict[int, int] = points) -> bytes:
            total = 0
            for p, y in points.items():
                top = bottom = 1
                for q in points:
                    if q != p:
                        top, bottom = top * (x - q), bottom * (p - q)
                total += y * top * pow(bottom, -1, shamir.PRIME)
            return (total % shamir.PRIME).to_bytes(33, "big")

        assert shamir.combine(two | {2: at(2)}) == wish


def test_the_field_is_a_field() -> None:
    """Miller-Rabin on P with 40 bases, and nothing smaller above 2^256 passes for base 3."""

    def probably_prime(n: int, base: int) -> bool:
        d, s = n - 1, 0
        while d % 2 == 0:
            d, s = d // 2, s + 1
        x = pow(base, d, n)
        return x in (1, n - 1) or any((x := x * x % n) == n - 1 for _ in range(s - 1))

    rng = random.Random(0)
    assert all(probably_prime(shamir.PRIME, rng.randrange(2, shamir.PRIME - 1)) for _ in range(40))
    assert not any(probably_prime(n, 3) for n in range(2**256 + 1, shamir.PRIME, 2))


def test_bad_sharing_is_refused() -> None:
    for secret, points, t in ((b"x", [1], 1), (bytes(32), [0, 1], 1), (bytes(32), [1, 1], 1), (bytes(32), [1], 2)):
        with pytest.raises(ValueError):
            shamir.split(secret, points, t, source(0))
    with pytest.raises(ValueError, match="no share"):
        shamir.combine({})
    with pytest.raises(ValueError, match="no element"):
        shamir.combine({1: b"\xff" * 33})


@pytest.mark.parametrize("bits", [1, 2, 7, 8, 9, 16, 17])
def test_masks_fill_the_ring_and_cancel(bits: int) -> None:
    values = masks.mask(bytes(32), 5000, bits)
    assert values.dtype == masks.ring_dtype(bits) and int(values.max()) < 1 << bits
    assert int(values.max()) > 0.9 * ((1 << bits) - 1)
    start = np.arange(5000).astype(values.dtype) & values.dtype.type((1 << bits) - 1)
    total = start.copy()
    masks.add(total, values, bits)
    assert not np.array_equal(total, start) and int(total.max()) < 1 << bits
    masks.add(total, values, bits, -1)
    assert np.array_equal(total, start)


def test_ring_sizes_and_thresholds() -> None:
    assert [masks.ring_bits(n, w) for n, w in ((4, 1), (16, 1), (64, 1), (4, 15), (3, 1), (64, 15))] == [
        3, 5, 7, 6, 2, 10,
    ]  # fmt: skip
    assert [threshold(n) for n in (2, 3, 4, 16, 64)] == [2, 2, 3, 9, 33]


def test_the_stream_is_chacha20() -> None:
    """The key stream of the all-zero key and nonce: RFC 8439, appendix A.1, vector 1."""
    first = bytes.fromhex("76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7")
    assert masks.mask(bytes(32), 32, 8).tobytes() == first
