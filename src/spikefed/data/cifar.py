"""Readers of CIFAR-10 and CIFAR-100: the official python batches, their archive, and lossless WebP tiles in a zip.

The batch files are pickles. They are opened with an unpickler that can build plain containers, byte strings and uint8
arrays, and nothing else: no name inside the file is ever imported.
"""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from spikefed.data.catalogue import DatasetInfo, OfficialFile
from spikefed.data.locate import Found
from spikefed.data.verify import again, check_size, verify_bytes, verify_file
from spikefed.errors import DataError

_TILE_SIDE = 10  # images in a row and in a column of a tile
_SIZE = 32


class _Kind:
    """Stands for the name ``numpy.ndarray`` inside a batch."""


class _Uint8:
    """Stands for the dtype inside a batch, which can only be uint8."""

    def __init__(self, code: Any, *_flags: Any) -> None:
        if code not in ("u1", b"u1"):
            raise pickle.UnpicklingError("only uint8 arrays are allowed")

    def __setstate__(self, _state: Any) -> None:
        """Byte order and alignment mean nothing for single bytes."""


class _Array:
    """Stands for the array inside a batch: shape and raw bytes, checked before numpy sees them."""

    def __init__(self, kind: Any, *_empty: Any) -> None:
        if kind is not _Kind:
            raise pickle.UnpicklingError("only plain arrays are allowed")
        self.value = np.empty((0, 0), np.uint8)

    def __setstate__(self, state: Any) -> None:
        _version, shape, kind, fortran_order, raw = state
        if not isinstance(kind, _Uint8) or fortran_order or not isinstance(raw, bytes) or len(shape) != 2:
            raise pickle.UnpicklingError("only 2-D uint8 arrays in C order are allowed")
        self.value = np.frombuffer(raw, np.uint8).reshape(shape)


def _encode(text: Any, codec: Any) -> bytes:
    if not isinstance(text, str) or codec not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError("only latin1 byte strings are allowed")
    return text.encode("latin1")


# Name in the file -> what is used in its place. Nothing of numpy itself can be called.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Kind,
    ("numpy", "dtype"): _Uint8,
    ("_codecs", "encode"): _encode,
}


class _BatchUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return _ALLOWED[(module_name, global_name)]
        except KeyError:
            raise pickle.UnpicklingError(f"'{module_name}.{global_name}' is not allowed") from None


def read_batch(content: bytes, where: str, label_key: str, advice: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 ``[N, 3, 32, 32]`` and labels int64 ``[N]`` of one python batch.

    Args:
        content: bytes of the file.
        where: its name in errors.
        label_key: ``labels``, ``fine_labels`` or ``coarse_labels``.
        advice: what to do when it is bad.

    Raises:
        DataError: not a pickle of the allowed kind, or without the right arrays.
    """
    try:
        batch = _BatchUnpickler(io.BytesIO(content), encoding="bytes").load()
        entries = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in batch.items()}
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise DataError(f"{where} is not a CIFAR python batch or is damaged ({error}); {advice}.") from error
    array = entries.get("data")
    labels = entries.get(label_key)
    if not isinstance(array, _Array) or array.value.shape[1] != 3 * _SIZE**2:
        raise DataError(f"{where} has no 'data' array of uint8 rows with 3072 pixels; {advice}.")
    pixels = array.value
    if not isinstance(labels, list) or not all(type(v) is int and 0 <= v < 256 for v in labels):
        raise DataError(f"{where} has no list '{label_key}' of small integers; {advice}.")
    if len(labels) != len(pixels):
        raise DataError(f"{where} holds {len(pixels):,} images but {len(labels):,} labels; {advice}.")
    return pixels.reshape(-1, 3, _SIZE, _SIZE), np.asarray(labels, dtype=np.int64)


def _tar_members(
    path: Path, officials: tuple[OfficialFile, ...], dataset: str, verify: bool
) -> Iterator[tuple[str, bytes]]:
    """Contents of the wanted members, in the order of ``officials``; one pass over the archive."""
    wanted = {f.name: f for f in officials}
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                official = wanted.get(member.name.rsplit("/", 1)[-1])
                if official is None or not member.isfile():
                    continue
                where = f"{path}:{member.name}"
                check_size(where, member.size, official, dataset)  # before anything is read
                handle = archive.extractfile(member)
                contents[official.name] = handle.read() if handle is not None else b""
                if verify:
                    verify_bytes(where, contents[official.name], official, dataset)
                if len(contents) == len(wanted):
                    break
    except (EOFError, tarfile.TarError, zlib.error, OSError) as error:
        raise DataError(f"{path} is truncated or damaged ({error}); {again(dataset)}.") from error
    for official in officials:
        if official.name not in contents:
            raise DataError(f"{path} holds no {official.name}; {again(dataset)}.")
        yield f"{path}:{official.name}", contents[official.name]


def read_batches(info: DatasetInfo, split: str, found: Found, verify: bool) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 ``[N, 3, 32, 32]`` and labels of the official python version, from its folder or its archive.

    Args:
        info: entry of the catalogue.
        split: ``train`` or ``test``.
        found: where the files lie and in which form.
        verify: check sizes and checksums first.
    """
    form = found.form
    parts = []
    if form.kind == "batches-tar":
        archive = form.files[split][0]
        if verify:  # the members' own MD5 follow below, so the archive's is left to `check`
            verify_file(found.folder / archive.name, archive, info.name, hashing=False)
        parts = _tar_members(found.folder / archive.name, form.members[split], info.name, verify)
    else:
        for official in form.files[split]:
            if verify:
                verify_file(found.folder / official.name, official, info.name)
        parts = ((str(found.folder / f.name), (found.folder / f.name).read_bytes()) for f in form.files[split])
    batches = [read_batch(content, where, info.label_key, again(info.name)) for where, content in parts]
    return np.concatenate([b[0] for b in batches]), np.concatenate([b[1] for b in batches])


def read_tiles(info: DatasetInfo, split: str, found: Found, verify: bool) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 ``[N, 3, 32, 32]`` and labels of a zip of lossless WebP tiles.

    Entries: ``info.json`` (tile geometry, split sizes), ``<split>/0000.webp`` and so on (320x320 RGB, 100 images row by
    row in the official order), ``<split>/labels.u8`` (a byte an image), ``<split>/coarse_labels.u8`` (CIFAR-100).

    Args:
        info: entry of the catalogue.
        split: ``train`` or ``test``.
        found: where the files lie and in which form.
        verify: check sizes and checksums first.
    """
    official = found.form.files[split][0]
    path = found.folder / official.name
    advice = "delete it and copy the official zip again"
    if verify:
        verify_file(path, official, info.name)
    label_file = "coarse_labels.u8" if info.label_key == "coarse_labels" else "labels.u8"
    try:
        with zipfile.ZipFile(path) as archive:
            plan = json.loads(archive.read("info.json"))
            if (plan["rows"], plan["columns"], plan["image"]) != (_TILE_SIDE, _TILE_SIDE, [_SIZE, _SIZE, 3]):
                raise DataError(f"{path}: info.json does not describe 10x10 tiles of 32x32 RGB images; {advice}.")
            labels = np.frombuffer(archive.read(f"{split}/{label_file}"), np.uint8)
            count = plan["splits"][split]
            if count != len(labels) or count not in info.counts[split]:
                raise DataError(f"{path} announces {count} images and holds {len(labels)} labels ({split}); {advice}.")
            images = np.empty((count, 3, _SIZE, _SIZE), np.uint8)
            per_tile = _TILE_SIDE**2
            for tile, start in enumerate(range(0, count, per_tile)):
                name = f"{split}/{tile:04d}.webp"
                pixels = _tile(archive.read(name), f"{path}:{name}", advice)
                block = images[start : start + per_tile]
                block[:] = pixels[: len(block)]
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, zlib.error, EOFError) as error:
        raise DataError(f"{path} is not a readable zip of CIFAR tiles ({error}); {advice}.") from error
    return images, labels.astype(np.int64)


def _tile(content: bytes, where: str, advice: str) -> np.ndarray:
    """One tile cut into uint8 ``[100, 3, 32, 32]``."""
    side = _TILE_SIDE * _SIZE
    try:
        with Image.open(io.BytesIO(content), formats=["WEBP"]) as picture:
            if picture.size != (side, side):
                raise DataError(f"{where} is not a tile of {side}x{side} pixels; {advice}.")
            pixels = np.asarray(picture.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise DataError(f"{where} is not a readable WebP picture ({error}); {advice}.") from error
    grid = pixels.reshape(_TILE_SIDE, _SIZE, _TILE_SIDE, _SIZE, 3)
    return grid.transpose(0, 2, 4, 1, 3).reshape(_TILE_SIDE**2, 3, _SIZE, _SIZE)
