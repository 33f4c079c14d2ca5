"""Packets: messages to bytes and back, codecs, links that remember, and the ledger that counts."""

from spikefed.errors import PacketError
from spikefed.wire import bitpack as _bitpack
from spikefed.wire import context as _context
from spikefed.wire import masked as _masked
from spikefed.wire import quantised as _quantised
from spikefed.wire import rawweights as _rawweights
from spikefed.wire import soft as _soft
from spikefed.wire import sparse as _sparse
from spikefed.wire.bench import codec_bench
from spikefed.wire.codec import CodecInfo, codecs
from spikefed.wire.header import MAX_HEADER_BYTES
from spikefed.wire.hint import HintSpikes
from spikefed.wire.ledger import Ledger, Record, Totals
from spikefed.wire.links import ClientLink, ServerLink
from spikefed.wire.messages import Message, SpikeDownlink, SpikeUplink, WeightsDownlink, WeightsUplink, decode
from spikefed.wire.neighbours import nearest_rows
from spikefed.wire.packed import PackedSpikes
from spikefed.wire.partial import (
    PartialSpikes,
    changed_rows,
    confident_labels,
    first_steps,
    select_rows,
    uncertain_rows,
)
from spikefed.wire.plan import Plan, TensorSpec, tensor_specs
from spikefed.wire.rowmessages import (
    ClassMeansDownlink,
    ClassMeansUplink,
    CountDownlink,
    CountUplink,
    HintSpikeUplink,
    LabelDownlink,
    LabelUplink,
    PartialSpikeDownlink,
    PartialSpikeUplink,
    ProbabilityDownlink,
    ProbabilityUplink,
)
from spikefed.wire.rows import MISSING, quantise_distribution
from spikefed.wire.selected import SelectedWeightsDownlink, SelectedWeightsUplink
from spikefed.wire.sizes import pickle_equivalent_bytes, text_equivalent_bytes

CODEC_MODULES = (_bitpack, _context, _masked, _quantised, _rawweights, _soft, _sparse)
"""Modules whose codecs are in the registry; their import puts them there."""

__all__ = [
    "MAX_HEADER_BYTES", "MISSING", "ClassMeansDownlink", "ClassMeansUplink", "ClientLink", "CodecInfo",
    "CountDownlink", "CountUplink", "HintSpikeUplink", "HintSpikes", "LabelDownlink", "LabelUplink", "Ledger",
    "Message", "PackedSpikes", "PacketError", "PartialSpikeDownlink", "PartialSpikeUplink", "PartialSpikes", "Plan",
    "ProbabilityDownlink", "ProbabilityUplink", "Record", "SelectedWeightsDownlink", "SelectedWeightsUplink",
    "ServerLink", "SpikeDownlink", "SpikeUplink", "TensorSpec",
    "Totals", "WeightsDownlink", "WeightsUplink", "changed_rows", "codec_bench", "codecs", "confident_labels", "decode",
    "first_steps", "nearest_rows", "pickle_equivalent_bytes", "quantise_distribution", "select_rows", "tensor_specs",
    "text_equivalent_bytes", "uncertain_rows",
]  # fmt: skip
