"""Labelled image sets in memory, and the identity of a public set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from spikefed.errors import DataError

Values = Literal["pixels", "counts", "reals"]
"""What the numbers are: levels 0..255, counts of events, or real numbers."""
DTYPES = {"pixels": (torch.uint8,), "counts": (torch.uint8, torch.int32), "reals": (torch.float32,)}


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images, frames or series with their labels, in a fixed order.

    Attributes:
        name: data set name, such as ``"mnist"``.
        split: ``"train"`` or ``"test"``.
        images: ``[N, C, H, W]``; with a time axis ``[N, T, C, H, W]``, a series of F numbers being ``[N, T, F, 1, 1]``.
            uint8 for pixels, uint8 or int32 for counts, float32 for reals. A tensor, or a `LazyImages` that reads
            rows when they are asked for.
        labels: int64 ``[N]``, 0..classes-1.
        classes: number of classes.
        class_names: a text for each class; empty when they have only numbers.
        values: what the numbers are.
        columns: further facts of each item by name, ``[N]`` each: the person it is from, say.
        notes: sentences on what was done to the source that its owner should know.

    Raises:
        DataError: dtypes, shapes, lengths or the label range do not fit together.
    """

    name: str
    split: str
    images: Any
    labels: Tensor
    classes: int
    class_names: tuple[str, ...] = ()
    values: Values = "pixels"
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = f"image set '{self.name}' ({self.split})"
        if self.images.dtype not in DTYPES[self.values] or self.images.ndim not in (4, 5):
            wanted = " or ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES[self.values])
            raise DataError(
                f"{where}: images must be {wanted} [N, C, H, W] or [N, T, C, H, W], not {self.images.dtype} with shape "
                f"{list(self.images.shape)}; convert them first."
            )
        if self.labels.dtype != torch.int64 or self.labels.ndim != 1:
            raise DataError(
                f"{where}: labels must be int64 [N], not {self.labels.dtype} with shape {list(self.labels.shape)}; "
                "convert them first."
            )
        if len(self.images) != len(self.labels):
            raise DataError(
                f"{where}: {len(self.images)} images but {len(self.labels)} labels; give one label for each image."
            )
        if len(self.labels) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < self.classes:
            raise DataError(
                f"{where}: labels run from {int(self.labels.min())} to {int(self.labels.max())}, outside "
                f"0..{self.classes - 1}; check the number of classes and the label file."
            )
        if self.class_names and len(self.class_names) != self.classes:
            raise DataError(
                f"{where}: {self.classes} classes but {len(self.class_names)} class names; give one a class."
            )
        for key, column in self.columns.items():
            if len(column) != len(self.labels):
                raise DataError(
                    f"{where}: {len(self.labels)} items but {len(column)} values of '{key}'; give one value an item."
                )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def steps(self) -> int | None:
        """T of a set with a time axis, None without."""
        return self.images.shape[1] if self.images.ndim == 5 else None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of one image, or of one time step."""
        channels, height, width = self.images.shape[-3:]
        return (channels, height, width)

    def class_name(self, label: int) -> str:
        """The name of a class, its number where it has none."""
        return self.class_names[label] if self.class_names else str(label)

    @property
    def names(self) -> tuple[str, ...]:
        """A text for each class, in the order of the outputs."""
        return tuple(map(self.class_name, range(self.classes)))

    def subset(self, indices: Tensor | np.ndarray | Sequence[int]) -> ImageSet:
        """The items at ``indices``, in that order (a copy). ``indices`` is ``[n]``."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < len(self):
            raise DataError(
                f"image set '{self.name}' ({self.split}): indices run from {int(chosen.min())} to "
                f"{int(chosen.max())}, outside 0..{len(self) - 1}; choose indices of this set."
            )
        images = self.images[chosen] if isinstance(self.images, Tensor) else self.images.take(chosen.numpy())
        columns = {key: column[chosen.numpy()] for key, column in self.columns.items()}
        return replace(self, images=images, labels=self.labels[chosen], columns=columns)

    def fingerprint(self) -> str:
        """SHA-256 of shape, pixels and labels, in hexadecimal: tells whether data of one name are still the same.

        Of images that are read when asked for, their own `LazyImages.digest` stands for the pixels.
        """
        digest = hashlib.sha256(public_set_id(self.images) if isinstance(self.images, Tensor) else self.images.digest())
        digest.update(np.ascontiguousarray(self.labels.numpy(), dtype="<i8").data)
        return digest.hexdigest()

    def to_float(self) -> Float[Tensor, "N C H W"]:
        """Images as float32 in [0, 1] (pixel / 255)."""
        return self.images.float().div_(255)


def public_set_id(images: Tensor) -> bytes:
    """Identity of a public set (uint8 ``[P, C, H, W]``): the SHA-256 (32 bytes) of its shape and pixels, in order.

    The shape goes in as little-endian int64, then the pixels row by row; before them the name of the type, where it is
    not uint8. Two sets have the same identity only if they hold the same images in the same order, so both ends can
    prove that row n means the same image.

    Raises:
        DataError: ``images`` is not ``[P, C, H, W]`` or ``[P, T, C, H, W]`` of uint8, int32 or float32.
    """
    if images.dtype not in (torch.uint8, torch.int32, torch.float32) or images.ndim not in (4, 5):
        raise DataError(
            f"public set: images must be uint8 [P, C, H, W] or [P, T, C, H, W], not {images.dtype} with shape "
            f"{list(images.shape)}; take them from an ImageSet."
        )
    pixels = np.ascontiguousarray(images.detach().cpu().numpy())
    if pixels.dtype != np.uint8:
        pixels = pixels.astype(pixels.dtype.newbyteorder("<"))
    digest = hashlib.sha256(b"" if pixels.dtype == np.uint8 else pixels.dtype.str.encode())
    digest.update(np.asarray(pixels.shape, dtype="<i8").tobytes())
    digest.update(pixels.reshape(-1).view(np.uint8).data)
    return digest.digest()


def row_digests(images: Tensor) -> list[bytes]:
    """The SHA-256 of each row's numbers, little-endian. ``images`` is ``[P, ...]``."""
    rows = np.ascontiguousarray(images.detach().cpu().numpy())
    rows = rows.astype(rows.dtype.newbyteorder("<"), copy=False).reshape(len(rows), -1)
    return [hashlib.sha256(row.tobytes()).digest() for row in rows]


def by_content(images: Tensor) -> Int64[Tensor, " P"]:
    """Row numbers in an order that the rows' content alone fixes, whatever order they are in: that of their digests.

    ``images`` is ``[P, ...]``. The order is as good as random, so a batch of neighbours holds no neighbours in kind.
    """
    digests = row_digests(images)
    return torch.tensor(sorted(range(len(digests)), key=digests.__getitem__), dtype=torch.int64)


def resize(images: UInt8[Tensor, "N C h w"], size: int | tuple[int, int]) -> UInt8[Tensor, "N C H W"]:
    """Bilinear resize (antialiased, rounded back to uint8) to ``size`` pixels: one side, or (height, width).

    Used to bring one set to the image size of another, for example EMNIST to 32x32 as CFD's code does.
    Works in blocks of 4096 images, so a large set does not need its size in floats.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise DataError(f"resize: size must be positive, not {height}x{width}; give pixels such as 32 or (28, 28).")
    blocks = [
        torch.nn.functional.interpolate(
            block.float(), size=(height, width), mode="bilinear", antialias=True, align_corners=False
        )
        .round_()
        .clamp_(0, 255)
        .to(torch.uint8)
        for block in images.split(4096)
    ]
    return torch.cat(blocks)


def to_channels(images: UInt8[Tensor, "N c H W"], channels: int) -> UInt8[Tensor, "N C H W"]:
    """Grey to colour by repeating the channel, or colour to grey by ITU-R BT.601 luma (0.299 R + 0.587 G + 0.114 B).

    Raises:
        DataError: any other change of channels.
    """
    have = images.shape[1]
    if have == channels:
        return images
    if have == 1:
        return images.repeat(1, channels, 1, 1)
    if have == 3 and channels == 1:
        luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        blocks = [
            (block.float() * luma).sum(1, keepdim=True).round_().clamp_(0, 255).to(torch.uint8)
            for block in images.split(4096)
        ]
        return torch.cat(blocks)
    raise DataError(f"no rule turns {have} channels into {channels}; use 1 to any number, or 3 to 1.")
