"""Send-on-delta coding: the laws of level crossings, and the same spikes from a sample-by-sample loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefed.errors import ConfigError
from spikefed.neurons import SendOnDelta, encoder


def by_hand(x: np.ndarray, delta: float, graded: bool) -> np.ndarray:
    """``[T, B, C]`` to ``[T, B, 2C]``, one value at a time."""
    steps, batch, channels = x.shape
    out = np.zeros((steps, batch, 2 * channels), np.float32)
    for b in range(batch):
        for c in range(channels):
            reference = np.float32(x[0, b, c])
            for t in range(steps):
                crossed = np.trunc(np.float32(x[t, b, c] - reference) / np.float32(delta))
                reference = np.float32(reference + crossed * np.float32(delta))
                count = abs(crossed) if graded else min(abs(crossed), 1)
                out[t, b, c if crossed > 0 else channels + c] = count
    return out


@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("delta", [0.1, 0.5, 2.0])
def test_the_loop_over_single_samples_gives_the_same_spikes(delta: float, graded: bool) -> None:
    x = torch.randn(30, 3, 4, generator=torch.Generator().manual_seed(1)).cumsum(0)
    assert np.array_equal(SendOnDelta(delta, graded).encode_steps(x).numpy(), by_hand(x.numpy(), delta, graded))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 3.0))
def test_graded_spikes_follow_every_sample_within_delta(seed: int, delta: float) -> None:
    x = torch.randn(20, 2, 3, generator=torch.Generator().manual_seed(seed))
    up, down = SendOnDelta(delta, graded=True).encode_steps(x).chunk(2, dim=2)
    followed = x[0] + delta * (up - down).cumsum(0)
    assert ((followed - x).abs() < delta * (1 + 1e-4)).all()
    assert not (up * down).any() and (up >= 0).all() and (down >= 0).all()
    binary = SendOnDelta(delta).encode_steps(x)
    assert torch.equal(binary, torch.cat([up, down], 2).clamp_max(1))


def test_a_width_beside_a_height_of_one_is_time_within_the_step() -> None:
    x = torch.randn(5, 2, 3, 1, 4, generator=torch.Generator().manual_seed(2)).cumsum(0)
    flat = SendOnDelta(0.3).encode_steps(x.permute(0, 4, 1, 2, 3).reshape(20, 2, 3, 1, 1))
    wide = SendOnDelta(0.3).encode_steps(x)
    assert wide.shape == (5, 2, 6, 1, 4)
    assert torch.equal(wide.permute(0, 4, 1, 2, 3).reshape(20, 2, 6, 1, 1), flat)


def test_nothing_moves_nothing_spikes_and_the_input_is_left_alone() -> None:
    x = torch.full((6, 2, 3), 7.0)
    assert not SendOnDelta().encode_steps(x).any() and (x == 7).all()
    y = torch.randn(6, 2, 3, requires_grad=True)
    assert not SendOnDelta().encode_steps(y).requires_grad


def test_by_name_and_what_it_refuses() -> None:
    assert encoder("delta") == SendOnDelta()
    with pytest.raises(ConfigError, match="images have none; use direct, or give a series"):
        encoder("delta").encode(torch.zeros(2, 1, 4, 4), 8)
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="needs a threshold above 0"):
            SendOnDelta(bad)
