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
from typing import Any, cast

RETRY_S = 3.0
HEARTBEAT_S = 12.0
"""What a SuperNode promises; after twice that without one the SuperLink takes it for gone and lets another begin."""


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
    from flwr.supernode import start_client_internal

    loop: Any = start_client_internal
    loop.time = SimpleNamespace(sleep=lambda wait: time.sleep(min(wait, seconds)), time=time.time)


def retry_faster(seconds: float) -> None:
    """Wait at most ``seconds`` between tries to reach a server that is away, instead of up to 20."""
    from flwr.supercore.retry import http_retry

    cast(Any, http_retry).MAX_RETRY_DELAY = seconds


def retry_broken_handshakes() -> None:
    """Let a connection that breaks while TLS is being agreed on be tried again, like one that breaks later.

    Flower takes every TLS error for a certificate that will never fit and gives up, so that a server killed, or a
    network cut, at the wrong moment would lose the client for good. Only a certificate that is refused is final.
    """
    from flwr.supercore.retry import http_retry

    module: Any = http_retry
    original = module.RetryInvoker

    def make(*arguments: Any, should_giveup: Any, **more: Any) -> Any:
        def final(error: Exception) -> bool:
            text = str(error).lower()
            broken = ("ssl" in text or "tls" in text) and "certificate" not in text
            return not broken and should_giveup(error)

        return original(*arguments, should_giveup=final, **more)

    module.RetryInvoker = make


def end_on_half_messages() -> None:
    """Let a SuperNode whose run ends in the middle of a message end too, and be started again, instead of going on.

    When the server is killed while it sends, Flower drops the message after its task was handed out; whoever took the
    task would wait for the rest for up to two hours. Of an ordinary error the SuperNode tells whoever waits.
    """
    from flwr.supernode import start_client_internal

    loop: Any = start_client_internal
    original = loop.pull_objects

    def pull(*arguments: Any, **more: Any) -> Any:
        try:
            return original(*arguments, **more)
        except Exception:
            raise
        except BaseException:  # Flower's "the run has stopped" is no Exception
            os.kill(os.getpid(), signal.SIGTERM)  # in order, so that the SuperLink knows that this node is gone
            raise

    loop.pull_objects = pull


def beat_faster(seconds: float) -> None:
    """Let a SuperNode that vanished be missed after ``2 * seconds``, not after Flower's fixed 60.

    Until then the SuperLink neither hands its message back nor lets a new process with the same key begin.
    """
    from flwr.supercore import heartbeat
    from flwr.supernode import fleet_http_connection

    beats: Any = heartbeat
    connection: Any = fleet_http_connection
    exponential = beats.exponential
    beats.exponential = lambda **_: exponential(max_delay=RETRY_S)
    beats.HEARTBEAT_DEFAULT_INTERVAL = connection.HEARTBEAT_DEFAULT_INTERVAL = seconds


def log_less() -> None:
    """Keep a SuperLink from writing a line for every request: polling alone makes a hundred thousand a day."""
    from flwr.superlink.cli import flower_superlink as program

    module = sys.modules[program.__module__]
    original = module.get_uvicorn_log_config

    def quiet(level: int) -> dict[str, Any]:
        config = original(level)
        config["loggers"]["uvicorn.access"]["level"] = "WARNING"
        return config

    cast(Any, module).get_uvicorn_log_config = quiet


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
        beat_faster(HEARTBEAT_S)
        retry_broken_handshakes()
        end_on_half_messages()
        flower_supernode()
        # Its loop ended by itself, on an error that it has logged; its server thread would keep it alive for nothing.
        os._exit(1)


if __name__ == "__main__":
    main()
