"""Rows of the fault table: a client that lies in another way every round."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import spikefed
from deploy.fleets import everybody_ends, lines
from deploy.liar import PROGRAM, STORY
from spikefed.deploy.loopback import SPIKEFED, Loopback, differing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
LIARS = [*STORY, "set-aside", "raise"]
"""What the liar of `lied_to` does, round by round."""


@pytest.fixture(scope="module")
def lied_to(module_fleet: Callable[..., Loopback]) -> Loopback:
    """Two honest clients and one that lies in another way every round, is set aside, comes back and fails."""
    settings = [f"deploy.strikes={len(STORY)}", "deploy.set_aside_rounds=1"]
    f = module_fleet("liars", 3, len(STORY) + 2, overrides=settings)
    f.server()
    for client in range(3):
        f.client(client, program=(*PROGRAM, "story") if client == 2 else SPIKEFED)
    everybody_ends(f, "client-0", "client-1", "client-2")
    return f


@pytest.mark.parametrize("kind", LIARS)
def test_a_lie_is_dropped_named_counted_and_its_teller_set_aside(lied_to: Loopback, kind: str) -> None:
    field, said = {
        "random-bytes": ("magic", "this is no spikefed packet"),
        "other-round": ("round", "expected 2, got 77"),
        "other-public-set": ("public_set_id", ""),
        "nan-accuracy": ("accuracy", "nan is not a number in [0, 1]"),
        "accuracy-7": ("accuracy", "7.0 is not a number in [0, 1]"),
        "2-gb-claim": ("shape", "50000000"),
        "nan-report": ("report", "a value is not a finite number"),
        "set-aside": ("set-aside", ""),
        "raise": ("error", "broken on purpose"),
    }[kind]
    line = lines(lied_to)[LIARS.index(kind)]
    (drop,) = line["dropped"]
    assert (drop["client"], drop["kind"]) == (2, field) and said in drop["reason"]
    assert line["drop_counts"][field] >= 1 and line["merged"] and line["attempts"] == 1


def test_lies_leave_no_trace_in_the_result(lied_to: Loopback, tmp_path: Path) -> None:
    honest = [*lied_to.overrides, "participation.schedule='list'", "participation.rounds=[[0, 1]]"]
    local = spikefed.run(lied_to.file, overrides=honest, out=tmp_path / "local")
    assert differing(local, lied_to.run) == ["ledger.jsonl"]  # refused uploads are in the fleet's ledger


def test_the_status_command_says_who_was_dropped(lied_to: Loopback) -> None:
    from typer.testing import CliRunner

    from spikefed.cli import app, deploy  # noqa: F401

    found = json.loads(CliRunner().invoke(app, ["status", str(lied_to.run), "--json"]).stdout)
    assert (found["state"], found["round"]) == ("finished", len(LIARS))
    assert found["clients"][2]["dropped"]["accuracy"] == 2 and found["clients"][2]["last_round"] == 0
    assert found["clients"][0] == {"client": 0, "last_round": len(LIARS), "dropped": {}}
