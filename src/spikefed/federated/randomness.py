"""Randomness without global state: every stream is derived from (seed, purpose, participant, round).

A stream depends on nothing that happened before, so the order of clients, a restart or a missing client cannot change
what another one draws, and a checkpoint needs no generator state.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import numpy as np
import torch

from spikefed.seeding import seeded

NETWORK, SPLIT, CLIENT, SERVER, EVALUATE, PARTICIPATION, SHARED, STAGES, SOURCE = range(9)
"""Purposes of streams; the numbers are part of what makes a run reproducible and never change."""


def derive_seed(seed: int, purpose: int, *numbers: int) -> int:
    """A 63-bit integer seed of one stream."""
    entropy = np.random.SeedSequence([seed, purpose, *numbers])
    return int(entropy.generate_state(1, np.uint64)[0] >> 1)


def generator(seed: int, purpose: int, *numbers: int) -> torch.Generator:
    """A torch generator of one stream."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, *numbers))


def shared(stream: torch.Generator) -> AbstractContextManager[None]:
    """Inside, the generators that all libraries share (dropout draws from one) belong to this stream too.

    A step of a method, an evaluation and a probe run inside: what a user's network draws is then the same in every
    process, whoever was trained before, and the caller finds the shared generators as they were.
    """
    return seeded(derive_seed(stream.initial_seed(), SHARED))
