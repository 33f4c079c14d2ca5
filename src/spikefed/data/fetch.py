"""Download of official files, each compared with its checksum before it takes its place."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from spikefed.data.catalogue import OfficialFile, dataset_info
from spikefed.data.locate import user_cache
from spikefed.errors import DataError

Downloader = Callable[[str, Any, Any], Any]


def fetch_folder(data_dir: Path | str | None = None) -> Path:
    """Where `fetch` puts files: ``data_dir``, else $SPIKEFED_DATA, else the per-user cache."""
    named = data_dir or os.environ.get("SPIKEFED_DATA")
    return Path(named).expanduser() if named else user_cache()


def fetch(name: str, data_dir: Path | str | None = None, *, downloader: Downloader | None = None) -> list[Path]:
    """Download the official files of a data set; files that are there and intact are kept.

    Args:
        name: a name of `datasets`. The embedded digits need nothing.
        data_dir: see `fetch_folder`; the files go into the set's usual sub-folder.
        downloader: called as ``downloader(url, output_file, pooch)`` in place of pooch's own, for proxies and tests.

    Returns:
        Paths of the files (archives stay packed: `load` reads them as they are).

    Raises:
        DataError: unknown name, no address answers, or what came has another checksum.
    """
    info = dataset_info(name)
    if not info.urls:
        return []
    known = {f.name: f for form in info.forms for split in form.files.values() for f in split}
    folder = fetch_folder(data_dir) / info.folders[0]
    return [_fetch_file(known[file], urls, folder, downloader) for file, urls in info.urls.items()]


def _fetch_file(official: OfficialFile, urls: tuple[str, ...], folder: Path, downloader: Downloader | None) -> Path:
    import pooch  # brings a progress bar that warns in notebooks, and is needed for downloads alone

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    failures = []
    try:
        for url in urls:
            try:
                return Path(
                    pooch.retrieve(
                        url,
                        known_hash=official.checksum,
                        fname=official.name,
                        path=folder,
                        downloader=cast(Any, downloader),
                    )
                )
            except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong hash is a ValueError
                failures.append(f"{url}: {' '.join(str(error).split()) or type(error).__name__}")
    finally:
        logger.setLevel(level)
    raise DataError(
        f"{official.name} could not be fetched ({'; '.join(failures)}); download it by hand, put it into {folder} and "
        "run 'spikefed data check'."
    )
