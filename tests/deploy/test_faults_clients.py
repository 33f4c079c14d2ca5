"""Rows of the fault table: clients that forget, hang or stay away."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.fleets import HANGS_S, everybody_ends, lines
from deploy.liar import PROGRAM
from spikefed.deploy.loopback import SPIKEFED, Loopback

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def test_a_client_that_lost_its_memory_rejoins_through_an_intra_packet(
    tiny: Callable[..., Path], fleet: Callable[..., Loopback]
) -> None:
    f = fleet(tiny(rounds=4, participation="deadline_s = 100"))
    f.start()
    f.wait_for(lambda: f.rounds() >= 2, HANGS_S, "second round")
    f.kill("client-1")
    shutil.rmtree(f.folder / "client-1.state")
    f.client(1)
    everybody_ends(f, "client-0", "client-1")
    assert "asks for an intra packet" in f.said("client-1")
    assert [line["merged"] for line in lines(f)] == [True] * 4
    assert lines(f)[-1]["dropped"] == []


def test_a_client_that_hangs_is_left_behind_at_the_deadline(
    tiny: Callable[..., Path], fleet: Callable[..., Loopback]
) -> None:
    f = fleet(tiny(rounds=2, participation="deadline_s = 20\nquorum = 1"))
    for client in range(2):
        f.client(client, program=(*PROGRAM, "hang") if client else SPIKEFED)
        f.wait_for(lambda client=client: "waiting" in f.said(f"client-{client}"), HANGS_S, "client")
    f.server()
    everybody_ends(f, "client-0", killing="client-1")
    missing = [[(d["client"], d["kind"]) for d in line["dropped"]] for line in lines(f)]
    assert (1, "missing") in missing[1]
    assert [line["merged"] for line in lines(f)] == [True] * 2


def test_quorum_missing_repeats_the_round_then_gives_it_up(
    tiny: Callable[..., Path], fleet: Callable[..., Loopback]
) -> None:
    f = fleet(tiny(rounds=1, participation="deadline_s = 8\nquorum = 2"), overrides=["deploy.repeats=1"])
    f.server()
    f.client(0)
    assert f.wait("server", HANGS_S) == 2, f.said("server")  # a run in which nothing was merged is no success
    assert "nothing was merged in the run's 1 rounds" in f.said("server")
    (line,) = lines(f)
    assert line["attempts"] == 2 and not line["merged"]
    assert {"client": 1, "kind": "missing"}.items() <= line["dropped"][-1].items()
