"""Small files in the official formats, written by the tests themselves, and the real files where they are at hand."""

from __future__ import annotations

import gzip
import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spikefed.data import catalogue
from spikefed.data.catalogue import DatasetInfo, Form, OfficialFile

REAL_DATA = Path(__file__).parents[2].parent / "shared" / "data"


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x0800 | array.ndim, *array.shape) + array.tobytes()


def packed(array: np.ndarray) -> bytes:
    return gzip.compress(idx_bytes(array), mtime=0)


@pytest.fixture
def real_data() -> Path:
    if not (REAL_DATA / "README.md").is_file():
        pytest.skip("the real data folder is not beside the project")
    return REAL_DATA


@pytest.fixture
def pixels() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images uint8 [N, 28, 28] and labels uint8 [N] for both splits of the mini set."""
    generator = np.random.default_rng(5)
    return {
        split: (
            generator.integers(0, 256, (count, 28, 28), dtype=np.uint8),
            np.resize(np.arange(10, dtype=np.uint8), count),
        )
        for split, count in (("train", 40), ("test", 20))
    }


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: dict) -> tuple[DatasetInfo, Path]:
    """A catalogue entry 'mini' in MNIST's form with its intact files in tmp_path/mini."""
    monkeypatch.delenv("SPIKEFED_DATA", raising=False)
    folder = tmp_path / "mini"
    folder.mkdir()
    files: dict[str, tuple[OfficialFile, ...]] = {}
    for split, (images, labels) in pixels.items():
        rows = []
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = packed(array)
            name = f"mini-{split}-{kind}-ubyte.gz"
            (folder / name).write_bytes(content)
            rows.append(OfficialFile(name, len(content), sha256=hashlib.sha256(content).hexdigest()))
        files[split] = tuple(rows)
    info = replace(
        catalogue.dataset_info("mnist"),
        name="mini",
        title="Mini",
        sizes={"train": 40, "test": 20},
        forms=(Form("idx", files),),
        folders=("mini", "Mini/raw"),
        urls={
            f.name: (f"https://first.invalid/{f.name}", f"https://second.invalid/{f.name}")
            for rows in files.values()
            for f in rows
        },
    )
    monkeypatch.setitem(catalogue._CATALOGUE, "mini", info)
    return info, folder
