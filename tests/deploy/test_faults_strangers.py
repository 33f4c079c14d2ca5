"""Rows of the fault table: a wrong authority, an unknown key, a key with another number."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from deploy.fleets import HANGS_S, lines
from spikefed.deploy.loopback import Loopback
from spikefed.transports.flower.keys import make_keys

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def strangers(module_fleet: Callable[..., Loopback]) -> tuple[Loopback, dict[str, int]]:
    """Client 0 is honest; 1 trusts another CA, 2 has a key of another fleet, 3 has its own key and number 0."""
    f = module_fleet("strangers", 4, 1, "deadline_s = 30\nquorum = 1", overrides=["deploy.repeats=100"])
    make_keys(f.folder / "other", [], 1)
    f.client(0)
    f.client(3, "--client", "0", "--state", str(f.folder / "client-3.state"))
    for early in ("client-0", "client-3"):
        f.wait_for(
            lambda early=early: "waiting for" in f.said(early), HANGS_S, f"{early}, which starts before the server"
        )
    f.processes["client-0"].send_signal(signal.SIGSTOP)  # the round lasts until the strangers have been turned away
    f.server()
    f.wait_for(lambda: "listening" in f.said("server"), HANGS_S, "SuperLink")
    f.client(1, "--cert", str(f.folder / "other" / "ca.crt"))
    f.client(2, "--key", str(f.folder / "other/clients/client-0.key"), "--patience", "1")
    codes = {name: f.wait(name, HANGS_S) for name in ("client-1", "client-2")}
    f.processes["client-0"].send_signal(signal.SIGCONT)
    return f, codes | {"server": f.wait("server", HANGS_S)}


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
