"""The paper's two measures of any message, for the ledger."""

from __future__ import annotations

from spikefed.wire.bitpack import packed_bytes
from spikefed.wire.messages import Message
from spikefed.wire.sizes import pickle_equivalent_bytes, text_equivalent_bytes


def paper_bytes(message: Message) -> int:
    """Algorithm 2's payload for spikes; every tensor's own bytes for weights; plain packing for other kinds."""
    if message.kind == "spikes":
        return packed_bytes(message.content.shape)
    if message.kind == "weights":
        return sum(array.nbytes for array in message.content.values())
    return message.content.nbytes


def text_bytes(message: Message) -> int:
    """The authors' JSON text for spikes; their pickle (estimated) for weights; the plain bytes for other kinds."""
    if message.kind == "spikes":
        return text_equivalent_bytes(message.content)
    if message.kind == "weights":
        return pickle_equivalent_bytes(paper_bytes(message), len(message.content))
    return paper_bytes(message)
