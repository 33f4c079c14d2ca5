from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from spikefed.data import ImageSet, load, public_set_id, resize, to_channels
from spikefed.errors import DataError


def make(n: int = 6, classes: int = 3) -> ImageSet:
    images = torch.arange(n * 2 * 3, dtype=torch.uint8).reshape(n, 1, 2, 3)
    return ImageSet("toy", "train", images, torch.arange(n) % classes, classes)


def test_image_set_basics() -> None:
    toy = make()
    assert len(toy) == 6 and toy.shape == (1, 2, 3)
    floats = toy.to_float()
    assert floats.dtype == torch.float32 and torch.equal(floats, toy.images / 255)
    part = toy.subset([4, 1])
    assert torch.equal(part.images, toy.images[[4, 1]]) and part.labels.tolist() == [1, 1] and part.classes == 3
    part.images.zero_()
    assert int(toy.images[4].sum()) > 0  # a copy
    assert len(toy.subset([])) == 0
    with pytest.raises(DataError, match=r"outside 0..5"):
        toy.subset([6])
    with pytest.raises(DataError, match=r"outside 0..5"):
        toy.subset(torch.tensor([-1]))


@pytest.mark.parametrize(
    ("images", "labels", "says"),
    [
        (torch.zeros(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64), "uint8"),
        (torch.zeros(2, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), "N, C, H, W"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.int32), "int64"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), "2 images but 3 labels"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 3]), r"outside 0..2"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([-1, 0]), r"outside 0..2"),
    ],
)
def test_image_set_refuses_what_does_not_fit(images: torch.Tensor, labels: torch.Tensor, says: str) -> None:
    with pytest.raises(DataError, match=says):
        ImageSet("toy", "train", images, labels, 3)


def test_public_set_id_is_sha256_of_shape_and_pixels() -> None:
    images = make().images
    expected = hashlib.sha256(struct.pack("<4q", 6, 1, 2, 3) + bytes(images.flatten().tolist())).digest()
    assert public_set_id(images) == expected and len(expected) == 32
    assert public_set_id(images.flip(0)) != expected  # order counts
    assert public_set_id(images.reshape(6, 1, 3, 2)) != expected  # shape counts
    changed = images.clone()
    changed[5, 0, 1, 2] ^= 1
    assert public_set_id(changed) != expected
    every_second = torch.stack([images, images], dim=1).flatten(0, 1)[::2]
    assert public_set_id(every_second) == expected  # memory layout does not count
    with pytest.raises(DataError):
        public_set_id(images.double())
    real = images.float()
    expected = hashlib.sha256(b"<f4" + struct.pack("<4q", 6, 1, 2, 3) + real.numpy().tobytes()).digest()
    assert public_set_id(real) == expected


def test_resize_and_channels() -> None:
    images = load("digits", "test").images
    larger = resize(images, 16)
    assert larger.shape == (360, 1, 16, 16) and larger.dtype == torch.uint8
    assert torch.equal(resize(images, (8, 8)), images)
    flat = torch.full((2, 3, 5, 5), 77, dtype=torch.uint8)
    assert torch.equal(resize(flat, (9, 3)), torch.full((2, 3, 9, 3), 77, dtype=torch.uint8))
    for size in (5, 13):  # Pillow's antialiased bilinear filter as the oracle
        ours = resize(images[:20], size)[:, 0].int()
        theirs = np.stack(
            [Image.fromarray(i.numpy()).resize((size, size), Image.Resampling.BILINEAR) for i in images[:20, 0]]
        )
        assert int((ours - torch.from_numpy(theirs.astype(np.int32))).abs().max()) <= 1

    colour = to_channels(images, 3)
    assert colour.shape == (360, 3, 8, 8) and torch.equal(to_channels(colour, 1), images)  # weights sum to 1
    assert to_channels(images, 1) is images
    red = torch.zeros(1, 3, 1, 1, dtype=torch.uint8)
    red[0, 0] = 255
    assert int(to_channels(red, 1)) == 76  # 0.299 * 255 = 76.2
    with pytest.raises(DataError):
        to_channels(colour, 2)
    with pytest.raises(DataError):
        resize(images, 0)
