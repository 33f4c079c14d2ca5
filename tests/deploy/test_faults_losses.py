"""Rows of the fault table: SuperLink, client, client machine and network are lost, in turn."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.fleets import HANGS_S, everybody_ends, lines, same_as_one_process
from spikefed.deploy.loopback import Loopback
from spikefed.deploy.proxy import Proxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
CUT_S = 60.0


@pytest.fixture(scope="module")
def hurt(module_fleet: Callable[..., Loopback]) -> Iterator[tuple[Loopback, dict[str, tuple[int, int]]]]:
    """A fleet behind a proxy that loses its SuperLink, a client, a whole client machine, and the network, in turn.

    With each: the rounds written when it happened, and when the fleet was whole again.
    """
    with Proxy() as proxy:
        f, rounds = module_fleet("hurt", 2, 16, via=proxy.port), {}
        proxy.target = f.port
        f.start()

        def superlink() -> None:
            os.kill(child_of(f, "superlink"), signal.SIGKILL)

        def client() -> None:
            f.kill("client-1")
            f.client(1)

        def machine() -> None:
            node = child_of(f, "supernode", "client-1.state")
            os.kill(node, signal.SIGSTOP)  # so that it cannot say goodbye when its parent is gone
            f.kill("client-1")
            os.kill(node, signal.SIGKILL)
            f.client(1)

        def network() -> None:
            proxy.cut()
            time.sleep(CUT_S)
            proxy.mend()

        f.wait_for(lambda: f.rounds() >= 1, HANGS_S, "first round")
        for number, harm in enumerate((superlink, client, machine, network)):
            before = f.rounds()
            harm()
            rounds[harm.__name__] = before, f.rounds()
            more = min(before + 2, f.rounds() + 2)
            f.wait_for(
                lambda more=more: f.rounds() >= more, HANGS_S, f"round {more} after the {harm.__name__} was lost"
            )
            assert f.rounds() < 16, f"all rounds were over after {number + 1} losses"
        everybody_ends(f, "client-0", "client-1")
    yield f, rounds


def test_a_superlink_killed_and_started_again_costs_no_round(hurt: Any) -> None:
    assert "the SuperLink ended with code -9; starting it again" in hurt[0].said("server")
    assert_no_round_was_lost(hurt[0])


def test_a_client_killed_and_started_again_costs_no_round(hurt: Any) -> None:
    assert hurt[0].said("client-1").count(f"127.0.0.1:{hurt[0].via}") == 3  # three lives, each says where it looks
    assert_no_round_was_lost(hurt[0])


def test_a_client_machine_that_loses_power_costs_no_round(hurt: Any) -> None:
    assert "asked again when it is there" in hurt[0].said("server")
    assert_no_round_was_lost(hurt[0])


def test_a_network_that_is_cut_for_a_minute_costs_no_round(hurt: Any) -> None:
    before, after = hurt[1]["network"]
    assert after - before <= 1  # the replies to one round may have been there already
    assert_no_round_was_lost(hurt[0])


def assert_no_round_was_lost(f: Loopback) -> None:
    assert [line["round"] for line in lines(f)] == [*range(1, f.config.rounds + 1)]
    assert all(line["merged"] and not line["dropped"] for line in lines(f))
    same_as_one_process(f)


def child_of(f: Loopback, program: str, more: str = "") -> int:
    """Process id of a Flower program of this fleet."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        line = b" ".join(words)
        if program.encode() in words and str(f.folder).encode() in line and more.encode() in line:
            return int(path.parent.name)
    raise AssertionError(f"no {program} runs")
