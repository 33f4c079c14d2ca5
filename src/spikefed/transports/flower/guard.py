"""Entry of a child process: one of Flower's programs that ends when its parent does.

``python guard.py superlink|supernode PARENT POLL_S ARGUMENTS...``; imports nothing of spikefed, so that it
starts fast and stays small.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

RETRY_S = 3.0


def follow(parent: int, every_s: float = 0.3) -> None:
    """End this process when ``parent`` is gone, however it went; a second later by force."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every_s)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(2.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def poll_faster(seconds: float) -> None:
    """Let a SuperNode without work look again after ``seconds`` instead of its fixed 3.

    The interval is no setting of Flower's: the loop's module gets a clock whose ``sleep`` is bounded.
    """
    from flwr.supernode import start_client_internal as loop

    loop.time = SimpleNamespace(sleep=lambda wait: time.sleep(min(wait, seconds)), time=time.time)  # type: ignore


def retry_faster(seconds: float) -> None:
    """Wait at most ``seconds`` between tries to reach a server that is away, instead of up to 20."""
    from flwr.supercore.retry import http_retry

    http_retry.MAX_RETRY_DELAY = seconds  # type: ignore[attr-defined]


def log_less() -> None:
    """Keep a SuperLink from writing a line for every request: polling alone makes a hundred thousand a day."""
    from flwr.superlink.cli import flower_superlink as program

    module = sys.modules[program.__module__]
    original = module.get_uvicorn_log_config

    def quiet(level: int) -> dict[str, Any]:
        config = original(level)
        config["loggers"]["uvicorn.access"]["level"] = "WARNING"
        return config

    module.get_uvicorn_log_config = quiet  # type: ignore[attr-defined]


def main() -> None:
    """Run the program named first."""
    program, parent, poll, *arguments = sys.argv[1:]
    follow(int(parent))
    sys.argv = [f"flower-{program}", *arguments]
    if program == "superlink":
        from flwr.superlink.cli import flower_superlink

        log_less()
        flower_superlink()
    else:
        from flwr.supernode.cli import flower_supernode

        poll_faster(float(poll))
        retry_faster(RETRY_S)
        flower_supernode()


if __name__ == "__main__":
    main()
