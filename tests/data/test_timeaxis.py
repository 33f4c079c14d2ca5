"""Resampling of time: no count lost, means of stretches, and windows that hold every sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefed.data import ImageSet, to_steps
from spikefed.data.timeaxis import resampled
from spikefed.errors import DataError


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9999))
def test_counts_are_conserved_pixel_by_pixel(length: int, steps: int, seed: int) -> None:
    events = np.random.default_rng(seed).integers(0, 256, (3, length, 2, 2, 2))
    block = torch.from_numpy(events.astype(np.uint8))
    out = resampled(block, steps, "bin", "counts")
    assert out.shape == (3, steps, 2, 2, 2)
    assert torch.equal(out.sum(1, dtype=torch.int64), block.sum(1, dtype=torch.int64))
    by_hand = np.zeros((3, steps, 2, 2, 2), np.int64)
    for sample in range(length):
        by_hand[:, sample * steps // length] += events[:, sample]
    assert np.array_equal(out.numpy(), by_hand)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_constant_series_stay_constant_and_windows_hold_every_sample(length: int, steps: int) -> None:
    flat = torch.full((2, length, 3, 1, 1), 1.25)
    for how in ("bin", "pick", "window"):
        out = resampled(flat, steps, how, "reals")
        assert out.shape[:3] == (2, steps, 3) and (out == 1.25).all()
    ramp = torch.arange(length, dtype=torch.float32).view(1, -1, 1, 1, 1)
    assert set(resampled(ramp, steps, "window", "reals").flatten().tolist()) == set(range(length))
    assert (resampled(ramp, steps, "pick", "reals").flatten().diff() >= 0).all()


def test_means_are_those_of_the_stretches() -> None:
    x = torch.randn(2, 12, 3, 1, 1)
    assert torch.allclose(resampled(x, 4, "bin", "reals"), x.unflatten(1, (4, 3)).mean(2))
    assert torch.equal(resampled(x, 4, "pick", "reals"), x[:, 1::3])
    assert torch.equal(
        resampled(x, 4, "window", "reals")[..., 0, :], x.squeeze(-1).squeeze(-1).unflatten(1, (4, 3)).transpose(2, 3)
    )
    pixels = torch.randint(0, 256, (2, 12, 1, 4, 4), dtype=torch.uint8)
    assert torch.equal(
        resampled(pixels, 4, "bin", "pixels").int(), pixels.unflatten(1, (4, 3)).double().mean(2).round().int()
    )


def test_sets_keep_labels_and_say_what_cannot_be() -> None:
    series = ImageSet("m", "train", torch.randn(4, 12, 3, 1, 1), torch.arange(4) % 2, 2, values="reals")
    assert to_steps(series, 12) is series
    assert to_steps(series, 4, "window").shape == (3, 1, 3) and to_steps(series, 4).steps == 4
    film = ImageSet("m", "train", torch.zeros(4, 12, 1, 4, 4, dtype=torch.uint8), torch.arange(4) % 2, 2)
    with pytest.raises(DataError, match="frames of 4x4 have no room for it; set data.resample = 'bin' or 'pick'"):
        to_steps(film, 4, "window")
    still = ImageSet("m", "train", torch.zeros(4, 1, 4, 4, dtype=torch.uint8), torch.arange(4) % 2, 2)
    with pytest.raises(DataError, match="images without a time axis"):
        to_steps(still, 4)
