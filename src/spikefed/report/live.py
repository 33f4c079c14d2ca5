"""`spikefed watch`: a read-only page on this machine that follows a run folder while it grows.

The server answers three fixed addresses (the page, the plotting library, the run's state) and nothing else: no path of
a request ever names a file. It listens on the loopback address only and refuses requests addressed to another host
name, so that no page elsewhere can read through it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import webbrowser
from collections.abc import Callable
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from spikefed.errors import ReportError
from spikefed.federated.findings import fresh
from spikefed.report.groups import group_runs, method_name
from spikefed.report.packed import plotly_js
from spikefed.report.payload import payload, to_json
from spikefed.report.runs import Run, load_run, number, runs_below
from spikefed.report.text import bytes_text, duration, percent
from spikefed.report.write import asset, fill, motif

HOST = "127.0.0.1"
WATCHED = ("config.toml", "provenance.json", "metrics.jsonl", "ledger.jsonl", "result.json")
STALLED_AFTER_S = 60.0  # no news for so long, and for five rounds' time, is worth a word
LOG_LINES = 300
PAGE_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; connect-src 'self'"
)


def serve(
    folder: Path | str,
    *,
    port: int = 0,
    open_browser: bool = False,
    on_ready: Callable[[str], None] = print,
) -> None:
    """Serve the live page of ``folder`` until interrupted.

    Args:
        folder: a run folder; it may not exist yet, and may be resumed or made anew meanwhile. A folder of runs
            stands for the one that moved last.
        port: 0 takes a free one.
        open_browser: show the page in the default browser.
        on_ready: called once with the page's address.

    Raises:
        ReportError: the path is a file, or the port is taken.
    """
    server = make_server(folder, port)
    url = f"http://{HOST}:{server.server_port}/"
    on_ready(url)
    if open_browser:
        webbrowser.open(url)
    try:
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


def make_server(folder: Path | str, port: int = 0) -> ThreadingHTTPServer:
    """The server, bound and ready for ``serve_forever``; see `serve`."""
    folder = Path(folder)
    if folder.is_file():
        raise ReportError(f"'{folder}' is a file; give the run folder to watch")

    class Handler(_Handler):
        run_folder = folder

    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        raise ReportError(
            f"port {port} on {HOST} cannot be used ({error}); give another --port, or 0 for any"
        ) from error
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    run_folder: Path
    server_version = "spikefed"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer one of the three addresses."""
        host = self.headers.get("Host", "")
        own = cast(Any, self.server).server_address[1]
        if host not in (f"{HOST}:{own}", f"localhost:{own}"):
            self._send(403, "text/plain", b"this address is for this machine only\n")
            return
        url = urlsplit(self.path)
        if url.path == "/":
            self._send(200, "text/html; charset=utf-8", _page(self.run_folder).encode(), policy=True)
        elif url.path == "/plotly.js":
            self._send(200, "text/javascript; charset=utf-8", plotly_js().encode(), cache=True)
        elif url.path == "/state.json":
            version = version_of(self.run_folder)
            if parse_qs(url.query).get("version") == [version]:
                self._send(304, "application/json", b"")
            else:
                self._send(200, "application/json", to_json(state_of(self.run_folder, version)).encode())
        else:
            self._send(404, "text/plain", b"not found\n")

    def _send(self, status: int, kind: str, body: bytes, *, policy: bool = False, cache: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "max-age=86400" if cache else "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if policy:
            self.send_header("Content-Security-Policy", PAGE_POLICY)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a line a second helps nobody."""


def run_in(folder: Path) -> Path:
    """The folder itself, or where it holds several runs, as that of ``spikefed compare``, the one that moved last."""
    runs = runs_below(folder, 1)
    return max(runs, key=_moved, default=folder)


def _moved(run: Path) -> float:
    """When a file of the run last changed, seconds since the epoch; 0 without any."""
    times = [0.0]
    for name in WATCHED:
        with contextlib.suppress(OSError):
            times.append((run / name).stat().st_mtime)
    return max(times)


def version_of(folder: Path) -> str:
    """Changes whenever a file of the run does, or when the run falls silent."""
    folder = run_in(folder)
    seen: list[Any] = [str(folder)]
    newest = 0.0
    for name in WATCHED:
        try:
            stat = (folder / name).stat()
        except OSError:
            seen.append(None)
            continue
        seen.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
        newest = max(newest, stat.st_mtime)
    seen.append(bool(newest) and time.time() - newest > STALLED_AFTER_S)
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16]


def state_of(folder: Path, version: str) -> dict[str, Any]:
    """What the page shows: the figures' numbers and the run's progress."""
    try:
        run = load_run(run_in(folder))
    except ReportError:
        run = None
    if run is None:
        return {"version": version, "data": payload([], []), "live": _waiting(folder)}
    return {"version": version, "data": payload(group_runs([run]), []), "live": _live(run)}


def _waiting(folder: Path) -> dict[str, Any]:
    return {
        "state": "waiting",
        "name": folder.name,
        "what": f"no run in {folder} yet",
        "rounds": None,
        "finished_rounds": 0,
        "progress": "no round yet",
        "cards": [],
        "log": [],
    }


def _live(run: Run) -> dict[str, Any]:
    done = len(run.rounds)
    total = run.config.get("rounds")
    total = max(total, done) if isinstance(total, int) else None
    spent = [s for e in run.rounds if (s := number((e.get("seconds") or {}).get("round"))) is not None]
    a_round = sum(spent[-5:]) / len(spent[-5:]) if spent else None
    left = a_round * (total - done) if a_round is not None and total else None
    state = (
        "finished"
        if run.finished
        else "stalled"
        if _silent_s(run) > max(STALLED_AFTER_S, 5 * (a_round or 0))
        else "running"
    )
    what = " · ".join(filter(None, [method_name(run), run.preset, run.dataset, run.partition, run.network]))
    progress = f"{done} of {total} rounds" if total else f"{done} rounds"
    if state == "running" and left:
        progress += f", about {duration(left)} left"
    return {
        "state": state,
        "name": run.name,
        "what": what if run.seed is None else f"{what} · seed {run.seed}",
        "rounds": total,
        "finished_rounds": done,
        "progress": progress,
        "cards": _cards(run, a_round),
        "log": _log(run),
    }


def _silent_s(run: Run) -> float:
    moved = _moved(run.folder)
    return time.time() - moved if moved else 0.0


def _cards(run: Run, a_round: float | None) -> list[tuple[str, str, str]]:
    if not run.rounds:
        return []
    last = run.rounds[-1]
    known = [a for e in run.rounds if (a := number(e.get("server_accuracy"))) is not None]
    dropped = sum(len(e.get("dropped") or []) for e in run.rounds)
    return [
        ("Server accuracy", percent(known[-1] if known else None), f"best {percent(max(known, default=None))}"),
        ("Upstream", bytes_text(number(last.get("upstream_bytes_total"))), _this_round(last, "upstream_bytes")),
        ("Downstream", bytes_text(number(last.get("downstream_bytes_total"))), _this_round(last, "downstream_bytes")),
        ("Clients", str(len(last.get("participants") or [])), "in the last round"),
        ("Uploads lost", str(dropped), "or refused, so far"),
        ("Time a round", duration(a_round), "mean of the last five"),
    ]


def _this_round(entry: dict[str, Any], key: str) -> str:
    return f"{bytes_text(number(entry.get(key)))} in the last round"


def _log(run: Run) -> list[tuple[str, str]]:
    """Newest first: rounds, refused uploads, resumptions, what could not be read."""
    lines: list[tuple[str, str]] = []
    started = run.provenance.get("started")
    if started:
        lines.append(("mark", f"started {started}"))
    resumed = {r.get("round"): r.get("at") for r in run.provenance.get("resumed") or [] if isinstance(r, dict)}
    best = -1.0
    for before, entry in zip([{}, *run.rounds], run.rounds, strict=False):
        if before.get("round", 0) in resumed:
            lines.append(
                ("mark", f"resumed after round {before.get('round', 0)}, {resumed.pop(before.get('round', 0))}")
            )
        accuracy = number(entry.get("server_accuracy"))
        record = accuracy is not None and accuracy > best
        best = max(best, accuracy if accuracy is not None else best)
        seconds = number((entry.get("seconds") or {}).get("round"))
        parts = [
            f"round {entry['round']:>3}: {percent(accuracy)}{' best so far' if record else ''}",
            f"{len(entry.get('participants') or [])} clients",
            f"{bytes_text(number(entry.get('upstream_bytes')))} up",
            duration(seconds),
        ]
        lines.append(("", ", ".join(parts)))
        if entry.get("merged") is False:
            lines.append(("warn", f"round {entry['round']:>3}: {entry.get('diverged') or UNMERGED}"))
        lines += [("warn", f"round {entry['round']:>3}: {text}") for text in fresh(entry)]
        lines += [
            (
                "warn",
                f"round {entry['round']:>3}: client {d.get('client')} left out: {d.get('reason', 'no reason given')}",
            )
            for d in entry.get("dropped") or []
            if isinstance(d, dict)
        ]
    lines += [("mark", f"resumed after round {after}, {at}") for after, at in resumed.items()]
    lines += [("warn", problem) for problem in (run.troubles if run.finished else run.problems)]
    if run.finished:
        lines.append(("mark", f"finished {run.provenance.get('finished', '')}".rstrip()))
    return lines[::-1][:LOG_LINES]


UNMERGED = "too few uploads for the quorum, the server is unchanged"


def _page(folder: Path) -> str:
    scripts = ("core.js", "tables.js", "figures.js", "inside.js", "live.js")
    fields = {
        "TITLE": escape(folder.name),
        "STYLE": asset("style.css"),
        "MOTIF": motif(),
        "SCRIPT": "\n".join(asset(name) for name in scripts),
    }
    return fill(asset("live.html"), fields)
