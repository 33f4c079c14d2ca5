"""Numbers of variable length: 7 bits a byte, lowest first, the top bit set in all bytes but the last (LEB128)."""

from __future__ import annotations

from spikefed.errors import PacketError

LIMIT = 1 << 32


def varint(value: int, field: str) -> bytes:
    """1 to 5 bytes of a number in [0, 2^32). Raises PacketError naming ``field`` outside it."""
    value = int(value)
    if not 0 <= value < LIMIT:
        raise PacketError(field, f"{value} is not in [0, 2^32)")
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


class Cursor:
    """Reads pieces of bytes one after the other; running out raises PacketError naming the field."""

    def __init__(self, view: memoryview, at: int = 0) -> None:
        self.view = view
        self.at = at

    def take(self, count: int, field: str) -> bytes:
        """The next ``count`` bytes."""
        if count > len(self.view) - self.at:
            raise PacketError("length", f"the packet ends inside its {field}")
        self.at += count
        return bytes(self.view[self.at - count : self.at])

    def varint(self, field: str) -> int:
        """The next number; only its shortest form is read."""
        value = shift = 0
        while True:
            (byte,) = self.take(1, field)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
            if shift == 35:
                raise PacketError(field, "a number of more than five bytes")
        if value >= LIMIT or (byte == 0 and shift > 7):
            raise PacketError(field, "a number that is not written in its shortest form below 2^32")
        return value
