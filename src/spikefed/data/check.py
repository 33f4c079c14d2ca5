"""`check`: what lies where, and whether it is intact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spikefed.data.catalogue import DatasetInfo, OfficialFile, dataset_info, datasets
from spikefed.data.load import load
from spikefed.data.locate import Found, find, locate
from spikefed.data.verify import digest
from spikefed.errors import DataError


@dataclass(frozen=True)
class FileRow:
    """One file. ``checksum`` is ``"ok"``, ``"wrong"`` or ``"unknown"`` (no official checksum is known)."""

    path: Path
    size_bytes: int
    expected_bytes: int | None
    checksum: str


@dataclass(frozen=True)
class CheckRow:
    """One data set.

    Attributes:
        status: ``"ok"``, ``"missing"``, ``"partial"`` (only one split is there) or ``"bad"``.
        folder: where its files lie, None when missing or embedded.
        counts: images read for each intact split.
        message: what is wrong and what to do, "" when all is well.
    """

    name: str
    status: str
    folder: Path | None
    files: tuple[FileRow, ...]
    counts: dict[str, int]
    message: str


def check(data_dir: Path | str | None = None, names: Sequence[str] | None = None) -> list[CheckRow]:
    """Find, hash and read every data set (or those of ``names``), and report on each.

    Everything is really read, so this takes a few seconds for each large set. Nothing is raised for bad files: the
    row says so.

    Raises:
        DataError: an unknown name in ``names``.
    """
    infos = datasets() if names is None else [dataset_info(name) for name in names]
    return [_check_one(info, data_dir) for info in infos]


def _check_one(info: DatasetInfo, data_dir: Path | str | None) -> CheckRow:
    files: dict[Path, FileRow] = {}
    counts: dict[str, int] = {}
    messages: list[str] = []
    missing: list[str] = []
    folder: Path | None = None
    for split in info.sizes:
        found = find(info, split, data_dir) if info.forms else None
        if found is not None:
            folder = folder or found.folder
            for official in found.form.files[split]:
                row = _check_file(found, official)
                files[row.path] = row
        try:
            if info.forms and found is None:
                missing.append(split)
                locate(info, split, data_dir)  # raises with the advice
            counts[split] = len(load(info.name, split, data_dir))
        except DataError as error:
            messages.append(str(error))
    wrong = [row.path for row in files.values() if row.checksum == "wrong"]
    if wrong and not messages:
        messages.append(f"{wrong[0]} has the wrong checksum; fetch it again.")
    if len(missing) == len(info.sizes) or (not info.forms and not counts):  # its package is not installed
        status = "missing"
        messages = messages[:1]
    elif len(messages) > len(missing):
        status = "bad"
    else:
        status = "partial" if missing else "ok"
    return CheckRow(info.name, status, folder, tuple(files.values()), counts, " ".join(dict.fromkeys(messages)))


def _check_file(found: Found, official: OfficialFile) -> FileRow:
    path = found.folder / official.name
    size_bytes = path.stat().st_size
    if official.checksum is None:
        state = "unknown"
    elif official.size_bytes not in (None, size_bytes):
        state = "wrong"
    else:
        algorithm = official.checksum.split(":")[0]
        try:
            state = "ok" if f"{algorithm}:{digest(path, algorithm)}" == official.checksum else "wrong"
        except OSError:
            state = "unknown"
    return FileRow(path, size_bytes, official.size_bytes, state)
