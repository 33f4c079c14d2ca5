"""From events to the network's steps: every event in exactly one frame."""

from __future__ import annotations

from typing import Literal

import numpy as np

from spikefed.data.events.records import Events
from spikefed.errors import DataError

By = Literal["time", "count"]


def frames(
    events: Events,
    steps: int,
    sensor: tuple[int, int],
    *,
    by: By = "time",
    polarities: int = 2,
    size: int | None = None,
) -> np.ndarray:
    """Counts of events, int32 ``[T, P, H, W]``; channel 1 grew brighter, channel 0 darker.

    ``time``: the span from the first to the last event in T equal parts, edges real-valued, the last closed: event t is
    in frame floor((t - t0) T / (t1 - t0)). ``count``: the i-th event in time of N in frame floor(i T / N). Neither
    loses an event; other readers lose what lies behind the last whole bin.

    Args:
        events: of one recording; may be none.
        steps: T >= 1.
        sensor: (height, width) in pixels.
        by: how time is cut.
        polarities: 2, or 1 for all events in one channel.
        size: side of smaller frames: pixel x of W goes to column floor(x size / W), likewise rows.

    Raises:
        DataError: T below 1, or a size above the sensor's.
    """
    height, width = sensor
    if steps < 1 or (size is not None and not 1 <= size <= max(sensor)):
        raise DataError(f"frames: {steps} steps of size {size} from {width}x{height} pixels; give at least 1, no more.")
    out_height, out_width = (min(side, size or side) for side in sensor)
    count = len(events)
    if by == "count":
        order = np.argsort(events.t, kind="stable") if count and (np.diff(events.t) < 0).any() else slice(None)
        step = np.empty(count, dtype=np.int64)
        step[order] = np.arange(count, dtype=np.int64) * steps // max(count, 1)
    else:
        start, end = (int(events.t.min()), int(events.t.max())) if count else (0, 0)
        step = np.minimum((events.t - start) * steps // max(end - start, 1), steps - 1)
    x = events.x if out_width == width else events.x * out_width // width
    y = events.y if out_height == height else events.y * out_height // height
    channel = events.p if polarities == 2 else 0
    place = ((step * polarities + channel) * out_height + y) * out_width + x
    total = steps * polarities * out_height * out_width
    return np.bincount(place, minlength=total).astype(np.int32).reshape(steps, polarities, out_height, out_width)
