"""The fault table of docs/deploy.md: each row is a test of a real fleet, with SuperLink, SuperNodes, TLS and keys."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import spikefed
from deploy.liar import SPOIL
from spikefed.deploy.loopback import Loopback, differing
from spikefed.deploy.proxy import Proxy
from spikefed.experiment import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
HERE = Path(__file__).parent
LIAR = (sys.executable, str(HERE / "liar.py"))
CRASH = (sys.executable, str(HERE / "crash.py"))
LIARS = [*SPOIL, "nan-report", "raise"]


def lines(fleet: Loopback) -> list[dict[str, Any]]:
    folder = RunFolder(fleet.run)
    return folder.read_lines(folder.metrics)


def same_as_one_process(fleet: Loopback, tmp_path: Path, **changes: Any) -> None:
    """The fleet's final model and ledger are those of ``spikefed run``, byte for byte."""
    local = spikefed.run(fleet.file, overrides=fleet.overrides, out=tmp_path / "local", **changes)
    assert differing(local, fleet.run) == []


def everybody_ends(fleet: Loopback, *names: str) -> None:
    assert fleet.wait("server", 700) == 0, fleet.said("server")
    for name in names:
        assert fleet.wait(name, 120) == 0, fleet.said(name)
    deadline = time.monotonic() + 10
    while fleet.left_over() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert fleet.left_over() == []


def test_a_fleet_gives_what_one_process_gives_and_leaves_nothing_running(
    tiny: Callable[..., Path], fleet: Callable[..., Loopback], tmp_path: Path
) -> None:
    f = fleet(tiny(rounds=3))
    f.start()
    everybody_ends(f, "client-0", "client-1")
    same_as_one_process(f, tmp_path)
    assert all(not line["dropped"] and line["attempts"] == 1 for line in lines(f))


@pytest.fixture(scope="module")
def lied_to(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One run: two honest clients and one of every kind of liar, three rounds, two strikes."""
    from deploy.conftest import TINY

    folder = tmp_path_factory.mktemp("liars")
    file = folder / "liars.toml"
    file.write_text(TINY.format(clients=2 + len(LIARS), rounds=3, participation=""))
    f = Loopback(file, folder / "fleet", ["deploy.strikes=2", "data.private_per_client=20"])
    try:
        f.server()
        for client in range(2 + len(LIARS)):
            f.client(client, program=(*LIAR, LIARS[client - 2]) if client >= 2 else (sys.executable, "-m", "spikefed"))
        assert f.wait("server", 800) == 0, f.said("server")
        yield f
    finally:
        f.stop()


@pytest.mark.parametrize("kind", LIARS)
def test_a_lie_is_dropped_named_counted_and_its_teller_set_aside(lied_to: Loopback, kind: str) -> None:
    field = {
        "random-bytes": "magic", "other-round": "round", "other-public-set": "public_set_id",
        "nan-accuracy": "accuracy", "accuracy-7": "accuracy", "2-gb-claim": "shape", "nan-report": "report",
        "raise": "error",
    }[kind]  # fmt: skip
    client = 2 + LIARS.index(kind)
    dropped = [[d for d in line["dropped"] if d["client"] == client] for line in lines(lied_to)]
    kinds = [[d["kind"] for d in in_round] for in_round in dropped]
    # A step that fails is no lie: its client is asked again every round.
    assert kinds == ([["error"]] * 3 if kind == "raise" else [[field], [field], ["set-aside"]])
    assert all(
        line["drop_counts"][k] >= 1 for line, in_round in zip(lines(lied_to), kinds, strict=True) for k in in_round
    )
    if kind == "raise":
        assert "broken on purpose" in dropped[0][0]["reason"]


def test_lies_leave_no_trace_in_the_result(lied_to: Loopback, tmp_path: Path) -> None:
    honest = [*lied_to.overrides, "participation.schedule='list'", "participation.rounds=[[0, 1]]"]
    local = spikefed.run(lied_to.file, overrides=honest, out=tmp_path / "local")
    assert differing(local, lied_to.run) == ["ledger.jsonl"]  # refused uploads are in the fleet's ledger


@pytest.mark.parametrize("point", ["sending", "waiting", "merging", "evaluating", "writing", "saved"])
def test_a_server_killed_at_any_point_goes_on_where_it_was(
    point: str, tiny: Callable[..., Path], fleet: Callable[..., Loopback], tmp_path: Path
) -> None:
    f = fleet(tiny(rounds=3))
    for client in range(2):
        f.client(client)
    assert f.server(program=(*CRASH, point, "2")).wait(600) == -signal.SIGKILL
    assert f.rounds() in (1, 2)
    f.server()
    everybody_ends(f, "client-0", "client-1")
    same_as_one_process(f, tmp_path)
    assert [line["round"] for line in lines(f)] == [1, 2, 3]


def test_a_superlink_killed_and_started_again_costs_no_round(
    tiny: Callable[..., Path], fleet: Callable[..., Loopback], tmp_path: Path
) -> None:
    f = fleet(tiny(rounds=4))
    f.start()
    f.wait_for(lambda: f.rounds() >= 1, 500, "first round")
    os.kill(child_of(f, "superlink"), signal.SIGKILL)
    everybody_ends(f, "client-0", "client-1")
    same_as_one_process(f, tmp_path)
    assert "the SuperLink ended with code -9; starting it again" in f.said("server")


def test_a_client_killed_and_started_again_costs_no_round(
    tiny: Callable[..., Path], fleet: Callable[..., Loopback], tmp_path: Path
) -> None:
    f = fleet(tiny(rounds=4, participation="deadline_s = 100"))
    f.start()
    f.wait_for(lambda: f.rounds() >= 1, 500, "first round")
    f.kill("client-1")
    f.client(1)
    everybody_ends(f, "client-0", "client-1")
    same_as_one_process(f, tmp_path)


def test_a_client_that_lost_its_memory_rejoins_through_an_intra_packet(
    tiny: Callable[..., Path], fleet: Callable[..., Loopback]
) -> None:
    import shutil

    f = fleet(tiny(rounds=4, participation="deadline_s = 100"))
    f.start()
    f.wait_for(lambda: f.rounds() >= 2, 500, "second round")
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
    f = fleet(tiny(rounds=3, participation="deadline_s = 12\nquorum = 1"))
    f.server()
    f.client(0)
    f.client(1, program=(*LIAR, "hang"))
    everybody_ends_but(f, "client-1")
    missing = [[(d["client"], d["kind"]) for d in line["dropped"]] for line in lines(f)]
    assert missing[1:] == [[(1, "missing")], [(1, "missing")]]
    assert [line["merged"] for line in lines(f)] == [True] * 3


def everybody_ends_but(f: Loopback, name: str) -> None:
    assert f.wait("server", 700) == 0, f.said("server")
    f.kill(name)


def test_a_network_that_is_cut_for_a_while_costs_no_round(
    tiny: Callable[..., Path], fleet: Callable[..., Loopback], tmp_path: Path
) -> None:
    with Proxy() as proxy:
        f = fleet(tiny(rounds=4), via=proxy.port)
        proxy.target = f.port
        f.start()
        f.wait_for(lambda: f.rounds() >= 1, 500, "first round")
        proxy.cut()
        time.sleep(float(os.environ.get("SPIKEFED_CUT_S", "8")))
        proxy.mend()
        everybody_ends(f, "client-0", "client-1")
    same_as_one_process(f, tmp_path)


def test_quorum_missing_repeats_the_round_then_gives_it_up(
    tiny: Callable[..., Path], fleet: Callable[..., Loopback]
) -> None:
    f = fleet(tiny(rounds=1, participation="deadline_s = 8\nquorum = 2"), overrides=["deploy.repeats=1"])
    f.server()
    f.client(0)
    assert f.wait("server", 700) == 0, f.said("server")
    (line,) = lines(f)
    assert line["attempts"] == 2 and not line["merged"]
    assert {"client": 1, "kind": "missing"}.items() <= line["dropped"][-1].items()


def test_another_ca_is_refused_in_one_sentence(tiny: Callable[..., Path], fleet: Callable[..., Loopback]) -> None:
    from spikefed.transports.flower.keys import make_keys

    f = fleet(tiny(rounds=1, participation="deadline_s = 60"))
    make_keys(f.folder / "other", [], 1)
    f.server()
    f.wait_for(lambda: "listening" in f.said("server"), 300, "SuperLink")
    f.client(0)
    f.client(1, "--cert", str(f.folder / "other" / "ca.crt"))
    assert f.wait("client-1", 300) == 2
    said = " ".join(f.said("client-1").split())
    assert "does not vouch for" in said and "take ca.crt from that server's key folder" in said


def test_an_unregistered_key_is_refused_in_one_sentence(
    tiny: Callable[..., Path], fleet: Callable[..., Loopback]
) -> None:
    from spikefed.transports.flower.keys import make_keys

    f = fleet(tiny(rounds=1, participation="deadline_s = 60"))
    make_keys(f.folder / "other", [], 1)
    f.server()
    f.wait_for(lambda: "listening" in f.said("server"), 300, "SuperLink")
    f.client(0)
    f.client(1, "--key", str(f.folder / "other/clients/client-0.key"), "--patience", "1")
    assert f.wait("client-1", 300) == 2
    assert "does not take the key" in " ".join(f.said("client-1").split())


def test_a_key_speaks_for_its_own_client_only(tiny: Callable[..., Path], fleet: Callable[..., Loopback]) -> None:
    """Client 1's process holds client 1's key and calls itself client 0: it answers nothing."""
    f = fleet(tiny(rounds=1, participation="deadline_s = 25\nquorum = 1"))
    f.server()
    f.client(0)
    f.client(1, "--client", "0", "--state", str(f.folder / "client-1.state"))
    assert f.wait("server", 700) == 0, f.said("server")
    (line,) = lines(f)
    assert [(d["client"], d["kind"]) for d in line["dropped"]] == [(1, "error")]
    assert "this is client 0" in line["dropped"][0]["reason"]


def child_of(f: Loopback, program: str) -> int:
    """Process id of the SuperLink of this fleet."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if program.encode() in words and str(f.folder).encode() in b" ".join(words):
            return int(path.parent.name)
    raise AssertionError(f"no {program} runs")


def test_the_status_command_says_who_was_dropped(lied_to: Loopback) -> None:
    from typer.testing import CliRunner

    from spikefed.cli import app, deploy  # noqa: F401

    found = json.loads(CliRunner().invoke(app, ["status", str(lied_to.run), "--json"]).stdout)
    assert (found["state"], found["round"]) == ("finished", 3)
    assert found["clients"][2]["dropped"] == {"magic": 2, "set-aside": 1}
    assert found["clients"][0] == {"client": 0, "last_round": 3, "dropped": {}}
