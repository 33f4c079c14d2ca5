"""Tiny experiments and fleets for the fault tests: seconds of computing, two to eight clients."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flwr")

from spikefed.deploy.loopback import Loopback  # noqa: E402

TINY = """
name = "tiny"
rounds = {rounds}
[data]
dataset = "digits"
clients = {clients}
private_per_client = 40
public = 40
test_limit = 100
[network]
name = "small"
steps = 4
[training]
local_epochs = 1
local_batch = 20
lr = 3e-3
[method]
name = "fsd"
distil_epochs = 1
server_epochs = 1
distil_batch = 20
distil_lr = 3e-3
client_reset = "never"
[participation]
{participation}
[run]
threads = 1
"""


@pytest.fixture(autouse=True, scope="session")
def few_threads() -> None:
    """Many processes share few cores."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Path]:
    """Writes a tiny experiment file."""

    def write(clients: int = 2, rounds: int = 2, participation: str = "") -> Path:
        path = tmp_path / f"tiny-{clients}-{rounds}.toml"
        path.write_text(TINY.format(clients=clients, rounds=rounds, participation=participation))
        return path

    return write


@pytest.fixture(scope="module")
def module_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Loopback]]:
    """As ``fleet``, for fleets that several tests look at."""
    made: list[Loopback] = []

    def make(name: str, clients: int, rounds: int, participation: str = "", **more: Any) -> Loopback:
        folder = tmp_path_factory.mktemp(name)
        file = folder / f"{name}.toml"
        file.write_text(TINY.format(clients=clients, rounds=rounds, participation=participation))
        made.append(Loopback(file, folder / "fleet", **more))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Callable[..., Loopback]]:
    """Makes loopback fleets and ends every process of theirs, whatever the test does."""
    made: list[Loopback] = []

    def make(file: Path, **more: object) -> Loopback:
        made.append(Loopback(file, tmp_path / f"fleet-{len(made)}", **more))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.stop()
        for pid in one.left_over():
            os.kill(pid, 9)
