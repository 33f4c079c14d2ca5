"""The fault table of docs/deploy.md: each row is a test of a real fleet, with SuperLink, SuperNodes, TLS and keys."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import spikefed
from deploy.conftest import TINY
from deploy.liar import STORY
from spikefed.deploy.loopback import SPIKEFED, Loopback, differing, miscounted
from spikefed.deploy.proxy import Proxy
from spikefed.experiment import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
HERE = Path(__file__).parent
LIAR = (sys.executable, str(HERE / "liar.py"))
CRASH = (sys.executable, str(HERE / "crash.py"))
LIARS = [*STORY, "set-aside", "raise"]
"""What the liar of `lied_to` does, round by round."""
CUT_S = 60.0


def lines(fleet: Loopback) -> list[dict[str, Any]]:
    folder = RunFolder(fleet.run)
    return folder.read_lines(folder.metrics)


def same_as_one_process(fleet: Loopback) -> None:
    """The fleet's final model and ledger are those of ``spikefed run``, byte for byte."""
    local = fleet.folder / "local"
    if not local.exists():
        spikefed.run(fleet.file, overrides=fleet.overrides, out=local)
    assert differing(local, fleet.run) == []


def everybody_ends(fleet: Loopback, *names: str, killing: str | None = None) -> None:
    assert fleet.wait("server", 1800) == 0, fleet.said("server")
    for name in names:
        assert fleet.wait(name, 600) == 0, fleet.said(name)
    if killing:
        fleet.kill(killing)
    deadline = time.monotonic() + 120
    while fleet.left_over() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert fleet.left_over() == []


def test_a_fleet_gives_what_one_process_gives_and_leaves_nothing_running(
    tiny: Callable[..., Path], fleet: Callable[..., Loopback]
) -> None:
    f = fleet(tiny(rounds=3))
    f.start()
    everybody_ends(f, "client-0", "client-1")
    same_as_one_process(f)
    assert miscounted(f) == []
    assert all(not line["dropped"] and line["attempts"] == 1 for line in lines(f))


def test_secure_aggregation_over_a_fleet_gives_the_model_of_one_process(
    tiny: Callable[..., Path], fleet: Callable[..., Loopback]
) -> None:
    """Four exchanges a round instead of one; masks differ from run to run, their sum and so the model do not."""
    f = fleet(tiny(clients=3, rounds=2), overrides=["method.secure=true"])
    f.start()
    everybody_ends(f, "client-0", "client-1", "client-2")
    local = spikefed.run(f.file, overrides=f.overrides, out=f.folder / "local")
    assert "model.safetensors" not in differing(local, f.run)
    assert all(line["merged"] and not line["dropped"] for line in lines(f))


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


@pytest.fixture(scope="module")
def lied_to(module_fleet: Callable[..., Loopback]) -> Loopback:
    """Two honest clients and one that lies in another way every round, is set aside, comes back and fails."""
    settings = [f"deploy.strikes={len(STORY)}", "deploy.set_aside_rounds=1"]
    f = module_fleet("liars", 3, len(STORY) + 2, overrides=settings)
    f.server()
    for client in range(3):
        f.client(client, program=(*LIAR, "story") if client == 2 else SPIKEFED)
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


POINTS = ["sending", "waiting", "merging", "evaluating", "writing", "saved"]


@pytest.fixture(scope="module")
def crashed(module_fleet: Callable[..., Loopback]) -> tuple[Loopback, dict[str, tuple[int, int]]]:
    """A fleet whose server dies at another point in each of rounds 2 to 7; exit code and rounds written by point."""
    f, deaths = module_fleet("crashes", 2, 8), {}
    for client in range(2):
        f.client(client)
    for number, point in enumerate(POINTS):
        code = f.server(program=(*CRASH, point, str(number + 2))).wait(300)
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

        f.wait_for(lambda: f.rounds() >= 1, 300, "first round")
        for number, harm in enumerate((superlink, client, machine, network)):
            before = f.rounds()
            harm()
            rounds[harm.__name__] = before, f.rounds()
            more = min(before + 2, f.rounds() + 2)
            f.wait_for(lambda more=more: f.rounds() >= more, 300, f"round {more} after the {harm.__name__} was lost")
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
    f = fleet(tiny(rounds=2, participation="deadline_s = 20\nquorum = 1"))
    for client in range(2):
        f.client(client, program=(*LIAR, "hang") if client else SPIKEFED)
        f.wait_for(lambda client=client: "waiting" in f.said(f"client-{client}"), 300, "client")
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
    assert f.wait("server", 700) == 0, f.said("server")
    (line,) = lines(f)
    assert line["attempts"] == 2 and not line["merged"]
    assert {"client": 1, "kind": "missing"}.items() <= line["dropped"][-1].items()


@pytest.fixture(scope="module")
def strangers(module_fleet: Callable[..., Loopback]) -> tuple[Loopback, dict[str, int]]:
    """Client 0 is honest; 1 trusts another CA, 2 has a key of another fleet, 3 has its own key and number 0."""
    from spikefed.transports.flower.keys import make_keys

    f = module_fleet("strangers", 4, 1, "deadline_s = 30\nquorum = 1")
    make_keys(f.folder / "other", [], 1)
    f.client(0)
    f.client(3, "--client", "0", "--state", str(f.folder / "client-3.state"))
    for early in ("client-0", "client-3"):
        f.wait_for(lambda early=early: "waiting for" in f.said(early), 300, f"{early}, which starts before the server")
    f.server()
    f.wait_for(lambda: "listening" in f.said("server"), 300, "SuperLink")
    f.client(1, "--cert", str(f.folder / "other" / "ca.crt"))
    f.client(2, "--key", str(f.folder / "other/clients/client-0.key"), "--patience", "1")
    codes = {name: f.wait(name, 300) for name in ("client-1", "client-2", "server")}
    return f, codes


def test_another_ca_is_refused_in_one_sentence(strangers: Any) -> None:
    f, codes = strangers
    said = " ".join(f.said("client-1").split())
    assert codes["client-1"] == 2
    assert "does not vouch for" in said and "take ca.crt from that server's key folder" in said


def test_an_unregistered_key_is_refused_in_one_sentence(strangers: Any) -> None:
    f, codes = strangers
    assert codes["client-2"] == 2 and "does not take the key" in " ".join(f.said("client-2").split())


def test_a_key_speaks_for_its_own_client_only(strangers: Any) -> None:
    """Client 3's process holds client 3's key and calls itself client 0: it answers nothing."""
    f, codes = strangers
    assert codes["server"] == 0, f.said("server")
    (line,) = lines(f)
    assert sorted((d["client"], d["kind"]) for d in line["dropped"]) == [(1, "missing"), (2, "missing"), (3, "error")]
    assert "this is client 0" in next(d["reason"] for d in line["dropped"] if d["client"] == 3)
    assert line["merged"]


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


def test_the_status_command_says_who_was_dropped(lied_to: Loopback) -> None:
    from typer.testing import CliRunner

    from spikefed.cli import app, deploy  # noqa: F401

    found = json.loads(CliRunner().invoke(app, ["status", str(lied_to.run), "--json"]).stdout)
    assert (found["state"], found["round"]) == ("finished", len(LIARS))
    assert found["clients"][2]["dropped"]["accuracy"] == 2 and found["clients"][2]["last_round"] == 0
    assert found["clients"][0] == {"client": 0, "last_round": len(LIARS), "dropped": {}}
