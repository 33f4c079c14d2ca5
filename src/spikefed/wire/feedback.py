"""What a sender of changes still owes (error feedback), while what it sends may be another selection every time.

Of whole tables the state is one vector over the plan's lossy entries. Of selections it is kept by tensor and entry:
what is owed of an entry that does not travel this time waits for a message that carries it. Under a mask (kind
"selected-weights") entries outside are 0 at both ends, and nothing of them is owed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from spikefed.wire.codec import Memory
from spikefed.wire.parts import Part
from spikefed.wire.plan import Plan

OWED = "owed/"
BEFORE = "before/"
LOST = "lost/"


def owed(memory: Memory | None, plan: Plan) -> np.ndarray | None:
    """float32 over the plan's lossy entries: what earlier messages left; None where nothing is known or fits.

    Flat, in table order.
    """
    private: Mapping[str, np.ndarray] = memory.private if memory is not None else {}
    size = sum(spec.elements for spec in plan.tensors if spec.lossy)
    if not plan.selects:
        residual = private.get("residual")
        return residual if residual is not None and residual.size == size else None
    vector = np.zeros(size, dtype=np.float32)
    known = False
    for name, part, place in _lossy(plan):
        whole = private.get(OWED + name)
        if whole is not None and whole.size == part.size:
            vector[place] = part.taken(whole)
            known = True
    return vector if known else None


def state(
    memory: Memory | None, plan: Plan, before: np.ndarray, residual: np.ndarray, places: np.ndarray, kept: np.ndarray
) -> dict[str, np.ndarray]:
    """The private part of the memory after a message. Arrays are flat, in table order.

    Args:
        memory: before it.
        before, residual: what was owed before and is owed after, over the plan's lossy entries.
        places: positions that were sent.
        kept: what was to be sent there.
    """
    if not plan.selects:
        return {"residual": residual, "before": before, "places": places, "kept": kept}
    lost = residual.copy()
    lost[places] = kept
    private = dict(memory.private) if memory is not None else {}
    found = {key: value for key, value in private.items() if key.startswith(OWED)}
    for name, part, place in _lossy(plan):
        rest = None if plan.kind == "selected-weights" else private.get(OWED + name)
        for prefix, vector in ((OWED, residual), (BEFORE, before), (LOST, lost)):
            found[prefix + name] = _scattered(part, vector[place], rest)
    return found


def as_before(memory: Memory) -> Memory:
    """What was owed before the message that left this memory behind."""
    if "before" in memory.private:
        return Memory({}, {"residual": memory.private["before"]})
    return _moved(memory, BEFORE)


def as_lost(memory: Memory) -> Memory:
    """What is owed if the message that left this memory behind was lost."""
    if "residual" in memory.private:
        residual = memory.private["residual"].copy()
        residual[memory.private["places"]] = memory.private["kept"]
        return Memory({}, {"residual": residual})
    return _moved(memory, LOST)


def _moved(memory: Memory, prefix: str) -> Memory:
    own = {key: value for key, value in memory.private.items() if key.startswith(OWED)}
    moved = {OWED + k.removeprefix(prefix): v for k, v in memory.private.items() if k.startswith(prefix)}
    return Memory({}, own | moved)


def _lossy(plan: Plan) -> Iterator[tuple[str, Part, slice]]:
    """The plan's lossy tensors: name, what travels of it, and where that stands in the vector."""
    at = 0
    for spec in plan.tensors:
        if spec.lossy:
            yield spec.name, spec.part or Part(spec.shape), slice(at, at + spec.elements)
            at += spec.elements


def _scattered(part: Part, values: np.ndarray, rest: np.ndarray | None) -> np.ndarray:
    """float32 over all entries of a tensor: these values where they travel, ``rest`` (or 0) elsewhere."""
    whole = np.zeros(part.size, dtype=np.float32) if rest is None or rest.size != part.size else rest.copy()
    whole[slice(None) if part.kept is None else part.kept] = values
    return whole
