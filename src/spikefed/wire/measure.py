"""The paper's two measures of any message, for the ledger."""

from __future__ import annotations

import json

import numpy as np

from spikefed.wire.messages import Message, WeightsMessage
from spikefed.wire.packed import packed_bytes
from spikefed.wire.rows import digits_bytes
from spikefed.wire.sizes import pickle_equivalent_bytes, text_equivalent_bytes


def paper_bytes(message: Message) -> int:
    """Algorithm 2's payload for spikes; every tensor's own bytes for weights; plain packing for other kinds."""
    shape = message.plan().shape
    if message.kind == "spikes":
        return packed_bytes(shape)
    content = message.content
    if message.kind == "hint-spikes":
        return packed_bytes(content.spikes.shape) + packed_bytes(content.hint.shape)
    if isinstance(message, WeightsMessage):
        return message.own_bytes
    if message.kind == "labels":
        return digits_bytes(shape[0], shape[1] + 1)
    if message.kind == "counts":
        return digits_bytes(shape[0] * shape[1], shape[2] + 1)
    if message.kind == "partial-spikes":
        return packed_bytes((int(content.rows.sum()), *shape[1:])) + (shape[0] + 7) // 8
    return content.nbytes  # float32


def text_bytes(message: Message) -> int:
    """The authors' JSON text for spikes; their pickle (estimated) for weights; JSON text of the values elsewhere."""
    if message.kind == "spikes":
        return text_equivalent_bytes(message.source)
    content = message.content
    if message.kind == "hint-spikes":
        return text_equivalent_bytes(content.spikes) + text_equivalent_bytes(content.hint)
    if isinstance(message, WeightsMessage):
        return pickle_equivalent_bytes(paper_bytes(message), len(content))
    if message.kind == "partial-spikes":
        return text_equivalent_bytes(content.spikes[content.rows]) + len(
            json.dumps(np.flatnonzero(content.rows).tolist())
        )
    return len(json.dumps(content.tolist()))
