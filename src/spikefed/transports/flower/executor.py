"""Taking work from Flower's Runtime API in a process that stays: the server's run, a client's messages."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
from flwr.app import Message, RecordDict
from flwr.app.error import Error
from flwr.common.constant import ErrorCode, SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest, PushTaskOutputRequest, SendTaskHeartbeatRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message

ACQUIRE = "/flwr.proto.Runtime/AcquireTask"


@dataclass
class Runtime:
    """A Runtime API: where it is, and the secret that entitles to its tasks.

    Attributes:
        address: ``host:port``.
        secret: shared with Flower's program through a file only this user can read.
        ca: CA certificate (PEM); None speaks without TLS, on loopback.
    """

    address: str
    secret: bytes = field(repr=False)
    ca: bytes | None = None

    def client(self, token: str | None = None) -> RuntimeHttpClient:
        """A connection that may ask for tasks, or one that works on the task of ``token``."""
        if token is None:
            auth = SuperExecAuthHttpInterceptor(master_secret=self.secret, protected_methods=[ACQUIRE])
        else:
            auth = RuntimeTokenHttpInterceptor(token)
        version = RuntimeVersionHttpInterceptor(component_name="SuperExec" if token is None else "flwr-clientapp")
        return RuntimeHttpClient.from_server_address(self.address, self.ca is None, self.ca, [version, auth])


def acquire(client: RuntimeHttpClient, kind: TaskType) -> tuple[int, str] | None:
    """Run id and token of the next task of a kind, or None."""
    response = client.AcquireTask(AcquireTaskRequest(supported_task_types=[kind]))
    if not response.HasField("task") or not response.token:
        return None
    return response.task.run_id, response.token


def heartbeats(client: RuntimeHttpClient) -> Callable[[], bool]:
    """What says, again and again, that a task is still worked on; False asks to be called again soon.

    A task that is no longer known (this machine slept, its clock jumped, the other program was started again) shows at
    the next real call and is then taken up anew. Flower's own function would interrupt the whole process.
    """

    def beat() -> bool:
        try:
            client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
        except (httpx.HTTPError, RuntimeError):
            return False
        return True

    return beat


def answer_messages(
    runtime: Runtime,
    handle: Callable[[RecordDict, str], RecordDict],
    stop: threading.Event,
    every_s: float = 0.2,
) -> None:
    """Answer a SuperNode's messages one after the other until ``stop`` is set.

    Args:
        runtime: the SuperNode's Runtime API.
        handle: from a message's content and type to the reply's; an exception becomes an error reply.
        stop: ends the loop after the message in hand.
        every_s: pause between looks for work.
    """
    client = runtime.client()
    while not stop.is_set():
        try:
            task = acquire(client, TaskType.CLIENT_APP)
        except (httpx.HTTPError, RuntimeError):
            task = None  # the SuperNode is not up, or is being started again
        if task is None:
            stop.wait(every_s)
            continue
        try:
            _answer(runtime, task[1], handle)
        except Exception:  # noqa: BLE001 - Flower raises its own kinds, all for one reason:
            stop.wait(every_s)  # the SuperNode or the run went away with the message; the server will ask again
    client.close()


def _answer(runtime: Runtime, token: str, handle: Callable[[RecordDict, str], RecordDict]) -> None:
    client = runtime.client(token)
    heartbeat = HeartbeatSender(heartbeats(client))
    heartbeat.start()
    try:
        message, context, _, _ = pull_task_input(client)
        try:
            reply = Message(handle(message.content, message.metadata.message_type), reply_to=message)
        except Exception as error:  # noqa: BLE001 - whatever it is, the server shall hear of it
            reason = f"{type(error).__name__}: {error}"[:400]
            reply = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)
        push_message(client, reply, context)
        client.PushTaskOutput(PushTaskOutputRequest(sub_status=SubStatus.COMPLETED))
    finally:
        if heartbeat.is_running:
            heartbeat.stop()
        client.close()


def wait_for_run(runtime: Runtime, run_id: int, seconds: float) -> str:
    """The token of our own run's server task; tasks of other runs are left to lie, so nobody else's code is run.

    Raises:
        TimeoutError: it did not come.
    """
    client = runtime.client()
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            task = acquire(client, TaskType.SERVER_APP)
            if task is not None and task[0] == run_id:
                return task[1]
            time.sleep(0.05)
    finally:
        client.close()
    raise TimeoutError(f"the SuperLink gave no task for run {run_id} within {seconds:.0f} s")
