"""Flower's programs as children: started, watched, started again when they die, ended with their parent."""

from __future__ import annotations

import atexit
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

BACKOFF_S = (0.2, 1.0, 3.0, 10.0)
"""Pause before the first, second, ... start after a death; the last one repeats. A minute of life starts it over."""


def free_port() -> int:
    """A port on this machine's loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def port_is_free(host: str, port: int, seconds: float = 0.0) -> bool:
    """Whether one can listen there; waits for it (the program of a killed server needs a moment to end)."""
    end = time.monotonic() + seconds
    while True:
        try:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
                return True
        except OSError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.2)


def write_secret(path: Path) -> bytes:
    """A new secret of 32 bytes in a file that only this user can read; returns it."""
    secret = secrets.token_bytes(32)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret)
    return secret


class Child:
    """One program kept running.

    Args:
        program: ``superlink`` or ``supernode``.
        arguments: its command line.
        log: file that takes its output.
        poll_s: how often an idle SuperNode asks for work.
        on_death: called with the exit code and the last lines of output, from the watching thread; returns whether the
            program shall be started again.
    """

    def __init__(
        self,
        program: str,
        arguments: Sequence[str],
        log: Path,
        poll_s: float = 1.0,
        on_death: Callable[[int, str], bool] = lambda code, tail: True,
    ) -> None:
        self.program = program
        self.log = log
        # By path and without the folder on the module path: the child loads Flower, but neither spikefed nor torch.
        guard = str(Path(__file__).with_name("guard.py"))
        self._command = [sys.executable, "-P", guard, program, str(os.getpid()), str(poll_s), *arguments]
        self._on_death = on_death
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self) -> None:
        """Start and watch."""
        self._launch()
        atexit.register(self.stop)
        threading.Thread(target=self._watch, daemon=True, name=f"watch-{self.program}").start()

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def stop(self, patience_s: float = 5.0) -> None:
        """End it: SIGTERM, then SIGKILL for the whole group."""
        self._stopping.set()
        atexit.unregister(self.stop)
        process = self._process
        if process is None:
            return
        for signal_, wait in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 5.0)):
            if process.poll() is not None:
                break
            try:
                os.killpg(process.pid, signal_)
                process.wait(wait)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue

    def tail(self, lines: int = 8) -> str:
        """The last lines of its output."""
        try:
            with open(self.log, "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
                return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def _launch(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as output:
            # A group of its own: Ctrl-C in a terminal reaches the parent only, which then stops the child in order.
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        self.starts += 1

    def _watch(self) -> None:
        deaths = 0
        while not self._stopping.is_set():
            process = self._process
            since = time.monotonic()
            assert process is not None
            code = process.wait()
            if self._stopping.is_set() or not self._on_death(code, self.tail()):
                return
            deaths = 0 if time.monotonic() - since > 60 else deaths + 1
            if self._stopping.wait(BACKOFF_S[min(deaths, len(BACKOFF_S)) - 1]):
                return
            self._launch()
            if self._stopping.is_set():  # stop() may have looked before the new process was there
                self.stop()
