"""Event cameras and spike trains from their official files, and frames of them."""

from __future__ import annotations

from spikefed.data.events.aedat import read_aedat2, read_aedat3
from spikefed.data.events.frames import frames
from spikefed.data.events.hdf5 import read_spikes
from spikefed.data.events.nmnist import read_nmnist
from spikefed.data.events.records import Events
from spikefed.data.events.sets import EVENT_SETS, read_event_set

__all__ = [
    "EVENT_SETS",
    "Events",
    "frames",
    "read_aedat2",
    "read_aedat3",
    "read_event_set",
    "read_nmnist",
    "read_spikes",
]
