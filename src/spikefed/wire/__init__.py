"""Packets: messages to bytes and back, codecs, links that remember, and the ledger that counts."""

from spikefed.errors import PacketError
from spikefed.wire import bitpack as _bitpack  # noqa: F401  (registers its codec)
from spikefed.wire import context as _context  # noqa: F401
from spikefed.wire import rawweights as _rawweights  # noqa: F401
from spikefed.wire.codec import CodecInfo, codecs
from spikefed.wire.header import HEADER_BYTES
from spikefed.wire.ledger import Ledger, Record, Totals
from spikefed.wire.links import ClientLink, ServerLink
from spikefed.wire.messages import Message, SpikeDownlink, SpikeUplink, WeightsDownlink, WeightsUplink, decode
from spikefed.wire.neighbours import nearest_rows
from spikefed.wire.plan import Plan, TensorSpec, tensor_specs
from spikefed.wire.sizes import pickle_equivalent_bytes, text_equivalent_bytes

__all__ = [
    "HEADER_BYTES", "ClientLink", "CodecInfo", "Ledger", "Message", "PacketError", "Plan", "Record", "ServerLink",
    "SpikeDownlink", "SpikeUplink", "TensorSpec", "Totals", "WeightsDownlink", "WeightsUplink", "codecs", "decode",
    "nearest_rows", "pickle_equivalent_bytes", "tensor_specs", "text_equivalent_bytes",
]  # fmt: skip
