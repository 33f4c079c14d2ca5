"""The context model's own ideal code length of recorded messages: sum of -log2 p over all decisions."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from spikefed.wire import context
from spikefed.wire.codec import Memory, SideInfo


def ideal(
    up: list[dict[int, np.ndarray]], down: list[np.ndarray | None], near: np.ndarray | None = None
) -> dict[str, Any]:
    """Ideal and real payload bits, by round and direction, when every message is accepted.

    Args:
        up: per round, client -> spikes [N, C, T].
        down: per round, the spikes of the *next* round's downlink (one message for all clients), or None.
        near: rows with alike images.

    Returns:
        {"upstream_bits", "coded_bits", "excess", "downstream_bits", "downstream_coded_bits", "downstream_excess",
        "by_round": [{"round", "up_bits", "up_coded_bits", "down_bits", "down_coded_bits"}]};
        excess = coded / ideal - 1.
    """
    rows: list[dict[str, Any]] = []
    memories: dict[int | str, Memory | None] = {}
    last: np.ndarray | None = None

    def code(who: int | str, spikes: np.ndarray, global_: np.ndarray | None) -> tuple[float, int]:
        packed = np.packbits(spikes.reshape(-1))
        shape = cast(tuple[int, int, int], spikes.shape)
        memory = memories.get(who)
        side = SideInfo(global_, near) if global_ is not None or near is not None else None
        length, _ = context.ideal_bits(packed, shape, memory, side)
        payload, memories[who] = context.encode_packed(packed, shape, memory, side)
        return length, 8 * len(payload)

    for number, uploads in enumerate(up, start=1):
        global_ = None
        row = {"round": number, "down_bits": 0.0, "down_coded_bits": 0}
        if last is not None:
            row["down_bits"], row["down_coded_bits"] = code("down", last, None)
            global_ = np.packbits(last.reshape(-1))
        found = [code(client, spikes, global_) for client, spikes in uploads.items()]
        row["up_bits"] = sum(bits for bits, _ in found)
        row["up_coded_bits"] = sum(coded for _, coded in found)
        rows.append(row)
        last = down[number - 1]

    def total(name: str) -> float:
        return sum(row[name] for row in rows)

    def excess(direction: str) -> float:
        bits = total(f"{direction}_bits")
        return round(total(f"{direction}_coded_bits") / bits - 1, 5) if bits else 0.0

    return {
        "upstream_bits": round(total("up_bits"), 1), "coded_bits": total("up_coded_bits"), "excess": excess("up"),
        "downstream_bits": round(total("down_bits"), 1), "downstream_coded_bits": total("down_coded_bits"),
        "downstream_excess": excess("down"),
        "by_round": [
            {name: round(value, 1) for name, value in row.items()} for row in rows
        ],
    }  # fmt: skip
