"""Secret sharing: Shamir, "How to share a secret", CACM 1979. Any ``threshold`` shares give the secret, fewer nothing.

Arithmetic in the field of P = 2^256 + 297, the first prime above 2^256, so that any 32-byte secret is an element.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33


def split(secret: bytes, points: Sequence[int], threshold: int, random: Callable[[int], bytes]) -> dict[int, bytes]:
    """Shares of a 32-byte secret: a random polynomial of degree ``threshold - 1`` with the secret at 0.

    Args:
        points: different numbers >= 1, one a holder.
        threshold: shares that give the secret back, 1 <= threshold <= number of points.
        random: gives random bytes.

    Returns:
        33 bytes for each point.

    Raises:
        ValueError: a secret of another length, a point below 1 or twice, a threshold out of range.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret has {SECRET_BYTES} bytes, not {len(secret)}")
    if len(set(points)) != len(points) or min(points, default=0) < 1 or not 1 <= threshold <= len(points):
        raise ValueError(f"cannot share among points {list(points)[:5]} with threshold {threshold}")
    # 64 random bytes for each coefficient: reduced mod P they are uniform up to 2^-256.
    coefficients = [int.from_bytes(random(64), "big") % PRIME for _ in range(threshold - 1)]
    coefficients.append(int.from_bytes(secret, "big"))
    shares = {}
    for point in points:
        value = 0
        for coefficient in coefficients:  # Horner, highest degree first
            value = (value * point + coefficient) % PRIME
        shares[point] = value.to_bytes(SHARE_BYTES, "big")
    return shares


def combine(shares: Mapping[int, bytes]) -> bytes:
    """The secret from shares by point: Lagrange interpolation at 0.

    Raises:
        ValueError: no share, a share that is no field element, or shares of no 32-byte secret (one is wrong).
    """
    if not shares:
        raise ValueError("no share to combine")
    values = {point: int.from_bytes(share, "big") for point, share in shares.items()}
    if any(value >= PRIME for value in values.values()):
        raise ValueError("a share is no element of the field")
    secret = 0
    for point, value in values.items():
        top = bottom = 1
        for other in values:
            if other != point:
                top = top * other % PRIME
                bottom = bottom * (other - point) % PRIME
        secret = (secret + value * top * pow(bottom, -1, PRIME)) % PRIME
    if secret >= 1 << (8 * SECRET_BYTES):
        raise ValueError("the shares belong to no 32-byte secret: one of them is wrong")
    return secret.to_bytes(SECRET_BYTES, "big")
