"""Carriers of a round."""

from spikefed.transports.local import LocalTransport

__all__ = ["LocalTransport"]
