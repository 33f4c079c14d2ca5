"""Reader of idx files (the format of MNIST, Fashion-MNIST, EMNIST), packed with gzip or not.

Format (Y. LeCun's MNIST page): two zero bytes, the element type (0x08 = unsigned byte), the number of axes, then one
big-endian int32 for each axis, then the elements in C order.
"""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, cast

import numpy as np

from spikefed.data.catalogue import DatasetInfo
from spikefed.data.locate import Found
from spikefed.data.verify import again, verify_file
from spikefed.errors import DataError

MAX_ELEMENTS = 1 << 32


def read_idx_stream(stream: IO[bytes], where: str, axes: int, advice: str) -> np.ndarray:
    """Read one uint8 idx array from ``stream``; ``where`` names it in errors, ``advice`` says what to do.

    The header is checked before the elements are read, and they are read in blocks: a short file never costs more
    memory than it holds.

    Args:
        stream: bytes of the file, decompressed.
        where: its name, for errors.
        axes: how many axes the file must have.
        advice: what a person can do about a broken file.

    Raises:
        DataError: wrong magic, wrong number of axes, truncated, too long, or broken gzip data.
    """
    try:
        head = stream.read(4)
        if len(head) < 4:
            raise DataError(f"{where} is truncated (no idx header); {advice}.")
        magic = struct.unpack(">I", head)[0]
        if magic != 0x0800 | axes:
            raise DataError(
                f"{where} is not an idx file of unsigned bytes with {axes} axes (magic 0x{magic:08x}, expected "
                f"0x{0x0800 | axes:08x}); {advice}."
            )
        raw = stream.read(4 * axes)
        if len(raw) < 4 * axes:
            raise DataError(f"{where} is truncated (idx header cut off); {advice}.")
        shape = struct.unpack(f">{axes}I", raw)
        expected_bytes = prod(shape)
        if expected_bytes > MAX_ELEMENTS:
            raise DataError(f"{where} claims the impossible shape {list(shape)}; {advice}.")
        content = bytearray()
        while len(content) < expected_bytes:
            block = stream.read(min(1 << 24, expected_bytes - len(content)))
            if not block:
                raise DataError(
                    f"{where} is truncated ({len(content):,} of {expected_bytes:,} bytes of elements); {advice}."
                )
            content += block
        if stream.read(1):  # also makes gzip compare its own checksum
            raise DataError(f"{where} holds more than its header says (shape {list(shape)}); {advice}.")
    except EOFError as error:
        raise DataError(f"{where} is truncated (gzip data ends early); {advice}.") from error
    except (gzip.BadGzipFile, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{where} is damaged ({error}); {advice}.") from error
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def read_idx(path: Path | str, axes: int) -> np.ndarray:
    """Read an idx file of unsigned bytes; a name that ends in .gz is unpacked on the way.

    Args:
        axes: 3 for images, 1 for labels.

    Returns:
        uint8 array of the shape in the file.

    Raises:
        DataError: see `read_idx_stream`.
    """
    path = Path(path)
    with _plain(path) as stream:
        return read_idx_stream(stream, str(path), axes, "replace the file")


def _plain(path: Path) -> IO[bytes]:
    """The file's bytes, decompressed where its name ends in ``.gz``."""
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


@contextmanager
def _open(found: Found, file_name: str, dataset: str) -> Iterator[tuple[IO[bytes], str]]:
    if found.form.kind != "idx-zip":
        path = found.folder / file_name
        with _plain(path) as stream:
            yield stream, str(path)
        return
    archive = found.folder / found.form.files["train"][0].name
    try:
        with zipfile.ZipFile(archive) as opened:
            inside = [m for m in opened.namelist() if m.rsplit("/", 1)[-1] == file_name]
            if not inside:
                raise DataError(f"{archive} holds no {file_name}; {again(dataset)}.")
            with opened.open(inside[0]) as member, gzip.GzipFile(fileobj=member) as stream:
                yield cast(IO[bytes], stream), f"{archive}:{inside[0]}"
    except zipfile.BadZipFile as error:
        raise DataError(f"{archive} is not a readable zip ({error}); {again(dataset)}.") from error


def read_official(info: DatasetInfo, split: str, found: Found, verify: bool) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 ``[N, H, W]`` upright, labels uint8 ``[N]`` as in the file.

    Args:
        info: entry of the catalogue.
        split: ``train`` or ``test``.
        found: where the files lie and in which form.
        verify: check sizes and checksums first.
    """
    form = found.form
    if verify:
        for official in form.files[split]:
            # EMNIST's archive has 562 MB: the checksums inside zip and gzip guard what is read from it here,
            # `check` compares the MD5 of the whole.
            verify_file(found.folder / official.name, official, info.name, hashing=form.kind != "idx-zip")
    names = [f.name for f in (form.members or form.files)[split]]
    arrays = []
    for name, axes in zip(names, (3, 1), strict=True):
        with _open(found, name, info.name) as (stream, where):
            arrays.append(read_idx_stream(stream, where, axes, again(info.name)))
    images, labels = arrays
    if len(images) != len(labels):
        raise DataError(
            f"{names[0]} holds {len(images):,} images but {names[1]} {len(labels):,} labels in {found.folder}; "
            f"they are not of one release: delete both and run 'spikefed data fetch {info.name}'."
        )
    return images.transpose(0, 2, 1) if info.transposed else images, labels
