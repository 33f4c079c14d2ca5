"""Rows of the fault table: the server is killed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.fleets import HANGS_S, everybody_ends, lines, same_as_one_process
from spikefed.deploy.loopback import Loopback

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
CRASH = (sys.executable, str(Path(__file__).with_name("crash.py")))

POINTS = ["sending", "waiting", "merging", "evaluating", "writing", "saved"]


@pytest.fixture(scope="module")
def crashed(module_fleet: Callable[..., Loopback]) -> tuple[Loopback, dict[str, tuple[int, int]]]:
    """A fleet whose server dies at another point in each of rounds 2 to 7; exit code and rounds written by point."""
    f, deaths = module_fleet("crashes", 2, 8), {}
    for client in range(2):
        f.client(client)
    for number, point in enumerate(POINTS):
        code = f.server(program=(*CRASH, point, str(number + 2))).wait(HANGS_S)
        deaths[point] = code, f.rounds()
    f.server()
    everybody_ends(f, "client-0", "client-1")
    return f, deaths


@pytest.mark.parametrize("point", POINTS)
def test_a_server_killed_at_any_point_goes_on_where_it_was(crashed: Any, point: str) -> None:
    f, deaths = crashed
    number = POINTS.index(point) + 2
    written = number if point in ("writing", "saved") else number - 1  # lines of metrics.jsonl at the moment of death
    assert deaths[point] == (-signal.SIGKILL, written), f.said("server")
    assert [line["round"] for line in lines(f)] == [*range(1, 9)]


def test_a_server_killed_six_times_gives_the_model_of_one_undisturbed(crashed: Any) -> None:
    same_as_one_process(crashed[0])
    assert all(not line["dropped"] for line in lines(crashed[0]))
