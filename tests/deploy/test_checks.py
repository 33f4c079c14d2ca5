"""What the round loop and the record schema refuse, without Flower's processes: fast, exact."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import math
import os
import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("flwr")

import httpx  # noqa: E402
from flwr.app import ArrayRecord, ConfigRecord, RecordDict  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from spikefed.deploy.memory import Memory  # noqa: E402
from spikefed.deploy.shares import read_share, write_shares  # noqa: E402
from spikefed.errors import DataError, DeployError, PacketError  # noqa: E402
from spikefed.experiment import load  # noqa: E402
from spikefed.experiment.build import build  # noqa: E402
from spikefed.experiment.federation import Federation  # noqa: E402
from spikefed.federated import Reply, Request, checkpoint  # noqa: E402
from spikefed.federated.trust import Trust  # noqa: E402
from spikefed.transports.flower import executor, guard, keys, schema  # noqa: E402
from spikefed.wire import Ledger  # noqa: E402


class Twisted:
    """A local transport whose replies pass through a function ``(round, replies) -> replies``."""

    def __init__(self, federation: Federation, twist: Callable[[int, list[Reply]], list[Reply]]) -> None:
        self._inner: Any = federation.local_transport()
        self._twist = twist

    def round(self, requests: Sequence[Request], deadline_s: float | None = None, quorum: int | None = None) -> Any:
        return self._twist(requests[0].round if requests else 0, self._inner.round(requests))


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    from deploy.conftest import TINY

    path = tmp_path_factory.mktemp("checks") / "tiny.toml"
    path.write_text(TINY.format(clients=3, rounds=3, participation=""))
    return build(load(path, ["training.local_epochs=0", "method.distil_epochs=0", "deploy.set_aside_rounds=2"]))


def test_repeated_late_early_and_foreign_replies_are_refused_by_name(federation: Federation) -> None:
    def twist(round: int, replies: list[Reply]) -> list[Reply]:
        extra = [replies[0], Reply(2, round - 1, b"old"), Reply(77, round, b"who"), Reply(1, round + 5, b"new")]
        return [*replies, *extra]

    server = federation.server(Twisted(federation, twist), Ledger())
    record = server.run_round()
    assert sorted(record.uplinks) == [0, 1, 2]
    assert sorted((d["client"], d["kind"]) for d in record.dropped) == [
        (0, "repeated"), (1, "round"), (2, "late"), (77, "stranger"),
    ]  # fmt: skip


def test_the_missing_are_asked_again_until_the_quorum_and_nobody_twice(federation: Federation) -> None:
    asked: list[list[int]] = []
    transport = Twisted(federation, lambda round, replies: [r for r in replies if r.client != 2 or len(asked) >= 3])
    inner = transport._inner.round

    def counting(requests: Sequence[Request], *rest: Any) -> Any:
        asked.append([request.client for request in requests])
        return inner(requests, *rest)

    transport._inner.round = counting  # type: ignore[method-assign]
    ledger = Ledger()
    server = federation.server(transport, ledger)
    server._collector.quorum = 3
    record = server.run_round()
    assert asked == [[0, 1, 2], [2], [2]] and record.attempts == 3
    assert sorted(record.uplinks) == [0, 1, 2] and record.dropped == []


def test_a_liar_is_set_aside_comes_back_and_the_state_survives(federation: Federation) -> None:
    def twist(round: int, replies: list[Reply]) -> list[Reply]:
        return [Reply(r.client, r.round, b"rubbish") if r.client == 1 else r for r in replies]

    server = federation.server(Twisted(federation, twist), Ledger())
    kinds = []
    for _ in range(7):
        record = server.run_round()
        kinds.append([d["kind"] for d in record.dropped])
        other = federation.server(Twisted(federation, twist), Ledger())
        other.load_state_dict(server.state_dict())
        server = other
    # Three strikes, two rounds aside, one more chance, aside again.
    assert kinds == [["length"]] * 3 + [["set-aside"]] * 2 + [["length"], ["set-aside"]]


def test_honest_failures_never_set_a_client_aside() -> None:
    trust = Trust(strikes=2, rounds=3)
    trust.refused(0, 1)
    trust.accepted(0)
    trust.refused(0, 3)
    assert trust.away(0, 4) is None
    trust.refused(0, 4)
    assert [trust.away(0, round) is not None for round in (5, 6, 7, 8)] == [True, True, True, False]
    assert Trust(strikes=0).away(0, 1) is None


reports = st.dictionaries(st.text(max_size=40), st.floats(allow_nan=False, allow_infinity=False), max_size=32)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 2**31), st.binary(max_size=50), reports, st.booleans())
def test_requests_and_replies_come_back_as_they_went(
    client: int, round: int, packet: bytes, report: dict[str, float], flag: bool
) -> None:
    request = Request(client, round, packet if flag else None, "round" if flag else "resend")
    assert schema.unpack_request(schema.pack_request(request, "r")) == (request, "r")
    reply = Reply(client, round, packet, report, flag, "why" if flag else None)
    assert schema.unpack_reply(schema.pack_reply(reply, "r"), "r", client) == reply


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"schema": 2}, "schema"),
        ({"run": "other"}, "run"),
        ({"client": 4}, "client"),
        ({"round": "1"}, "round"),
        ({"packet": "text"}, "packet"),
        ({"needs_intra": 1}, "needs_intra"),
        ({"report_names": ["a"], "report_values": [math.nan]}, "report"),
        ({"report_names": ["a"], "report_values": []}, "report"),
        ({"report_names": ["a" * 41], "report_values": [1.0]}, "report"),
        ({"report_names": ["a"] * 33, "report_values": [1.0] * 33}, "report"),
    ],
)
def test_a_reply_that_breaks_the_schema_is_refused_by_field(change: dict[str, Any], field: str) -> None:
    content = schema.pack_reply(Reply(3, 1, b"x"), "run")
    fields: dict[str, Any] = dict(content[schema.RECORD])  # type: ignore[arg-type]
    broken = RecordDict({schema.RECORD: ConfigRecord({**fields, **change})})
    with pytest.raises(PacketError) as error:
        schema.unpack_reply(broken, "run", 3)
    assert error.value.field == field


def test_a_reply_without_our_record_or_with_others_is_refused() -> None:
    good = schema.pack_reply(Reply(3, 1, b"x"), "run")
    for content in (
        RecordDict(),
        RecordDict({schema.RECORD: ArrayRecord()}),
        RecordDict({**good, "x": ConfigRecord()}),
    ):
        with pytest.raises(PacketError, match="schema"):
            schema.unpack_reply(content, "run", 3)


def test_a_share_gives_the_same_client_as_the_whole_data_set(federation: Federation, tmp_path: Path) -> None:
    paths = write_shares(federation.config, tmp_path)
    for client in (0, 2):
        own = read_share(federation.config, client, paths[client])
        mine, whole = own.client_context(client, 1), federation.client_context(client, 1)
        for name in ("train", "validation"):
            assert (getattr(mine, name).images == getattr(whole, name).images).all()
            assert (getattr(mine, name).labels == getattr(whole, name).labels).all()
        assert mine.public_set_id == whole.public_set_id and mine.preprocess == whole.preprocess
        request = Request(client, 1, None)
        assert own.worker(client).handle(request).uplink == federation.worker(client).handle(request).uplink


def test_a_share_that_is_missing_or_wrong_is_named(federation: Federation, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"public\.npz is not there"):
        read_share(federation.config, 0, tmp_path)
    (path, *_) = write_shares(federation.config, tmp_path)
    (path / "private.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(DataError, match=r"private\.npz is no NumPy archive"):
        read_share(federation.config, 0, path)


def test_a_client_asked_again_answers_the_same_bytes_even_after_a_restart(
    federation: Federation, tmp_path: Path
) -> None:
    def make() -> Memory:
        return Memory(lambda: federation.worker(0), tmp_path, federation.config.hash())

    memory = make()
    first = memory.handle(Request(0, 1, None), "run")
    for again in (make(), memory):
        reply = again.handle(Request(0, 1, None), "run")
        assert reply.uplink == first.uplink and reply.report["seconds"] == first.report["seconds"]  # not trained twice
    other = make()
    assert other.round == 1
    other.handle(Request(0, 1, None), "another run")  # begins anew
    assert [p.name for p in tmp_path.glob("round-*")] == ["round-00001.safetensors"]


def test_a_full_disk_costs_a_client_its_memory_and_not_the_round(
    federation: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    said: list[str] = []
    memory = Memory(lambda: federation.worker(0), tmp_path / "full", federation.config.hash(), said.append)
    expected = Memory(lambda: federation.worker(0), None, "").handle(Request(0, 1, None), "run").uplink
    monkeypatch.setattr(checkpoint, "write_atomic", refuse)
    assert memory.handle(Request(0, 1, None), "run").uplink == expected
    assert len(said) == 1 and "No space left on device" in said[0] and "round 1 is not kept" in said[0]
    monkeypatch.undo()
    memory.handle(Request(0, 2, None), "run")  # there is room again
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["round-00002.safetensors"]


@pytest.mark.parametrize(
    ("text", "final"),
    [
        ("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol", False),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate", True),
        ("[Errno 111] Connection refused", False),
    ],
)
def test_only_a_refused_certificate_ends_the_tries(text: str, final: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr.supercore.retry import http_retry

    module: Any = http_retry
    monkeypatch.setattr(module, "RetryInvoker", module.RetryInvoker)  # put back at the end
    guard.retry_broken_handshakes()
    decide = module.make_simple_http_retry_invoker().should_giveup
    assert decide is not None and decide(httpx.ConnectError(text)) is final


def test_a_supernode_whose_run_ends_inside_a_message_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr.supercore.run import RunNotRunningException
    from flwr.supernode import start_client_internal

    loop: Any = start_client_internal
    signals: list[int] = []
    monkeypatch.setattr(guard.os, "kill", lambda pid, number: signals.append(number))
    for error, expected in ((ValueError("of one object"), []), (RunNotRunningException(), [signal.SIGTERM])):

        def lost(*_: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(loop, "pull_objects", lost)
        guard.end_on_half_messages()
        with pytest.raises(type(error)):
            loop.pull_objects([], lambda _: b"")
        assert signals == expected


def test_a_task_that_is_no_longer_known_does_not_interrupt_the_process() -> None:
    class Client:
        def SendTaskHeartbeat(self, request: object) -> Any:  # noqa: N802 - Flower's name
            return SimpleNamespace(success=False)

    class Unreachable:
        def SendTaskHeartbeat(self, request: object) -> Any:  # noqa: N802 - Flower's name
            raise httpx.ConnectError("refused")

    # Flower's own would raise SIGINT here, and pytest would end.
    assert executor.heartbeats(Client())() is True  # type: ignore[arg-type]
    assert executor.heartbeats(Unreachable())() is False  # type: ignore[arg-type]


def test_keys_are_made_once_private_and_complete(tmp_path: Path) -> None:
    made = keys.make_keys(tmp_path, ["fleet.example.org", "192.0.2.1"], 2)
    assert len(made) == 8 and keys.make_keys(tmp_path, [], 2) == []
    assert [p.name for p in keys.make_keys(tmp_path, [], 3)] == ["client-2.key", "client-2.pub"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.rglob("*.key"))
    assert sorted(keys.public_keys(tmp_path)) == [0, 1, 2]
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate((tmp_path / "server.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "fleet.example.org" in names.get_values_for_type(x509.DNSName)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate((tmp_path / "ca.crt").read_bytes()))
    with pytest.raises(DeployError, match=r"does not name other\.example\.org"):
        keys.make_keys(tmp_path, ["fleet.example.org", "other.example.org"], 3)
    # As the guide says: a private key handed over and deleted, the CA's key taken offline, then one more client.
    (tmp_path / "clients/client-0.key").unlink()
    (tmp_path / "ca.key").unlink()
    before = keys.public_keys(tmp_path)
    assert [p.name for p in keys.make_keys(tmp_path, [], 4)] == ["client-3.key", "client-3.pub"]
    assert before.items() <= keys.public_keys(tmp_path).items()
    (tmp_path / "server.crt").unlink()
    with pytest.raises(DeployError, match=r"not ca\.key"):
        keys.make_keys(tmp_path, [], 4)


def test_what_a_server_or_client_lacks_is_said_before_anything_starts(
    tmp_path: Path, tiny: Callable[..., Path]
) -> None:
    from spikefed.deploy.client import ClientOptions, run_client
    from spikefed.deploy.server import ServerOptions, serve

    file = tiny()
    with pytest.raises(DeployError, match=r"ca\.crt is not there"):
        serve(file, ServerOptions("127.0.0.1:0", tmp_path / "none"), out=tmp_path / "run")
    keys.make_keys(tmp_path / "keys", [], 1)
    with pytest.raises(DeployError, match="no key of client 1"):
        serve(file, ServerOptions("127.0.0.1:0", tmp_path / "keys"), out=tmp_path / "run")
    options = ClientOptions("nowhere", tmp_path / "keys/ca.crt", tmp_path / "keys/clients/client-0.key", tmp_path / "s")
    with pytest.raises(DeployError, match="is not HOST:PORT"):
        run_client(file, 0, options)
    with pytest.raises(DeployError, match="clients 0 to 1"):
        run_client(file, 2, options)
    public = dataclasses.replace(options, server="127.0.0.1:1", key=tmp_path / "keys/clients/client-0.pub")
    with pytest.raises(DeployError, match=r"client-0\.pub is no private key of a client"):
        run_client(file, 0, public)


ROWS = {
    "client killed, started again": "test_a_client_killed_and_started_again_costs_no_round",
    "client's machine loses power": "test_a_client_machine_that_loses_power_costs_no_round",
    "client killed, its state lost": "test_a_client_that_lost_its_memory_rejoins_through_an_intra_packet",
    "client hangs past the deadline": "test_a_client_that_hangs_is_left_behind_at_the_deadline",
    "client's step raises": "raise",
    "random bytes": "random-bytes",
    "packet of another round": "other-round",
    "another public set": "other-public-set",
    "accuracy NaN": "nan-accuracy",
    "accuracy 7": "accuracy-7",
    "shape that claims 2 GB": "2-gb-claim",
    "NaN in the report beside the packet": "nan-report",
    "any of these `deploy.strikes` times in a row": "set-aside",
    "server `kill -9`": "test_a_server_killed_at_any_point_goes_on_where_it_was",
    "SuperLink `kill -9`": "test_a_superlink_killed_and_started_again_costs_no_round",
    "network cut for 60 s": "test_a_network_that_is_cut_for_a_minute_costs_no_round",
    "quorum missing": "test_quorum_missing_repeats_the_round_then_gives_it_up",
    "client trusts another CA": "test_another_ca_is_refused_in_one_sentence",
    "key not registered": "test_an_unregistered_key_is_refused_in_one_sentence",
    "key of one client, number of another": "test_a_key_speaks_for_its_own_client_only",
}


def test_every_row_of_the_fault_table_is_a_test() -> None:
    from deploy.test_faults_liars import LIARS

    page = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text()
    table = page.split("## Fault table")[1].split("## ")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")][2:]
    named = [next((name for name in ROWS if row.startswith(name)), row) for row in rows]
    assert named == list(ROWS)
    tests = [
        re.findall(r"^def (test_\w+)", p.read_text(), re.M) for p in Path(__file__).parent.glob("test_faults_*.py")
    ]
    assert set(ROWS.values()) <= {*LIARS, *itertools.chain(*tests)}


def test_the_guide_names_every_setting_and_command() -> None:
    from spikefed.experiment.config import DeployConfig

    page = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text()
    for word in [*DeployConfig.model_fields, "spikefed keys", "spikefed server", "spikefed client", "spikefed status"]:
        assert word in page


def test_a_refused_key_is_tried_for_as_long_as_asked_from_the_first_refusal_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client may wait for its server for long; and numbers in the output that look like the code say nothing."""
    from types import SimpleNamespace
    from typing import cast

    from spikefed.deploy import client as module

    now = SimpleNamespace(value=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now.value))
    monkeypatch.setattr(keys, "check_server", lambda *_: True)
    options = module.ClientOptions("s:1", tmp_path / "ca.crt", tmp_path / "key", tmp_path, patience_s=60.0)
    client = module.Client(cast(Any, None), 0, options)
    refusal = "Exit Code: 305\n\nFor more information, visit: https://flower.ai/ref-exit-codes/305.html"
    now.value += 3600
    assert client._died(1, refusal)  # an hour after the start, but the first refusal
    now.value += 61
    assert client._died(1, "[RUN 1305305305] ended; listening on 43051")  # no refusal: counts anew
    assert client._died(1, refusal)
    now.value += 59
    assert client._died(1, refusal)
    now.value += 2
    assert not client._died(1, refusal)


def test_a_name_server_that_is_away_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    keys.make_keys(tmp_path, [], 0)

    def fails(number: int) -> None:
        def connect(*_: object) -> None:
            raise socket.gaierror(number, "no answer")

        monkeypatch.setattr(socket, "create_connection", connect)

    fails(socket.EAI_AGAIN)
    assert keys.check_server("fleet.example.org:443", tmp_path / "ca.crt") is False
    fails(socket.EAI_NONAME)
    with pytest.raises(DeployError, match="no such host"):
        keys.check_server("fleet.example.org:443", tmp_path / "ca.crt")


def test_a_network_that_stays_in_part_with_its_clients_is_no_fleets(tmp_path: Path) -> None:
    from deploy.conftest import TINY
    from spikefed.deploy.server import Fleet, ServerOptions
    from spikefed.errors import ConfigError
    from spikefed.experiment import RunFolder

    (tmp_path / "tiny.toml").write_text(TINY.format(clients=2, rounds=1, participation=""))
    config = load(tmp_path / "tiny.toml")
    fleet = Fleet(ServerOptions("127.0.0.1:0", tmp_path / "certs"))
    for table, said in (
        ({"name": "fedavg", "send": ["weight"]}, "leaves part of the network with each client .method.send."),
        ({"name": "fd"}, "has no server model"),
    ):
        made = build(config.model_copy(update={"method": table}))
        with pytest.raises(ConfigError, match=f"{said}.*run it with 'spikefed run'"):
            fleet.open(made, RunFolder(tmp_path / "run"))
