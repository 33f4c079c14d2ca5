"""The live page in a real browser: it appears, grows, survives a restart of run and server, and stays at home."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from browser.conftest import Watched, serious_faults, until
from report.synthetic import make_run
from spikefed.report.live import make_server


def start(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    server = make_server(folder, port)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    server = start(tmp_path / "run")
    yield server
    server.shutdown()
    server.server_close()


def url_of(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/"


def test_the_page_follows_a_run_from_before_its_start_to_its_end(
    watched: Watched, server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    page = watched.open(url_of(server))
    page.get_by_text("waiting for the run").wait_for()

    folder = make_run(tmp_path / "run", rounds=6, drop=True)
    result, metrics = folder / "result.json", folder / "metrics.jsonl"
    ending, lines = result.read_text(), metrics.read_text().splitlines(keepends=True)
    result.unlink()
    metrics.write_text("".join(lines[:4]))
    page.get_by_text("4 of 6 rounds").wait_for()
    points = page.locator('figure[data-figure="acc-rounds"] .point')
    points.first.wait_for()
    assert points.count() == 4
    assert page.locator("#log .warn").count() == 1

    metrics.write_text("".join(lines[:2]))  # killed, and resumed from an earlier checkpoint
    page.get_by_text("2 of 6 rounds").wait_for()
    metrics.write_text("".join(lines))
    result.write_text(ending)
    page.locator('#state[data-state="finished"]').wait_for()
    until(page, "document.querySelectorAll('figure[data-figure=acc-rounds] .point').length === 6")
    assert watched.errors == []
    assert {r.split("?")[0] for r in watched.requests if not r.startswith("data:")} == {
        url_of(server) + name for name in ("", "plotly.js", "state.json")
    }


def test_the_page_says_when_the_server_is_gone_and_goes_on_when_it_is_back(watched: Watched, tmp_path: Path) -> None:
    make_run(tmp_path / "run", rounds=2, finished=False)
    server = start(tmp_path / "run")
    port = server.server_address[1]
    page = watched.open(url_of(server))
    server.shutdown()
    server.server_close()
    page.get_by_role("alert").wait_for()
    again = start(tmp_path / "run", port)
    page.get_by_role("alert").wait_for(state="hidden")
    assert page.get_by_role("heading", level=1).is_visible()
    again.shutdown()
    again.server_close()


@pytest.mark.parametrize("watched", [{"viewport": {"width": 375, "height": 740}}], indirect=True, ids=["phone"])
def test_a_phone_and_a_screen_reader_can_use_it(
    watched: Watched, server: ThreadingHTTPServer, tmp_path: Path, axe_source: str
) -> None:
    make_run(tmp_path / "run", rounds=3, drop=True, streams=True)
    page = watched.open(url_of(server))
    page.locator('figure[data-figure="acc-rounds"] .point').first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert serious_faults(page, axe_source) == []
