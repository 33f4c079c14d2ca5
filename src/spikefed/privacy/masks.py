"""Keys, seeds and masks of secure aggregation: X25519, HKDF-SHA256 and a ChaCha20 stream, all from `cryptography`.

Votes live in the ring of integers mod 2^b. Pairwise masks cancel in the sum; each client's own mask is taken off once
the others have said who is in the sum.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

KEY_BYTES = 32
TAG_BYTES = 16
MAX_BITS = 32


def ring_bits(clients: int, levels: int) -> int:
    """b = ceil(log2(N w + 1)): bits that hold any sum of N votes of 0..w."""
    return max(1, (clients * levels).bit_length())


def ring_dtype(bits: int) -> np.dtype:
    """The smallest unsigned type that holds ``bits`` bits."""
    return np.dtype(np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32)


def private_key(random: Callable[[int], bytes]) -> X25519PrivateKey:
    """A fresh X25519 key."""
    return X25519PrivateKey.from_private_bytes(random(KEY_BYTES))


def public_bytes(key: X25519PrivateKey) -> bytes:
    """Its public half, 32 bytes."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def agree(own: X25519PrivateKey, other: bytes, purpose: bytes) -> bytes:
    """32 bytes that only the two key holders can derive; different for every ``purpose``.

    Raises:
        ValueError: ``other`` is a key of small order, which no honest client sends.
    """
    shared = own.exchange(X25519PublicKey.from_public_bytes(other))
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=purpose).derive(shared)


def mask(seed: bytes, count: int, bits: int) -> np.ndarray:
    """``count`` uniform ring elements from a seed: bytes of a ChaCha20 stream cut to ``bits`` bits each.

    A seed makes one stream in its life, so the nonce is fixed. Shape ``[count]``.
    """
    dtype = ring_dtype(bits)
    stream = Cipher(ChaCha20(seed, bytes(16)), mode=None).encryptor().update(bytes(count * dtype.itemsize))
    values = np.frombuffer(stream, dtype=dtype.newbyteorder("<")).astype(dtype)
    return values if bits == 8 * dtype.itemsize else values & dtype.type((1 << bits) - 1)


def add(total: np.ndarray, values: np.ndarray, bits: int, sign: int = 1) -> None:
    """``total += sign * values`` mod 2^bits, in place; unsigned types wrap, so only the cut remains.

    Args:
        total: ring elements ``[n]``, changed in place.
        values: ring elements ``[n]``.
        bits: of the ring.
        sign: 1 or -1.
    """
    np.add(total, values, out=total) if sign > 0 else np.subtract(total, values, out=total)
    if bits != 8 * total.dtype.itemsize:
        np.bitwise_and(total, total.dtype.type((1 << bits) - 1), out=total)


def seal(key: bytes, text: bytes) -> bytes:
    """Encrypt and authenticate one message under a key that is used once."""
    return ChaCha20Poly1305(key).encrypt(bytes(12), text, None)


def unseal(key: bytes, sealed: bytes) -> bytes | None:
    """The message, or None when it was altered or made under another key."""
    try:
        return ChaCha20Poly1305(key).decrypt(bytes(12), sealed, None)
    except InvalidTag:
        return None
