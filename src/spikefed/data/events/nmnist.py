"""N-MNIST (Orchard et al. 2015): 40 bits an event, big-endian: x 8, y 8, polarity 1, microseconds 23.

A row of 240 is no pixel: it marks that the sensor's clock ran over, and adds 2^13 microseconds to all that follows, as
the authors' own reader has it. Other readers differ: SpikingJelly 2.0 gives such marks out as events of row 240. A file
without a byte is a copy that failed: every official recording holds events, so it is refused, never an empty picture.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spikefed.data.events.records import Events, check_inside, content_of, refuse

SENSOR = (34, 34)
OVERFLOW_ROW = 240
OVERFLOW_US = 1 << 13
_BYTES = 5


def read_nmnist(path: Path) -> Events:
    """The events of one ``.bin`` file.

    Raises:
        DataError: unreadable, empty, cut off within an event, or an event outside the 34x34 pixels; the text names
            the byte.
    """
    content = content_of(path)
    if not content:
        raise refuse(path, 0, "the file is empty")
    if len(content) % _BYTES:
        whole = len(content) - len(content) % _BYTES
        raise refuse(path, whole, f"the last event has {len(content) % _BYTES} of its 5 bytes")
    rows = np.frombuffer(content, np.uint8).reshape(-1, _BYTES)
    x = rows[:, 0]
    y = rows[:, 1]
    third = rows[:, 2].astype(np.int64)
    t = (third & 127) << 16 | rows[:, 3].astype(np.int64) << 8 | rows[:, 4]
    pixel = y != OVERFLOW_ROW
    if not pixel.all():
        t = t + OVERFLOW_US * np.cumsum(~pixel)
    found = np.flatnonzero(pixel)
    x, y = x[found].astype(np.int64), y[found].astype(np.int64)
    check_inside(path, x, y, SENSOR, found * _BYTES, _BYTES)
    return Events(x, y, t[found], (third[found] >> 7).astype(np.uint8))
