"""Memories of a stream as entries of a flat dict (checkpoints) and back; a server's link client by client."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from spikefed.wire.codec import Memory


def pack_memories(
    state: dict[str, Any], prefix: str, memories: list[Memory], base: Memory | None = None, heard: bool = False
) -> None:
    """Add the memories under ``prefix.<index>.shared|private.<name>`` and which of them is the base.

    Args:
        state: changed in place.
        prefix: begins every name.
        memories: oldest first.
        base: the one that packets refer to.
        heard: whether the other end has answered.
    """
    state[f"{prefix}.count"] = len(memories)
    state[f"{prefix}.base"] = next((i for i, memory in enumerate(memories) if memory is base), -1)
    state[f"{prefix}.heard"] = int(heard)
    for index, memory in enumerate(memories):
        for part in ("shared", "private"):
            for name, array in getattr(memory, part).items():
                state[f"{prefix}.{index}.{part}.{name}"] = array


def unpack_memories(state: dict[str, Any], prefix: str) -> tuple[list[Memory], Memory | None, bool]:
    """Inverse of ``pack_memories``."""
    memories: list[Memory] = []
    for index in range(int(state[f"{prefix}.count"])):
        parts: dict[str, dict[str, np.ndarray]] = {"shared": {}, "private": {}}
        for part, arrays in parts.items():
            start = f"{prefix}.{index}.{part}."
            for key, value in state.items():
                if key.startswith(start):
                    arrays[key[len(start) :]] = np.asarray(value)
        memories.append(Memory(parts["shared"], parts["private"]))
    base = int(state[f"{prefix}.base"])
    return memories, memories[base] if base >= 0 else None, bool(state[f"{prefix}.heard"])


def by_client(state: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """The entries of ``ServerLink.state_dict`` by client, without the client's number in their names."""
    own: dict[int, dict[str, Any]] = {int(client): {} for client in state["clients"]}
    for key, value in state.items():
        client, dot, name = key.partition(".")
        if dot:
            own[int(client)][name] = value
    return own


def merge_states(state: dict[str, Any], other: Mapping[str, Any], clients: Collection[int]) -> None:
    """Add what ``other`` (an older state of the same link) says of these clients to ``state``, in place."""
    wanted = sorted(set(clients) & {int(client) for client in other["clients"]})
    mine = {str(client) for client in wanted}
    state |= {key: value for key, value in other.items() if "." in key and key.partition(".")[0] in mine}
    state["clients"] = np.array(sorted({*map(int, state["clients"]), *wanted}), dtype=np.int64)
