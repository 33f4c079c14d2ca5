"""A Flower run of ours, opened anew whenever it is lost."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import httpx
from flwr.app import Message
from flwr.common.constant import SubStatus
from flwr.common.serde import context_from_proto, run_from_proto
from flwr.proto.runtime_pb2 import PullTaskInputRequest, PushTaskOutputRequest
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.retry import RetryInvoker, constant
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from spikefed.errors import DeployError
from spikefed.transports.flower.control import Control
from spikefed.transports.flower.executor import Runtime, heartbeats, wait_for_run

T = TypeVar("T")
LOST_AFTER_S = 120.0
"""How long a SuperLink may stay away before the server gives up; it can be resumed later."""


class Session:
    """The grid of one Flower run. A SuperLink that is away is waited for; a run it no longer knows is replaced.

    Args:
        runtime: the SuperLink's Runtime API.
        control: its Control API.
        note: told in one sentence when something was lost and found again.
    """

    def __init__(self, runtime: Runtime, control: Control, note: Callable[[str], None] = lambda text: None) -> None:
        self._runtime = runtime
        self._control = control
        self._note = note
        self._grid: HttpGrid | None = None
        self._heartbeat: HeartbeatSender | None = None
        self.generation = 0
        """Counts the Flower runs; message ids of an earlier one are worth nothing."""

    def open(self) -> None:
        """Open a run and take its task."""
        self.close()
        run_id = self._control.start_run()
        token = wait_for_run(self._runtime, run_id, 30.0)
        grid = HttpGrid(self._runtime.address, False, self._runtime.ca, token=token)
        # Flower's own retries would wait for ever and end the process on a refused token.
        grid._retry_invoker = RetryInvoker(lambda: constant(0.3), httpx.TransportError, max_tries=2, max_time=None)
        task = grid._runtime_client.PullTaskInput(PullTaskInputRequest())
        # Messages take their sender from here.
        TaskIdentity.task_id = task.task_id
        TaskIdentity.run_id = task.run.run_id
        TaskIdentity.node_id = context_from_proto(task.context).node_id
        grid.set_run(run_from_proto(task.run))
        self._heartbeat = HeartbeatSender(heartbeats(grid._runtime_client))
        self._heartbeat.start()
        self._grid = grid
        self.generation = self.generation + 1

    def close(self, completed: bool = False) -> None:
        """Give the run back."""
        grid = self._grid
        self._grid = None
        if self._heartbeat is not None and self._heartbeat.is_running:
            self._heartbeat.stop()
        if grid is None:
            return
        with contextlib.suppress(httpx.HTTPError, RuntimeError):
            grid._runtime_client.PushTaskOutput(
                PushTaskOutputRequest(sub_status=SubStatus.COMPLETED if completed else SubStatus.STOPPED)
            )
        with contextlib.suppress(Exception):
            grid.close()

    def online(self) -> set[int]:
        """Node ids that send heartbeats."""
        return set(self._call(lambda grid: grid.get_node_ids()))

    def push(self, messages: Sequence[Message]) -> list[str | None]:
        """Send; the id of every message, None where the SuperLink refused it."""
        return list(self._call(lambda grid: grid.push_messages(messages)))

    def pull(self, message_ids: Sequence[str]) -> list[Message]:
        """The replies that have come."""
        return list(self._call(lambda grid: grid.pull_messages(message_ids))) if message_ids else []

    def _call(self, what: Callable[[HttpGrid], T]) -> T:
        """Call, and when the SuperLink or the run is lost, wait for it or open another, then raise `Lost`."""
        if self._grid is None:
            self._reopen("the Flower run was never opened")
        assert self._grid is not None
        try:
            return what(self._grid)
        except (httpx.HTTPError, RuntimeError) as error:  # RunNotRunningException is an exception of its own kind
            self._reopen(f"{type(error).__name__}: {error}")
        except Exception as error:
            if type(error).__name__ != "RunNotRunningException":
                raise
            self._reopen("the Flower run was stopped")
        raise Lost

    def _reopen(self, why: str) -> None:
        self._note(f"the SuperLink was lost ({why[:200]})")
        end = time.monotonic() + LOST_AFTER_S
        while True:
            try:
                self._control.wait(max(1.0, end - time.monotonic()))
                self._control.stop_runs()
                self.open()
                self._note("the SuperLink is back, in a new Flower run")
                return
            except (httpx.HTTPError, RuntimeError, TimeoutError, DeployError) as error:
                if time.monotonic() > end:
                    raise DeployError(
                        f"the SuperLink did not come back within {LOST_AFTER_S:.0f} s ({error}); see superlink.log, "
                        "then repeat the command with --resume"
                    ) from error
                time.sleep(0.5)


class Lost(Exception):
    """What was asked for is gone with its Flower run; ask again."""
