"""A fleet on data of one's own: what each machine holds was made elsewhere, and none knows another's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flwr")

import spikefed  # noqa: E402
from deploy.fleets import everybody_ends, lines  # noqa: E402
from experiment.shares import write_elsewhere, write_file  # noqa: E402
from spikefed.deploy.client import Client, ClientOptions  # noqa: E402
from spikefed.deploy.loopback import Loopback, differing, miscounted  # noqa: E402
from spikefed.deploy.memory import Memory  # noqa: E402
from spikefed.deploy.shares import read_share  # noqa: E402
from spikefed.experiment import load  # noqa: E402
from spikefed.federated import Request  # noqa: E402
from spikefed.transports.flower.schema import pack_request, public_of, unpack_reply  # noqa: E402


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_fleet_on_shares_made_elsewhere_gives_the_simulation_on_them(
    tmp_path: Path, fleet: Callable[..., Loopback]
) -> None:
    """Every machine stored the public rows in another order; the server has no private row, a client no test row."""
    file, shares = write_file(tmp_path), write_elsewhere(tmp_path / "shares")
    f = fleet(file, shares=shares)
    f.start()
    everybody_ends(f, "client-0", "client-1", "client-2")
    assert all(line["merged"] and not line["dropped"] for line in lines(f))
    local = spikefed.run(file, overrides=[f'data.dataset="shares:{shares}"'], out=tmp_path / "local")
    assert differing(local, f.run) == [] and miscounted(f) == []
    assert spikefed.load_model(f.run).class_names == ("row", "column")


def test_a_client_says_what_differs_and_trains_nothing(tmp_path: Path) -> None:
    shares = write_elsewhere(tmp_path / "shares")
    federation = read_share(load(write_file(tmp_path)), 0, shares / "client-0")
    own = federation.public_facts()
    options = ClientOptions("s:1", tmp_path / "ca.crt", tmp_path / "key", tmp_path)

    def answer(public: str) -> Any:
        memory = Memory(lambda: federation.worker(0), None, "")
        client = Client(memory, 0, options, own)
        content = pack_request(Request(0, 1, None), "run", public)
        assert public_of(content) == public
        return unpack_reply(client._handle(content, "train.round"), "run", 0), memory.round

    for change, said in (
        ({"id": "0" * 16}, "24 rows in another order; set data.public_order"),
        ({"rows": 400}, "has 24 rows, the server's 400"),
        ({"content": "0" * 16}, "other pixels"),
    ):
        reply, done = answer(dataclasses.replace(own, **change).told())
        assert said in reply.error and not reply.uplink and done == 0
    for public in (own.told(), ""):  # an older server says nothing: the id in the packet tells
        reply, done = answer(public)
        assert reply.error is None and reply.uplink and done == 1


def test_a_server_needs_nothing_private_and_a_clients_share_is_no_servers(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from spikefed.cli import app
    from spikefed.transports.flower import keys

    file, shares = write_file(tmp_path), write_elsewhere(tmp_path / "shares")
    keys.make_keys(tmp_path / "keys", [], 0)
    command = ["server", str(file), "--certs", str(tmp_path / "keys"), "--out", str(tmp_path / "run")]
    for folder, said in (
        (shares, "holds no clients/client-N.pub"),  # the data were read
        (shares / "client-1", "is a client's share"),
        (tmp_path / "nowhere", "is no folder"),
    ):
        assert said in str(CliRunner().invoke(app, [*command, "--data", str(folder)]).exception)
    command = ["client", str(file), "--server", "s:1", "--cert", "ca.crt", "--key", "key", "--client", "1"]
    for folder, said in (
        (shares, "ca.crt is not there"),  # the data were read
        (shares / "client-1", "ca.crt is not there"),
        (shares / "server", "private.npz is not there"),
        (tmp_path / "nowhere", "public.npz is not there"),
    ):
        assert said in str(CliRunner().invoke(app, [*command, "--data", str(folder)]).exception)
    assert not (tmp_path / "run").exists()
