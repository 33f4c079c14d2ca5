"""Images from wherever they are, file by file or batch by batch, ready for a trained network."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from spikefed.data import ImageSet
from spikefed.data.convert import as_array, picture
from spikefed.data.items import IMAGE_KEYS, LABEL_KEYS, key_of
from spikefed.data.npz import arrays_of
from spikefed.errors import DataError
from spikefed.models.arrays import Intake
from spikefed.models.rows import rows_of

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
STDIN = "-"
"""Path of standard input."""
MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8", b"RIFF", b"II*\x00", b"MM\x00*", b"P5", b"P6")
"""What pictures begin with."""
_PARTS = ("", "test_", "train_")
_WORDS = ("images", "x", "series", "frames", "rows")


@dataclass(frozen=True)
class Batch:
    """Some images.

    Attributes:
        images: ``[n, ...]`` as `Intake.prepared` gives them.
        sources: where each comes from.
        labels: what came with them, ``[n]``; None where nothing did.
    """

    images: Tensor
    sources: list[str]
    labels: np.ndarray | None = None


def batches_of(source: Any, intake: Intake) -> Iterator[Batch]:
    """Batches of one image or many from anything that holds images.

    Args:
        source: an array ``[N, C, H, W]``, ``[N, H, W]`` or of one image; ``(images, labels)``; a dict of both; an
            `ImageSet`; a picture of PIL; a path of a picture, of a folder of them, of an .npy or .npz file; a torch
            ``Dataset`` or ``DataLoader``; or an iterable of any of these.

    Raises:
        DataError: files that are missing or damaged, and everything that `Intake.prepared` refuses.
    """
    yield from _of(source, intake, _Counter())


class _Counter:
    """Numbers images that have no name of their own."""

    def __init__(self) -> None:
        self.next = 0

    def names(self, count: int) -> list[str]:
        """The next so many numbers."""
        self.next += count
        return [str(number) for number in range(self.next - count, self.next)]


def _of(source: Any, intake: Intake, counter: _Counter) -> Iterator[Batch]:
    """Batches of whatever holds images: what says so by its type first, then what has to be looked into."""
    if str(source) == STDIN and isinstance(source, str | Path):
        yield _bytes(sys.stdin.buffer.read(), intake)
    elif isinstance(source, str | Path):
        yield from _files(Path(source), intake)
    elif isinstance(source, ImageSet):
        images = source.images[:] if not isinstance(source.images, Tensor) else source.images
        yield _array(images, source.labels, "images", intake, counter)
    elif _is_picture(source):
        yield _array(picture(source), None, "picture", intake, counter, from_file=True)
    elif isinstance(source, Mapping):
        yield from _item(*_of_mapping(source), intake, counter)
    elif isinstance(source, Tensor | np.ndarray) or _is_numbers(source):
        yield _array(source, None, "images", intake, counter)
    elif _is_pair(source):
        yield from _item(source[0], source[1], intake, counter)
    else:
        for item in _items(source):
            yield from _of(item, intake, counter)


def _of_mapping(source: Mapping[Any, Any]) -> tuple[Any, Any]:
    """Images and labels (or None) under the names that people give them."""
    images = key_of(source, IMAGE_KEYS)
    labels = key_of(source, LABEL_KEYS)
    if images is None:
        raise DataError(f"images: a dict with {', '.join(map(str, source)) or 'nothing'}; it needs 'images'")
    return source[images], None if labels is None else source[labels]


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], int | float)


def _items(source: Any) -> Iterable[Any]:
    """What a loader or a data set holds, one by one."""
    if isinstance(source, Iterable):
        return source
    if hasattr(source, "__getitem__"):
        return (source[i] for i in range(len(source)))
    raise DataError(f"images: {type(source).__name__} holds none; give an array, a path, a data set or a loader")


def _is_picture(value: Any) -> bool:
    return isinstance(getattr(value, "mode", None), str) and callable(getattr(value, "convert", None))


def _is_pair(value: Any) -> bool:
    """Images and their labels: a tensor or picture with a class, or a batch with as many classes."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        return False
    images, labels = value
    if not (_is_picture(images) or isinstance(images, Tensor | np.ndarray)) or _is_picture(labels):
        return False
    return np.ndim(labels) == 0 or (np.ndim(labels) == 1 and np.ndim(images) > 1 and len(labels) == len(images))


def _item(images: Any, labels: Any, intake: Intake, counter: _Counter) -> Iterator[Batch]:
    if _is_picture(images):
        yield _array(picture(images), labels, "picture", intake, counter, from_file=True)
    else:
        yield _array(images, labels, "images", intake, counter)


def _array(
    images: Any, labels: Any, where: str, intake: Intake, counter: _Counter | None, from_file: bool = False
) -> Batch:
    prepared = intake.prepared(images, where, picture=from_file)
    names = [f"{where}[{i}]" for i in range(len(prepared))] if counter is None else counter.names(len(prepared))
    told = None if labels is None else np.atleast_1d(as_array(labels))
    if told is not None and told.shape != (len(prepared),):
        raise DataError(f"{where}: {len(prepared)} images but labels {list(told.shape)}; give one label for each image")
    return Batch(prepared, names, told)


def _files(path: Path, intake: Intake) -> Iterator[Batch]:
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in PICTURES and p.is_file())
        if not found:
            raise DataError(f"folder {path} holds no pictures ({', '.join(PICTURES)}); name another, or the files")
        for file in found:
            yield _picture(file, intake)
    elif not path.is_file():
        raise DataError(f"there is no file {path}; check the path of the image")
    elif path.suffix.lower() == ".npz":
        yield _npz(path, intake)
    elif path.suffix.lower() == ".npy":
        yield _array(_npy(path), None, str(path), intake, None)
    elif path.suffix.lower() == ".csv":
        yield _rows(_text(path.read_bytes(), str(path)), str(path), intake)
    else:
        yield _picture(path, intake)


def _bytes(data: bytes, intake: Intake) -> Batch:
    """What came over standard input: .npy, .npz, a picture, or lines of numbers."""
    where = "standard input"
    if not data:
        raise DataError(f"{where} gave nothing; pipe a picture, .npy, .npz or lines of numbers into the command")
    if data.startswith((b"\x93NUMPY", b"PK")):
        suffix = ".npy" if data.startswith(b"\x93NUMPY") else ".npz"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"input{suffix}"
            path.write_bytes(data)
            found = _npz(path, intake) if suffix == ".npz" else _array(_npy(path), None, where, intake, None)
        return Batch(found.images, [f"{where}[{i}]" for i in range(len(found.images))], found.labels)
    if data.startswith(MAGIC):
        return _opened(io.BytesIO(data), where, intake)
    return _rows(_text(data, where), where, intake)


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{where} holds neither a picture, nor .npy, .npz or lines of numbers; convert it") from error


def _rows(text: str, where: str, intake: Intake) -> Batch:
    shape = tuple(intake.input_shape) if intake.steps is None else (intake.steps, *intake.input_shape)
    images, labels = rows_of(text, where, shape)
    return _array(images, labels, where, intake, None)


def _picture(path: Path, intake: Intake) -> Batch:
    return _opened(path, str(path), intake)


def _opened(source: Path | io.BytesIO, path: str, intake: Intake) -> Batch:
    from PIL import Image

    try:
        with Image.open(source) as opened:
            opened.load()
            array = picture(opened)
    except Exception as error:  # Pillow raises whatever its decoders raise
        told = " ".join(str(error).split())
        raise DataError(
            f"{path} cannot be read as a picture ({told}); give PNG, JPEG or another picture, .npz or .npy"
        ) from error
    if array.ndim == 3 and array.shape[0] == 4 and intake.input_shape[0] != 4:
        array = array[:3]  # what is transparent keeps the colour that is stored beneath
    return Batch(intake.prepared(array, path, picture=True), [path])


def _npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is no .npy file of plain numbers: {error}; write it with numpy.save") from error


def _npz(path: Path, intake: Intake) -> Batch:
    """The items of the file's one part, else of its test part."""
    arrays = arrays_of(path)
    names = [name for part in _PARTS for word in _WORDS for name in (f"{part}{word}", f"{word}_{part}".rstrip("_"))]
    items = next((name for name in names if name in arrays), None)
    if items is None:
        known = [name for name, array in arrays.items() if array.ndim > 1]
        if len(known) != 1:
            raise DataError(f"{path} holds {', '.join(arrays) or 'nothing'}; name its images 'images' or 'test_images'")
        items = known[0]
    labels = None
    for word in ("labels", "label", "y"):
        for images in _WORDS:
            twin = items.replace(images, word) if images in items.split("_") else None
            labels = arrays.get(twin) if labels is None and twin else labels
    return _array(arrays[items], labels, str(path), intake, None)
