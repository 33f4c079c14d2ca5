"""Writing files so that a crash at any moment leaves the old file or the new one, never a part."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write through a temporary file in the same folder: write, fsync, rename, fsync the folder.

    Raises:
        OSError: the disk refused (full, read-only, ...); the old file is as it was and no temporary file is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def counted_from(path: Path | str) -> str:
    """What a message about a path that is not there adds: where relative ones count from; nothing for others.

    The one rule (docs, "Paths"): from the folder that the command is run in, whatever file names them.
    """
    if Path(path).expanduser().is_absolute():
        return ""
    return f" (relative paths count from the folder that the command is run in, {Path.cwd()})"


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` durable, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def append_lines(path: Path, lines: str) -> None:
    """Append complete text lines and make them, and a file that they begin, durable before returning."""
    new = not path.exists()
    with open(path, "a", encoding="utf-8") as file:
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync_folder(path.parent)
