"""AEDAT 2.0 (CIFAR10-DVS) and AEDAT 3.1 (DVS128 Gesture) of the DVS128 camera, 128x128 pixels.

AEDAT 2.0: lines that begin with ``#``, then 8 bytes an event, big-endian: address and microseconds, 32 bits each. Of
the address bit 0 is 1 where it grew darker, bits 1 to 7 and 8 to 14 are pixels, bit 15 marks a signal from outside
that is no pixel event. Rows and columns are those that show CIFAR10-DVS upright: column 127 - bits 8-14, row 127 -
bits 1-7, as SpikingJelly has them. tonic's ``read_dvs_128`` takes the same bits unmirrored and polarity the other way
round; neither leaves bit 15 out.

AEDAT 3.1: lines to ``#!END-HEADER``, then packets, little-endian: 28 bytes of header (type, source, size of an event,
offset of its time, times that its clock ran over, capacity, number, valid ones), then the events. Of a polarity event's
first 32 bits, bit 0 says that it is valid, bit 1 that it grew brighter, bits 2 to 16 are the row, 17 to 31 the column;
the time is 31 bits of microseconds, above it the packet's overflow count. Readers differ: tonic's ``read_dvs_ibm``
takes packets of every type for events, and leaves the overflow out; both tonic and SpikingJelly give invalid ones out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikefed.data.events.records import Events, check_inside, content_of, mapped_content_of, refuse

SENSOR = (128, 128)
POLARITY = 1
"""Type of a packet of polarity events."""
_HEADER_BYTES = 28
_EVENT_BYTES = 8
_HEAD = np.dtype(
    [
        ("type", "<u2"), ("source", "<u2"), ("size", "<u4"), ("offset", "<u4"), ("overflow", "<u4"),
        ("capacity", "<u4"), ("number", "<u4"), ("valid", "<u4"),
    ]
)  # fmt: skip
_LAST_TYPE = 7  # the types that the format has names for


def read_aedat2(path: Path) -> Events:
    """The pixel events of a DVS128 recording in AEDAT 2.0.

    Raises:
        DataError: another version, cut off within an event, or an address beyond the sensor's; the text names the byte.
    """
    content = content_of(path)
    start = _header(path, content, b"#!AER-DAT2")
    if (len(content) - start) % _EVENT_BYTES:
        whole = len(content) - (len(content) - start) % _EVENT_BYTES
        raise refuse(path, whole, f"the last event has {len(content) - whole} of its 8 bytes")
    words = np.frombuffer(content, ">u4", offset=start).astype(np.int64).reshape(-1, 2)
    address = words[:, 0]
    t = _unwrapped(words[:, 1], 1 << 32)
    if (beyond := address >> 16 != 0).any():
        row = int(np.argmax(beyond))
        raise refuse(path, start + row * _EVENT_BYTES, f"address {address[row]:#x} is none of a DVS128")
    pixel = address & 0x8000 == 0
    if not pixel.all():
        address = address[pixel]
        t = t[pixel]
    column, row = 127 - (address >> 8 & 127), 127 - (address >> 1 & 127)
    return Events(column, row, t, (1 - (address & 1)).astype(np.uint8))


@dataclass(frozen=True)
class Packets:
    """Where the packets of polarity events stand in a file.

    Attributes:
        path: the file.
        content: its bytes, or a map of them.
        starts: byte at which the events of each begin.
        numbers: events of each.
        overflows: times that the clock ran over before each.
    """

    path: Path
    content: bytes | np.memmap
    starts: np.ndarray
    numbers: np.ndarray
    overflows: np.ndarray

    def events(self, chosen: slice | np.ndarray = slice(None)) -> Events:
        """The valid events of some packets, in the order of the file. Each field ``[E]``."""
        starts = self.starts[chosen]
        numbers = self.numbers[chosen]
        pieces = [self.content[a : a + n * _EVENT_BYTES] for a, n in zip(starts, numbers, strict=True)]
        raw = b"".join(piece.tobytes() if isinstance(piece, np.ndarray) else piece for piece in pieces)
        words = np.frombuffer(raw, "<u4").reshape(-1, 2)
        data = words[:, 0]
        t = words[:, 1].astype(np.int64) + (np.repeat(self.overflows[chosen], numbers) << 31)
        valid = data & 1 == 1
        if not valid.all():
            data = data[valid]
            t = t[valid]
        x, y = (data >> 17).astype(np.int64), (data >> 2 & 0x7FFF).astype(np.int64)
        if len(x) and (x.max() >= SENSOR[1] or y.max() >= SENSOR[0]):
            within = np.concatenate([a + _EVENT_BYTES * np.arange(n) for a, n in zip(starts, numbers, strict=True)])
            check_inside(self.path, x, y, SENSOR, within[valid], _EVENT_BYTES)
        return Events(x, y, t, (data >> 1 & 1).astype(np.uint8))

    def first_times(self) -> np.ndarray:
        """Time of the first event of each packet, microseconds. int64 ``[P]``."""
        at = self.starts + 4
        stamps = [int.from_bytes(bytes(self.content[a : a + 4]), "little") for a in at]
        return np.asarray(stamps, dtype=np.int64) + (self.overflows << 31)


def read_aedat3(path: Path) -> Events:
    """The valid polarity events of a DVS128 recording in AEDAT 3.1; packets of other types are left out.

    Raises:
        DataError: another version, a packet that runs over the end or is of no known kind, an event outside the sensor;
            the text names the byte.
    """
    return index_aedat3(path).events()


def index_aedat3(path: Path, mapped: bool = False) -> Packets:
    """The packets of a file; with ``mapped`` its bytes are read when asked for.

    Raises:
        DataError: as `read_aedat3`, but for events outside the sensor.
    """
    content: bytes | np.memmap = mapped_content_of(path) if mapped else content_of(path)
    place = _header(path, bytes(content[: 1 << 16]), b"#!AER-DAT3", b"#!END-HEADER")
    starts = []
    numbers = []
    overflows = []
    while place < len(content):
        if place + _HEADER_BYTES > len(content):
            raise refuse(path, place, f"a packet header has {len(content) - place} of its 28 bytes")
        head = np.frombuffer(bytes(content[place : place + _HEADER_BYTES]), _HEAD)[0]
        size = int(head["size"])
        capacity = int(head["capacity"])
        number = int(head["number"])
        kind = int(head["type"])
        end = place + _HEADER_BYTES + size * capacity
        if kind > _LAST_TYPE or number > capacity or (kind == POLARITY and size != _EVENT_BYTES):
            told = f"type {kind}, {size} bytes an event, {number} events of {capacity}"
            raise refuse(path, place, f"no packet of this format ({told})")
        if end > len(content):
            raise refuse(path, place, f"a packet of {capacity} events runs {end - len(content):,} bytes over the end")
        if kind == POLARITY and number:
            starts.append(place + _HEADER_BYTES)
            numbers.append(number)
            overflows.append(int(head["overflow"]))
        place = end
    arrays = (np.asarray(values, dtype=np.int64) for values in (starts, numbers, overflows))
    return Packets(path, content, *arrays)


def _header(path: Path, content: bytes, version: bytes, last: bytes | None = None) -> int:
    """The byte after the lines of text."""
    if not content.startswith(version):
        raise refuse(path, 0, f"the file does not begin with {version.decode()}")
    place = 0
    while content[place : place + 1] == b"#":
        end = content.find(b"\n", place)
        if end < 0:
            raise refuse(path, place, "a header line has no end")
        line = content[place:end]
        place = end + 1
        if last is not None and line.strip() == last:
            return place
    if last is not None:
        raise refuse(path, place, f"the header has no {last.decode()}")
    return place


def _unwrapped(t: np.ndarray, period: int) -> np.ndarray:
    """Times that go on where the clock ran over."""
    fell = np.diff(t, prepend=t[:1]) < -(period // 2)
    return t + period * np.cumsum(fell) if fell.any() else t
