"""Carriers of a round."""

from spikefed.transports.local import LocalTransport
from spikefed.transports.pool import PoolTransport

__all__ = ["LocalTransport", "PoolTransport"]
