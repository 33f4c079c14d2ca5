"""A server program that is killed with SIGKILL at one point: ``python crash.py POINT ROUND server FILE ...``."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    point, round = sys.argv[1], int(sys.argv[2])
    sys.argv = ["spikefed", *sys.argv[3:]]
    from spikefed.federated import collecting, rounds
    from spikefed.federated.history import History
    from spikefed.transports.flower.transport import FlowerTransport

    def before(owner: Any, name: str, when: Any) -> None:
        original = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if when(*args):
                die()
            return original(*args, **kwargs)

        setattr(owner, name, wrapped)

    def after(owner: Any, name: str, when: Any) -> None:
        original = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if when(*args):
                die()
            return result

        setattr(owner, name, wrapped)

    here = {"round": 0}
    original = rounds.Server.run_round

    def run_round(self: Any) -> Any:
        here["round"] = self.round + 1
        return original(self)

    rounds.Server.run_round = run_round  # type: ignore[method-assign]
    due = lambda *_: here["round"] == round  # noqa: E731
    if point == "sending":  # requests are encoded, nothing has left
        before(FlowerTransport, "round", due)
    elif point == "waiting":  # the requests are out
        from spikefed.transports.flower import transport

        after(transport._Collection, "_ask", due)
    elif point == "merging":  # all replies are there
        before(collecting.Collector, "_accept", due)
    elif point == "evaluating":  # the server step is done
        before(rounds.Server, "_measure", due)
    elif point == "writing":  # metrics are written, the checkpoint is not
        before(History, "save", due)
    elif point == "saved":  # the checkpoint is there, the next round has not begun
        after(History, "save", due)
    else:
        raise SystemExit(f"unknown point {point}")
    from spikefed.cli import main as spikefed

    spikefed()


if __name__ == "__main__":
    main()
