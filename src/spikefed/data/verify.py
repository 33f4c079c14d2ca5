"""Sizes and checksums of official files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from spikefed.data.catalogue import OfficialFile
from spikefed.errors import DataError

# (path, size, modification time, algorithm) -> digest: a file is hashed once in a process unless it changes.
_DIGESTS: dict[tuple[str, int, int, str], str] = {}


def digest(path: Path, algorithm: str) -> str:
    """Hex digest of a file, remembered within the process by path, size and modification time."""
    state = path.stat()
    key = (str(path.resolve()), state.st_size, state.st_mtime_ns, algorithm)
    if key not in _DIGESTS:
        with path.open("rb") as stream:
            _DIGESTS[key] = hashlib.file_digest(stream, algorithm).hexdigest()
    return _DIGESTS[key]


def again(dataset: str) -> str:
    """What to do about a bad file."""
    return f"delete it and copy the official file again or run 'spikefed data fetch {dataset}'"


def check_size(where: str, size_bytes: int, official: OfficialFile, dataset: str) -> None:
    """Raises DataError when a file's size is not the official one.

    Args:
        where: name of the file, for errors.
        size_bytes: its size.
        official: what the publisher says of it.
        dataset: name of the data set, for errors.
    """
    if official.size_bytes is None or size_bytes == official.size_bytes:
        return
    kind = "truncated" if size_bytes < official.size_bytes else "not the official file"
    raise DataError(f"{where} is {kind} ({size_bytes:,} of {official.size_bytes:,} bytes); {again(dataset)}.")


def check_checksum(where: str, got: str, official: OfficialFile, dataset: str) -> None:
    """Raises DataError when ``got`` (``"md5:..."`` or ``"sha256:..."``) is not the official checksum.

    Args:
        where: name of the file, for errors.
        got: its checksum.
        official: what the publisher says of it.
        dataset: name of the data set, for errors.
    """
    if official.checksum is not None and got != official.checksum:
        raise DataError(
            f"{where} has the wrong checksum ({got[:23]}..., expected {official.checksum[:23]}...); {again(dataset)}."
        )


def verify_file(path: Path, official: OfficialFile, dataset: str, *, hashing: bool = True) -> None:
    """Size and checksum of a file against the official ones; what is unknown is not checked.

    Args:
        path: the file.
        official: what the publisher says of it.
        dataset: name of the data set, for errors.
        hashing: whether to read it whole for its checksum.

    Raises:
        DataError: the file is truncated, of another size, or altered.
    """
    check_size(str(path), path.stat().st_size, official, dataset)
    if hashing and official.checksum is not None:
        algorithm = official.checksum.split(":")[0]
        check_checksum(str(path), f"{algorithm}:{digest(path, algorithm)}", official, dataset)


def verify_bytes(where: str, content: bytes, official: OfficialFile, dataset: str) -> None:
    """As `verify_file`, for a member of an archive that is in memory.

    Args:
        where: name of archive and member, for errors.
        content: the member's bytes.
        official: what the publisher says of it.
        dataset: name of the data set, for errors.
    """
    check_size(where, len(content), official, dataset)
    if official.checksum is not None:
        algorithm = official.checksum.split(":")[0]
        got = hashlib.new(algorithm, content).hexdigest()
        check_checksum(where, f"{algorithm}:{got}", official, dataset)
