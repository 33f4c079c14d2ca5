"""A TCP proxy that counts what goes through it, and can be cut: for measuring a fleet and for testing it."""

from __future__ import annotations

import contextlib
import socket
import threading


class Proxy:
    """Listens on a free port of this machine and passes every connection on to ``target``.

    Attributes:
        port: where it listens.
        target: port on this machine that connections go to.
        up, down: bytes from the side that connects, and to it, so far.
    """

    def __init__(self, target: int = 0) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.target = target
        self.up = 0
        self.down = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._cut = False

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Break every connection and refuse new ones."""
        self._cut = True
        with self._lock:
            connections = self._open
            self._open = set()
        for connection in connections:
            # shutdown wakes the thread that reads; close alone would leave it asleep.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def mend(self) -> None:
        """Pass connections on again."""
        self._cut = False

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._cut:
                    raise OSError("cut")
                far = socket.create_connection(("127.0.0.1", self.target), 5)
            except OSError:
                near.close()
                continue
            with self._lock:
                self._open |= {near, far}
            far.settimeout(None)
            threading.Thread(target=self._pass, args=(near, far, "up"), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, "down"), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                with self._lock:
                    setattr(self, direction, getattr(self, direction) + len(data))
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
            with self._lock:
                self._open.discard(end)
