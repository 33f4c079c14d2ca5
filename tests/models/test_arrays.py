"""What is given to a trained network: brought to its shape and numbers, or asked about."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikefed.errors import DataError
from spikefed.models import Intake

GREY, COLOUR = Intake((1, 8, 6)), Intake((3, 8, 6))
DRAWN = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 6), dtype=np.uint8)


@pytest.mark.parametrize(
    ("intake", "given_", "wanted"),
    [
        (GREY, DRAWN[:, 0], DRAWN[:, :1]),
        (GREY, DRAWN[:, :1], DRAWN[:, :1]),
        (GREY, DRAWN[0, 0], DRAWN[:1, :1]),
        (GREY, DRAWN[0, :1], DRAWN[:1, :1]),
        (GREY, DRAWN[:, :1].transpose(0, 2, 3, 1), DRAWN[:, :1]),
        (COLOUR, DRAWN, DRAWN),
        (COLOUR, DRAWN[0], DRAWN[:1]),
        (COLOUR, DRAWN.transpose(0, 2, 3, 1), DRAWN),
        (COLOUR, DRAWN[0].transpose(1, 2, 0), DRAWN[:1]),
        (COLOUR, torch.from_numpy(DRAWN), DRAWN),
        (COLOUR, DRAWN.astype(np.int64), DRAWN),
        (COLOUR, DRAWN / 255, DRAWN),
        (COLOUR, (torch.from_numpy(DRAWN) / 255).to(torch.float32), DRAWN),
        (Intake((3, 8, 6), levels=(0, 255)), DRAWN.astype(np.float32), DRAWN),
        (Intake((3, 8, 6), levels=(-1, 1)), DRAWN / 127.5 - 1, DRAWN),
        (Intake((3, 8, 6), levels=(255, 0)), 255 - DRAWN, DRAWN),
        (COLOUR, DRAWN > 127, (DRAWN > 127).astype(np.uint8) * 255),
    ],
)
def test_arrays_of_every_form_become_the_same_images(intake: Intake, given_: Any, wanted: np.ndarray) -> None:
    found = intake.prepared(given_, "images")
    assert found.dtype == torch.uint8 and np.array_equal(found.numpy(), wanted)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (DRAWN.astype(np.float32), r"run from 0 to 255; .* floats from 0 to 1; say which .*levels=\(BLACK, WHITE\)"),
        (DRAWN / 127.5 - 1, "run from -1 to 1; .* say which numbers are black and white"),
        (DRAWN.astype(np.uint16) * 251, "run from 0 to 64005; .* say which numbers"),
        (DRAWN.astype(np.int32) * 2, "whole numbers from 0 to 255"),
        (DRAWN % 2, "whole numbers 0 and 1 are almost black"),
        (np.where(DRAWN == 255, np.nan, 0.5), "numbers are not finite"),
        (DRAWN.astype("U3"), "images are <U3; give numbers"),
        (DRAWN[:, :2], r"images have shape \[5, 2, 8, 6\], the network takes \[N, 3, 8, 6\]"),
        (DRAWN[:, :, :4], r"images have shape \[5, 3, 4, 6\], .*resize=True"),
        (DRAWN[:, 0], r"images have shape \[5, 8, 6\], the network takes \[N, 3, 8, 6\]"),
    ],
)
def test_what_could_be_something_else_is_asked_about(array: np.ndarray, text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        COLOUR.prepared(array, "images")
    assert "\n" not in str(caught.value)


def test_levels_that_are_exceeded_are_refused() -> None:
    with pytest.raises(DataError, match="run from 0 to 255, outside the levels you gave"):
        Intake((3, 8, 6), levels=(0, 100)).prepared(DRAWN, "images")


def test_sizes_change_only_when_allowed() -> None:
    large = np.repeat(np.repeat(DRAWN, 2, axis=2), 2, axis=3)
    intake = Intake((3, 8, 6), resize=True)
    found = intake.prepared(large, "images")
    assert tuple(found.shape) == (5, 3, 8, 6) and list(intake.notes) == ["images of 12x16 pixels were resized to 6x8"]
    assert (found.float() - torch.from_numpy(DRAWN).float()).abs().mean() < 60


def test_pictures_may_change_colour() -> None:
    grey = Intake((1, 8, 6))
    assert tuple(grey.prepared(DRAWN[0], "a.png", picture=True).shape) == (1, 1, 8, 6)
    assert list(grey.notes) == ["pictures in colour were made grey"]
    assert np.array_equal(COLOUR.prepared(DRAWN[0, 0], "a.png", picture=True)[0, 2].numpy(), DRAWN[0, 0])
    with pytest.raises(DataError, match="it has 2 channels, the network takes 3"):
        COLOUR.prepared(DRAWN[0, :2], "a.png", picture=True)


def test_data_with_a_time_axis_and_real_numbers() -> None:
    series = Intake((4, 1, 1), "reals", steps=7)
    found = series.prepared(np.linspace(-3, 3, 2 * 7 * 4).reshape(2, 7, 4), "series")
    assert tuple(found.shape) == (2, 7, 4, 1, 1) and found.dtype == torch.float32 and float(found.min()) == -3
    assert tuple(series.prepared(np.zeros((7, 4)), "series").shape) == (1, 7, 4, 1, 1)
    with pytest.raises(DataError, match=r"data have shape \[2, 8, 5\]; the network takes \[N, 7, 4, 1, 1\] or series"):
        series.prepared(np.zeros((2, 8, 5)), "series")
    longer = np.random.default_rng(0).normal(size=(2, 21, 4)).astype(np.float32)
    means = series.prepared(longer, "series")[..., 0, 0].numpy()
    assert np.allclose(means, longer.reshape(2, 7, 3, 4).mean(axis=2), atol=1e-6)
    window = Intake((4, 1, 3), "reals", steps=7, resample="window").prepared(longer, "series")
    assert np.array_equal(window[0, 2, :, 0].numpy(), longer[0, 6:9].T)
    events = Intake((2, 8, 6), "counts", steps=3)
    assert events.prepared(np.ones((3, 2, 8, 6), np.int64), "events").dtype == torch.uint8


def test_rows_of_numbers_are_taken_as_they_were_given() -> None:
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    intake = Intake((4, 1, 1), values="reals")
    for given_ in (rows, rows[:, :, None, None]):
        assert torch.equal(intake.prepared(given_, "rows"), torch.from_numpy(rows)[:, :, None, None])
    assert torch.equal(intake.prepared(rows[0], "row"), torch.from_numpy(rows)[:1, :, None, None])
    with pytest.raises(DataError, match=r"or rows \[N, 4\]"):
        intake.prepared(rows[:, :3], "rows")


@given(st.integers(0, 255), st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_any_two_levels_mean_the_same_pixels(pixel: int, black: float, span: float) -> None:
    levels = (black, black + span)
    given_ = np.full((1, 1, 2, 2), black + span * pixel / 255)
    assert Intake((1, 2, 2), levels=levels).prepared(given_, "x").unique().tolist() == [pixel]
