"""Share folders of three machines, made without spikefed: pictures of two kinds, public rows in another order each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

CLIENTS = 3
FILE = """
name = "elsewhere"
rounds = 2
[data]
clients = 3
[network]
name = "small"
steps = 3
[training]
local_epochs = 1
local_batch = 8
lr = 3e-3
[method]
name = "fsd"
distil_epochs = 1
server_epochs = 1
distil_batch = 8
distil_lr = 3e-3
client_reset = "never"
[run]
threads = 1
"""


def bars(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Grey pictures ``[count, 8, 8]`` with a bright row or a bright column, and which of them by name."""
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 60, (count, 8, 8), dtype=np.uint8)
    upright = draw.integers(0, 2, count).astype(bool)
    for image, place, stands in zip(images, draw.integers(0, 8, count), upright, strict=True):
        image[(slice(None), place) if stands else (place, slice(None))] = 255
    return images, np.where(upright, "column", "row")


def write_elsewhere(folder: Path) -> Path:
    """``client-0`` to ``client-2`` and ``server``; each machine stored the public rows in an order of its own."""
    public, _ = bars(24, 0)
    for number, name in enumerate((*(f"client-{n}" for n in range(CLIENTS)), "server")):
        place = folder / name
        place.mkdir(parents=True)
        order = np.random.default_rng(100 + number).permutation(len(public))
        np.savez(place / "public.npz", images=public[order], class_names=np.array(["row", "column"]))
        images, labels = bars(30 - 4 * number, 10 + number)
        part = "test" if name == "server" else "private"
        np.savez(place / f"{part}.npz", images=images, labels=labels)
    return folder


def write_file(folder: Path) -> Path:
    path = folder / "elsewhere.toml"
    path.write_text(FILE)
    return path
