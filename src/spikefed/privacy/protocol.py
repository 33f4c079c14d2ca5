"""Secure aggregation of votes: Bonawitz et al., "Practical Secure Aggregation", CCS 2017, against an honest server.

The server learns the sum of the votes of those who finished and nothing else of any one of them, as long as it follows
the protocol and fewer than ``threshold`` clients tell it what they know. Four exchanges a round, keys fresh in each:

    keys      u -> server   c_u^PK, s_u^PK, SHA-256(b_u)             (advertise keys)
    shares    u -> server   shares of s_u^SK and b_u, sealed for v   (share keys)
    round     u -> server   y_u = x_u + PRG(b_u) + sum_{v>u} PRG(s_uv) - sum_{v<u} PRG(s_uv)  mod 2^b
    unmask    u -> server   shares of b_v for v in the sum, of s_v^SK for v that dropped out after sharing

Here x_u is the client's integer votes; ring and masks are those of `masks`. The consistency check against a server that
tells clients different stories (their round 3) is left out: see docs/privacy.md. Sessions hold one round each, read no
clock, and get their randomness passed in.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from spikefed.errors import PacketError
from spikefed.privacy import shamir
from spikefed.privacy.masks import (
    KEY_BYTES,
    add,
    agree,
    mask,
    private_key,
    public_bytes,
    ring_bits,
    ring_dtype,
    seal,
    unseal,
)
from spikefed.privacy.messages import pack, unpack


def threshold(clients: int) -> int:
    """t: how many must answer the last exchange, a majority; as many must collude with the server to betray one."""
    return clients // 2 + 1


def _purpose(name: bytes, round: int, context: bytes, first: int, second: int) -> bytes:
    numbers = round.to_bytes(4, "little") + first.to_bytes(4, "little") + second.to_bytes(4, "little")
    return b"spikefed secure aggregation 1 " + name + b" " + numbers + context


def pairwise_mask(key: X25519PrivateKey, owner: int, other: int, other_public: bytes, round: int, context: bytes,
                  count: int, bits: int) -> np.ndarray:  # fmt: skip
    """PRG(s_uv): the same whichever of the two keys it is made from.

    Args:
        key: the owner's private key.
        owner: number of the one whose mask it is.
        other: number of its partner.
        other_public: the partner's public key, 32 bytes.
        round: its number, from 1.
        context: bytes that tie the mask to the run.
        count: ring elements to make.
        bits: of the ring.
    """
    purpose = _purpose(b"mask", round, context, min(owner, other), max(owner, other))
    return mask(agree(key, other_public, purpose), count, bits)


class ClientSession:
    """One client's part in one round.

    Args:
        client, round: numbers.
        context: what both ends agree on (the public set id); masks of other contexts never match.
        levels: w, the largest vote.
        random: gives random bytes; the operating system's.
    """

    def __init__(
        self, client: int, round: int, context: bytes, levels: int, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        self.client = client
        self.round = round
        self.levels = levels
        self._context = context
        self._random = random
        self._cipher_key = private_key(random)
        self._mask_key = private_key(random)
        self._seed = random(KEY_BYTES)
        self._own = public_bytes(self._cipher_key) + public_bytes(self._mask_key) + hashlib.sha256(self._seed).digest()
        self._roster: dict[int, bytes] = {}
        self._held: dict[int, bytes | None] = {}  # shares of others, as unsealed
        self._finished = False

    def advertise(self) -> bytes:
        """Stage keys."""
        return pack("keys", self.round, self.client, {self.client: self._own})

    def share(self, roster: bytes) -> bytes:
        """Stage shares: everybody's keys in, sealed shares for everybody else out.

        Raises:
            PacketError: the roster lacks this client's own keys, has nobody else in it, or gives one key twice.
        """
        entries = unpack(roster, "roster", self.round, self.client)
        if entries.get(self.client) != self._own:
            raise PacketError("roster", f"it does not hold the keys that client {self.client} sent")
        if len(entries) < 2:
            raise PacketError("roster", "a sum of one vote hides nothing; at least two clients must take part")
        if len({value[:KEY_BYTES] for value in entries.values()}) < len(entries):
            raise PacketError("roster", "two clients have the same key")
        self._roster = entries
        points = [number + 1 for number in entries]
        t = threshold(len(entries))
        keys = shamir.split(self._mask_key.private_bytes_raw(), points, t, self._random)
        seeds = shamir.split(self._seed, points, t, self._random)
        self._held = {self.client: keys[self.client + 1] + seeds[self.client + 1]}
        sealed = {
            other: seal(self._share_key(self.client, other, other), keys[other + 1] + seeds[other + 1])
            for other in entries
            if other != self.client
        }
        return pack("shares", self.round, self.client, sealed)

    def _share_key(self, sender: int, receiver: int, other: int) -> bytes:
        purpose = _purpose(b"share", self.round, self._context, sender, receiver)
        return agree(self._cipher_key, self._roster[other][:KEY_BYTES], purpose)

    @property
    def bits(self) -> int:
        """b of this round's ring."""
        return ring_bits(len(self._roster), self.levels)

    def mask(self, inbox: bytes, votes: np.ndarray) -> np.ndarray:
        """y_u: the votes, int ``[M]`` in 0..levels, under the masks of everybody whose shares came.

        Raises:
            PacketError: fewer clients have shared than the threshold, or a stranger is among them.
        """
        entries = unpack(inbox, "shares", self.round, self.client)
        if self._finished or not self._roster:
            raise PacketError("stage", "votes are masked once, after the shares")
        if not entries.keys() <= self._roster.keys() - {self.client}:
            raise PacketError("shares", "they name a client that is not on the roster")
        if len(entries) + 1 < threshold(len(self._roster)):
            raise PacketError("shares", f"only {len(entries) + 1} of {len(self._roster)} clients have shared")
        if votes.size and not 0 <= int(votes.min()) <= int(votes.max()) <= self.levels:
            raise ValueError(f"votes must lie in 0..{self.levels}")
        for sender, sealed in entries.items():
            # A share that does not open is one that this client cannot give back; the others still can.
            self._held[sender] = unseal(self._share_key(sender, self.client, sender), sealed)
        total = votes.reshape(-1).astype(ring_dtype(self.bits))
        add(total, mask(self._seed, total.size, self.bits), self.bits)
        for other in entries:
            pairwise = pairwise_mask(self._mask_key, self.client, other, self._roster[other][KEY_BYTES : 2 * KEY_BYTES],
                                     self.round, self._context, total.size, self.bits)  # fmt: skip
            add(total, pairwise, self.bits, 1 if self.client < other else -1)
        self._finished = True
        return total

    def reveal(self, survivors: bytes) -> bytes:
        """Stage unmask: for each client one share, never both kinds of the same client, once.

        Raises:
            PacketError: a second question, too few survivors, or other clients than those who shared.
        """
        entries = unpack(survivors, "survivors", self.round, self.client)
        alive = {client for client, flag in entries.items() if flag != b"\0"}
        if not self._finished or not self._held:
            raise PacketError("stage", "shares are given out once, after the masked votes")
        if entries.keys() != self._held.keys() or self.client not in alive:
            raise PacketError("survivors", "they are not the clients that shared with this one")
        if len(alive) < threshold(len(self._roster)):
            raise PacketError("survivors", f"a sum of {len(alive)} of {len(self._roster)} clients is refused")
        half = shamir.SHARE_BYTES
        given = {
            client: both[half:] if client in alive else both[:half]
            for client, both in self._held.items()
            if both is not None
        }
        self._held = {}
        return pack("reveal", self.round, self.client, given)


class ServerSession:
    """The server's part in one round; every method takes what came in and gives what goes out, by client.

    Args:
        round, context, levels: as for clients.
    """

    def __init__(self, round: int, context: bytes, levels: int) -> None:
        self.round = round
        self.levels = levels
        self._context = context
        self.roster: dict[int, bytes] = {}
        self.shared: set[int] = set()
        self._sealed: dict[int, dict[int, bytes]] = {}

    @property
    def bits(self) -> int:
        """b of this round's ring."""
        return ring_bits(len(self.roster), self.levels)

    def read_keys(self, client: int, data: bytes) -> None:
        """Accept one client's keys. Raises PacketError."""
        entries = unpack(data, "keys", self.round, client)
        if entries.keys() != {client}:
            raise PacketError("keys", f"client {client} must send its own keys and no others")
        self.roster[client] = entries[client]

    def rosters(self) -> dict[int, bytes]:
        """What goes to everybody whose keys came."""
        return {client: pack("roster", self.round, client, self.roster) for client in self.roster}

    def read_shares(self, client: int, data: bytes) -> None:
        """Accept one client's sealed shares. Raises PacketError."""
        entries = unpack(data, "shares", self.round, client)
        if client not in self.roster or entries.keys() != self.roster.keys() - {client}:
            raise PacketError("shares", f"client {client} must share with every other client on the roster")
        self._sealed[client] = entries
        self.shared.add(client)

    def inboxes(self) -> dict[int, bytes]:
        """What goes to everybody who has shared: the shares of the others."""
        return {
            client: pack("shares", self.round, client, {u: self._sealed[u][client] for u in self.shared - {client}})
            for client in self.shared
        }

    def survivors(self, alive: Iterable[int]) -> dict[int, bytes]:
        """The last question, to everybody whose masked votes came.

        Raises:
            PacketError: fewer than the threshold.
        """
        alive = set(alive)
        if len(alive) < threshold(len(self.roster)):
            raise PacketError("survivors", f"{len(alive)} of {len(self.roster)} masked votes came, "
                              f"{threshold(len(self.roster))} are needed to open their sum")  # fmt: skip
        flags = {client: b"\1" if client in alive else b"\0" for client in self.shared}
        return {client: pack("survivors", self.round, client, flags) for client in alive}

    def read_reveal(self, client: int, data: bytes) -> dict[int, bytes]:
        """One client's answer. Raises PacketError."""
        entries = unpack(data, "reveal", self.round, client)
        if not entries.keys() <= self.shared:
            raise PacketError("reveal", "it names a client that did not share")
        return entries

    def open(self, masked: Mapping[int, np.ndarray], reveals: Mapping[int, Mapping[int, bytes]]) -> np.ndarray:
        """The sum of the votes behind ``masked``, int64 ``[M]`` in [0, 2^b).

        Raises:
            PacketError: too few shares, or shares that give another secret than the one announced.
        """
        first = next(iter(masked.values()))
        total = np.zeros(first.size, dtype=ring_dtype(self.bits))
        for client in sorted(masked):
            add(total, masked[client], self.bits)
        for client in sorted(self.shared):
            secret = self._recovered(client, reveals)
            if client in masked:
                if not hmac.compare_digest(hashlib.sha256(secret).digest(), self.roster[client][2 * KEY_BYTES :]):
                    raise PacketError("reveal", f"the shares of client {client} do not give the seed that it announced")
                add(total, mask(secret, total.size, self.bits), self.bits, -1)
                continue
            key = X25519PrivateKey.from_private_bytes(secret)
            if public_bytes(key) != self.roster[client][KEY_BYTES : 2 * KEY_BYTES]:
                raise PacketError("reveal", f"the shares of client {client} do not give the key that it announced")
            for other in sorted(masked):
                # Taken off with the sign that the survivor had put it on with.
                pairwise = pairwise_mask(key, client, other, self.roster[other][KEY_BYTES : 2 * KEY_BYTES],
                                         self.round, self._context, total.size, self.bits)  # fmt: skip
                add(total, pairwise, self.bits, -1 if other < client else 1)
        return total.astype(np.int64)

    def _recovered(self, client: int, reveals: Mapping[int, Mapping[int, bytes]]) -> bytes:
        t = threshold(len(self.roster))
        shares = {holder + 1: given[client] for holder, given in sorted(reveals.items()) if client in given}
        if len(shares) < t:
            raise PacketError("reveal", f"{len(shares)} shares of client {client} came, {t} are needed")
        try:
            return shamir.combine(dict(list(shares.items())[:t]))
        except ValueError as error:
            raise PacketError("reveal", f"the shares of client {client} are wrong: {error}") from error
