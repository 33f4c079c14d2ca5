"""Where the files of a data set lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from spikefed.data.catalogue import DatasetInfo, Form, datasets
from spikefed.errors import DataError
from spikefed.files import counted_from


@dataclass(frozen=True)
class Found:
    """Files of one split, present in one form in one folder (not yet verified)."""

    form: Form
    folder: Path


def user_cache() -> Path:
    """The per-user cache folder of spikefed's data."""
    return Path(platformdirs.user_cache_dir("spikefed"))


def search_folders(data_dir: Path | str | None = None) -> list[Path]:
    """Folders that are searched, first first.

    An explicit ``data_dir`` is the only one: who names a folder wants the data of that folder. Otherwise
    $SPIKEFED_DATA, then ./data, then the per-user cache.
    """
    if data_dir is not None:
        return [Path(data_dir).expanduser()]
    named = os.environ.get("SPIKEFED_DATA")
    return ([Path(named).expanduser()] if named else []) + [Path("data"), user_cache()]


def _places(info: DatasetInfo, form: Form, root: Path) -> list[Path]:
    places = [root / sub / form.folder for sub in (*info.folders, "")]
    return [*places, root] if form.folder and root.name == form.folder else places


def _owner(info: DatasetInfo, form: Form, split: str, place: Path) -> DatasetInfo | None:
    """The other set whose official sizes same-named files here have exactly (MNIST and Fashion-MNIST share names)."""
    sizes = [(place / f.name).stat().st_size for f in form.files[split]]
    for other in datasets():
        for rival in other.forms:
            mine = [f.name for f in rival.files[split]] == [f.name for f in form.files[split]]
            if other.name != info.name and mine and rival.files != form.files:
                official = [f.size_bytes for f in rival.files[split]]
                if official == sizes and None not in official and official != [f.size_bytes for f in form.files[split]]:
                    return other
    return None


def _complete(info: DatasetInfo, split: str, roots: list[Path]) -> Iterator[tuple[Form, Path]]:
    """Places that hold every file of a form, whoever's they are."""
    for root in roots:
        for form in info.forms:
            for place in _places(info, form, root):
                if all((place / f.name).is_file() for f in form.files[split]):
                    yield form, place


def find(info: DatasetInfo, split: str, data_dir: Path | str | None = None) -> Found | None:
    """The first place that holds every file of ``split`` in one of the forms, or None."""
    for form, place in _complete(info, split, search_folders(data_dir)):
        if _owner(info, form, split, place) is None:
            return Found(form, place)
    return None


def locate(info: DatasetInfo, split: str, data_dir: Path | str | None = None) -> Found:
    """As `find`.

    Raises:
        DataError: the files are not there; the text says which, where they belong and how to fetch them.
    """
    found = find(info, split, data_dir)
    if found is not None:
        return found
    roots = search_folders(data_dir)
    looked = ", ".join(str(root) if root.is_dir() else f"{root} (no such folder)" for root in roots)
    wanted = ", ".join(f.name for f in info.forms[0].files[split])
    archives = [f.name for form in info.forms[1:] if form.kind != "idx-plain" for f in form.files[split]]
    instead = f" (or {' or '.join(archives)})" if archives else ""
    target = roots[0] / info.folders[0] / info.forms[0].folder
    for form, place in _complete(info, split, roots):
        other = _owner(info, form, split, place)
        if other is not None:
            raise DataError(
                f"{info.title} ({split}) was not found: the files in {place} are those of {other.title}, which have "
                f"the same names; put those of {info.title} into {target}, or take data set '{other.name}'."
            )
    raise DataError(
        f"{info.title} ({split}) was not found in {looked}{_halves(info, split, roots)}{_place(roots)}: put "
        f"{wanted}{instead} into {target}, or run 'spikefed data fetch {info.name}'."
    )


def _place(roots: list[Path]) -> str:
    """Where the first relative folder counts from, if any."""
    return next((told for root in roots if (told := counted_from(root))), "")


def _halves(info: DatasetInfo, split: str, roots: list[Path]) -> str:
    """Names the first place that holds some of the files but not all."""
    for root in roots:
        for form in info.forms:
            for place in _places(info, form, root):
                absent = [f.name for f in form.files[split] if not (place / f.name).is_file()]
                if 0 < len(absent) < len(form.files[split]):
                    return f" ({place} lacks {', '.join(absent)})"
    return ""
