"""Arrays of every shape and type: read right, or asked about in one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from spikefed import data
from spikefed.data.convert import converted, picture
from spikefed.errors import DataError

R = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("shape", "channels", "out"),
    [
        ((9, 16, 16, 13), None, (9, 13, 16, 16)),
        ((9, 13, 16, 16), None, (9, 13, 16, 16)),
        ((9, 16, 12, 3), None, (9, 3, 16, 12)),
        ((9, 3, 16, 12), None, (9, 3, 16, 12)),
        ((9, 16, 16, 16), None, (9, 16, 16, 16)),
        ((9, 6, 16, 20), None, (9, 6, 16, 20)),
        ((9, 16, 20, 13), "last", (9, 13, 16, 20)),
        ((9, 3, 3, 3), "last", (9, 3, 3, 3)),
        ((9, 16, 16, 13), "first", (9, 16, 16, 13)),
    ],
)
def test_the_axis_of_channels(shape: tuple[int, ...], channels: Any, out: tuple[int, ...]) -> None:
    array = R.integers(0, 256, shape, dtype=np.uint8)
    got = converted(array, "m", None, channels).images.numpy()
    assert got.shape == out
    wanted = array if channels == "first" or (channels is None and out == shape) else array.transpose(0, 3, 1, 2)
    assert np.array_equal(got, wanted)


def test_channels_that_could_be_two_axes_are_asked_for() -> None:
    with pytest.raises(DataError, match=r"images \[N, 16, 20, 13\] has the channels; say it with data.channels"):
        converted(np.zeros((2, 16, 20, 13), np.uint8), "m")


@pytest.mark.parametrize("mode", ["P", "CMYK", "YCbCr", "LA", "1", "L", "RGB", "RGBA", "HSV", "PA"])
def test_pictures_of_every_mode_are_read_as_they_look(mode: str) -> None:
    rgb = Image.fromarray(R.integers(0, 256, (6, 5, 3), dtype=np.uint8))
    made = rgb.convert("P") if mode in ("P", "PA") else rgb
    made = made.convert(mode) if made.mode != mode else made
    got = picture(made)
    wanted = {"LA": "L", "PA": "RGBA", "1": "1", "L": "L", "RGBA": "RGBA"}.get(mode, "RGB")
    plain = np.asarray(made.convert(wanted))
    assert np.array_equal(got, plain.transpose(2, 0, 1) if plain.ndim == 3 else plain)
    assert got.ndim == (2 if wanted in ("L", "1") else 3)


def test_palette_indices_are_never_taken_for_grey() -> None:
    class Palettes(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 10

        def __getitem__(self, i: int) -> tuple[Any, int]:
            red = Image.new("P", (4, 4), 0)
            red.putpalette([255, 0, 0, 0, 255, 0])
            red.paste(i % 2, (0, 0, 4, 4))
            return red, i % 2

    train, _ = data.image_sets(Palettes(), "m")
    assert train.shape == (3, 4, 4)
    assert {tuple(image[:, 0, 0].tolist()) for image in train.images} == {(255, 0, 0), (0, 255, 0)}


def test_bfloat16_is_carried() -> None:
    images = torch.rand(10, 1, 4, 4).to(torch.bfloat16)
    train, _ = data.image_sets((images, np.arange(10) % 2), "m")
    assert train.images.dtype == torch.uint8 and train.images.max() > 100


def test_dict_items_and_dict_arrays_are_read() -> None:
    images, labels = R.integers(0, 256, (20, 4, 4), dtype=np.uint8), np.arange(20) % 2
    items = [
        {"image": Image.fromarray(i), "label": int(k), "user": f"u{n % 4}"}
        for n, (i, k) in enumerate(zip(images, labels, strict=True))
    ]
    plain = data.image_sets((images, labels), "m")
    listed = data.image_sets(items, "m")
    named = data.image_sets({"images": images, "labels": labels}, "m")
    assert plain[0].fingerprint() == listed[0].fingerprint() == named[0].fingerprint()
    assert set(listed[0].columns) == {"user"}
    with pytest.raises(
        DataError, match=r"item 0 is no pair \(image, label\) and no dict with 'image' and 'label': Key"
    ):
        data.image_sets([{"picture": images[0], "label": 1}] * 5, "m")


def test_black_looking_pixels_are_said() -> None:
    train, _ = data.image_sets((R.integers(0, 2, (20, 4, 4), dtype=np.uint8), np.arange(20) % 2), "m")
    assert "pixels are 0 and 1 of 255, almost black" in train.notes[0]
    assert data.image_sets((R.integers(0, 2, (20, 4, 4)).astype(bool), np.arange(20) % 2), "m")[0].notes == ()


def test_missing_pixels_are_counted_and_placed() -> None:
    images = np.full((10, 2, 4, 4), 0.5)
    images[3, 1, 2, 0] = images[7, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match=r"2 pixels are not finite, the first in item 3 at \[1, 2, 0\]"):
        data.image_sets((images, np.arange(10) % 2), "m")


@pytest.mark.parametrize(
    "source",
    [(np.zeros((0, 4, 4), np.uint8), []), [], torch.utils.data.TensorDataset(torch.zeros(0, 1, 4, 4), torch.zeros(0))],
)
def test_an_empty_set_is_said_to_hold_no_images(source: Any) -> None:
    with pytest.raises(DataError, match="it holds no images"):
        data.image_sets(source, "m")


def test_series_or_pictures_is_a_question_with_two_answers() -> None:
    waves, labels = R.random((20, 50, 3)), np.arange(20) % 2
    with pytest.raises(
        DataError, match=r"series of 50 time steps with 3 numbers each, or grey pictures of 50x3; say w"
    ):
        data.image_sets((waves, labels), "m")
    series = data.sources((waves, labels), "m", None, data.Reading("series")).train
    assert (series.steps, series.shape, series.values) == (50, (3, 1, 1), "reals")
    grey = data.sources((waves, labels), "m", None, data.Reading("images")).train
    assert (grey.steps, grey.shape, grey.values) == (None, (1, 50, 3), "pixels")
    with pytest.raises(DataError, match="data.kind = 'series'"):
        data.image_sets((waves * 9, labels), "m")


def test_reals_are_kept_to_the_bit() -> None:
    waves = R.normal(size=(20, 7, 3)).astype(np.float32) * 100
    part = converted(waves, "m", "series")
    assert np.array_equal(part.images.numpy()[..., 0, 0], waves)
    assert converted(waves[:, 0], "m", "rows").images.shape == (20, 3, 1, 1)
    assert converted(waves[:, :, 0], "m", "series").images.shape == (20, 7, 1, 1, 1)
    with pytest.raises(DataError, match=r"1 number is not finite, the first in item 4 at \[2, 1\]"):
        waves[4, 2, 1] = np.inf
        converted(waves, "m", "series")


def test_frames_are_counts_pixels_or_reals() -> None:
    events = R.integers(0, 9, (6, 5, 2, 4, 4))
    assert converted(events, "m").values == "counts" and converted(events, "m").images.dtype == torch.uint8
    assert converted(events.astype(np.float32), "m").values == "counts"
    assert converted(events * 100, "m").images.dtype == torch.int32
    film = R.integers(0, 256, (6, 5, 3, 4, 4), dtype=np.uint8)
    assert converted(film, "m").values == "pixels"
    assert np.array_equal(
        converted(film.transpose(0, 1, 3, 4, 2).repeat(2, 2).repeat(2, 3), "m").images.numpy(),
        film.repeat(2, 3).repeat(2, 4),
    )
    assert converted(R.normal(size=(6, 5, 3, 4, 4)), "m").values == "reals"
    assert converted(R.integers(0, 9, (6, 5, 4, 4)), "m", "frames").images.shape == (6, 5, 1, 4, 4)
    with pytest.raises(DataError, match="counts of events run from -1 to"):
        converted(events - 1, "m")
