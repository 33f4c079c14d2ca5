"""The live server: follows a run through restarts, loopback only, read-only, three addresses."""

from __future__ import annotations

import http.client
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from report.synthetic import make_run
from spikefed.errors import ReportError
from spikefed.report.live import make_server, state_of, version_of

Ask = Callable[..., tuple[int, bytes, dict[str, str]]]


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Ask]:
    server = make_server(tmp_path / "run")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    port = server.server_address[1]

    def ask(path: str, method: str = "GET", host: str | None = None) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request(method, path, headers={"Host": host or f"127.0.0.1:{port}"})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body, dict(answer.getheaders())

    yield ask
    server.shutdown()
    server.server_close()
    thread.join()


def state(ask: Ask, version: str = "") -> dict[str, Any]:
    status, body, _ = ask(f"/state.json?version={version}")
    assert status == 200
    return json.loads(body)


def test_it_waits_for_a_run_and_follows_it_through_a_restart(ask: Ask, tmp_path: Path) -> None:
    first = state(ask)
    assert first["live"]["state"] == "waiting" and first["data"]["runs"] == []

    folder = make_run(tmp_path / "run", rounds=5, finished=False)
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    (folder / "config.toml").write_text((folder / "config.toml").read_text().replace("rounds = 5", "rounds = 8"))
    going = state(ask, first["version"])
    assert going["live"]["state"] == "running" and going["live"]["progress"].startswith(
        "5 of 8 rounds, about 18 s left"
    )
    assert ask(f"/state.json?version={going['version']}")[0] == 304

    # A crash and a resume from the checkpoint of round 3: the later lines are cut off.
    metrics.write_text("".join(lines[:3]))
    facts = json.loads((folder / "provenance.json").read_text())
    (folder / "provenance.json").write_text(
        json.dumps(facts | {"resumed": [{"round": 3, "at": "2026-01-02T11:00:00Z"}]})
    )
    resumed = state(ask, going["version"])
    assert resumed["live"]["finished_rounds"] == 3
    assert resumed["live"]["log"][0] == ["mark", "resumed after round 3, 2026-01-02T11:00:00Z"]

    (folder / "result.json").write_text(json.dumps({"method": "fsd", "curve": []}))
    assert state(ask)["live"]["state"] == "finished"


def test_of_a_folder_of_runs_it_follows_the_one_that_moved_last(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    folder.mkdir()
    assert state_of(folder, "")["live"]["state"] == "waiting"
    runs = [make_run(folder / name, method=name, rounds=2, finished=False) for name in ("cfd", "fsd")]
    for later, run in ((0, runs[0]), (60, runs[1])):
        for file in run.iterdir():
            os.utime(file, (1_800_000_000 + later,) * 2)
    before = version_of(folder)
    assert state_of(folder, "")["live"]["name"] == "fsd-plain-digits"
    os.utime(runs[0] / "metrics.jsonl", (1_800_000_999,) * 2)
    assert version_of(folder) != before
    assert state_of(folder, "")["live"]["name"] == "cfd-plain-digits"


def test_a_half_written_line_is_no_error(ask: Ask, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", rounds=2, finished=False)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"round": 3, "server_acc')
    assert state(ask)["live"]["finished_rounds"] == 2


def test_only_reading_and_only_three_addresses(ask: Ask, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", rounds=1)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    assert ask("/")[0] == 200 and ask("/plotly.js")[0] == 200
    for path in ("/config.toml", "/../run/config.toml", "/%2e%2e/run/config.toml", "//etc/passwd"):
        assert ask(path)[0] == 404
    for method in ("POST", "PUT", "DELETE"):
        assert ask("/state.json", method)[0] == 501
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_another_host_name_is_refused(ask: Ask) -> None:
    assert ask("/state.json", host="rebound.example:80")[0] == 403


def test_the_page_may_talk_to_its_own_server_only(ask: Ask) -> None:
    _, body, headers = ask("/")
    assert "connect-src 'self'" in headers["Content-Security-Policy"]
    assert b"http://" not in body.replace(b"http://www.w3.org", b"") and b"https://" not in body


def test_it_listens_on_loopback_only(tmp_path: Path) -> None:
    server = make_server(tmp_path)
    assert server.server_address[0] == "127.0.0.1"
    server.server_close()


def test_a_taken_port_and_a_file_are_refused(tmp_path: Path) -> None:
    server = make_server(tmp_path)
    with pytest.raises(ReportError, match=f"port {server.server_address[1]} "):
        make_server(tmp_path, server.server_address[1])
    server.server_close()
    (tmp_path / "x").write_text("")
    with pytest.raises(ReportError, match="is a file"):
        make_server(tmp_path / "x")


def test_silence_is_said_and_changes_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(tmp_path / "run", rounds=2, finished=False)
    before = version_of(folder)
    monkeypatch.setattr("spikefed.report.live.time.time", lambda: (folder / "metrics.jsonl").stat().st_mtime + 3600)
    assert version_of(folder) != before
    assert state_of(folder, "")["live"]["state"] == "stalled"


def test_refused_uploads_are_in_the_log(tmp_path: Path) -> None:
    log = state_of(make_run(tmp_path / "run", rounds=3, drop=True), "")["live"]["log"]
    assert ("warn", "round   2: client 1 left out: packet refused at field 'crc': 1 bit differs") in log
