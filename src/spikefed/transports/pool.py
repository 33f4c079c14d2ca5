"""The clients of a round spread over worker processes of this machine; results do not depend on how many there are.

Workers are forked: data, public set and side information stay where they are in memory and are shared; only the network
that a worker trains is its own. Each runs one thread, as OpenMP's threads do not survive a fork, and as clients are the
better thing to run side by side anyway.

What a client remembers lives in this process and travels with its request and back. So any free worker takes the next
client and nobody waits for an uneven share, a checkpoint needs nobody's help, and a worker that dies takes nothing with
it. The price, twice a client's state through a pipe, is small beside training it (a few milliseconds for `small`).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from spikefed.errors import ConfigError, SpikefedError, WorkerError
from spikefed.federated.client import ClientWorker
from spikefed.federated.contract import State
from spikefed.federated.exchange import OnReply, Reply, Request


class PoolTransport:
    """Clients asked by several processes at a time.

    Args:
        make: gives the client of a number; called in the workers.
        workers: number of processes, >= 1; they start at once.

    Raises:
        ConfigError: this system cannot fork safely.
    """

    def __init__(self, make: Callable[[int], ClientWorker], workers: int) -> None:
        if not hasattr(os, "fork") or sys.platform == "darwin":
            raise ConfigError("run.workers above 1 needs Linux; use run.threads, or 'spikefed compare --jobs', instead")
        self._saved: dict[int, dict[str, Any]] = {}
        self._taken_by: dict[int, Connection] = {}  # client -> worker, of the round in progress
        self._round = 0
        self.on_reply: OnReply | None = None
        context = multiprocessing.get_context("fork")
        self._workers: dict[Connection, Any] = {}
        for number in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, make), name=f"worker {number + 1}", daemon=True)
            process.start()
            theirs.close()
            self._workers[ours] = process

    def round(
        self, requests: Sequence[Request], deadline_s: float | None = None, quorum: int | None = None
    ) -> list[Reply]:
        """See `spikefed.federated.Transport`; nobody is ever late, and replies come in the order of the requests.

        Raises:
            WorkerError: a worker process ended.
            SpikefedError: what a client's step raised.
        """
        waiting = deque(requests)
        busy = dict[Connection, Request]()
        replies = dict[int, Reply]()
        if requests and requests[0].round != self._round:
            self._round = requests[0].round
            self._taken_by = {}
        while waiting or busy:
            for worker in self._workers:
                request = self._next(waiting, worker) if worker not in busy else None
                if request is not None:
                    self._send(worker, request)
                    busy[worker] = request
            for worker in wait(list(busy)):
                assert isinstance(worker, Connection)
                request = busy.pop(worker)
                replies[request.client] = self._receive(worker, request)
                if self.on_reply is not None and request.action == "round":
                    self.on_reply(request.round, len(replies), len(requests))
        return [replies[request.client] for request in requests]

    def _next(self, waiting: deque[Request], worker: Connection) -> Request | None:
        """The first request that this worker may take: in a round, a client stays where its first request went.

        An upload is sent again by whoever made it, and keys of secure aggregation are held by whoever drew them.
        """
        for request in waiting:
            if self._taken_by.get(request.client, worker) is worker:
                waiting.remove(request)
                return request
        return None

    def _send(self, worker: Connection, request: Request) -> None:
        self._taken_by[request.client] = worker
        try:
            # Plain pickle between a process and its own children: torch's would move every tensor to shared memory.
            worker.send_bytes(pickle.dumps((request, self._saved.get(request.client)), protocol=5))
        except OSError:
            raise self._dead(worker, request) from None

    def _receive(self, worker: Connection, request: Request) -> Reply:
        try:
            reply, saved, error, trace = pickle.loads(worker.recv_bytes())
        except (EOFError, OSError):
            raise self._dead(worker, request) from None
        if error is not None:
            error.add_note(trace)
            raise error
        self._saved[request.client] = saved
        for phase in {"wire_seconds", "take_home_seconds"} & reply.report.keys():
            reply.report[phase] /= len(self._workers)  # phases add up to a round's wall time: workers are side by side
        return reply

    def _dead(self, worker: Connection, request: Request) -> WorkerError:
        process = self._workers[worker]
        process.join(5)
        code = process.exitcode
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        return WorkerError(
            f"{process.name} of {len(self._workers)} ended with {how} while it trained client {request.client} in "
            f"round {request.round}; repeat the command with --resume, with fewer run.workers if memory was short"
        )

    def client_state(self, client: int) -> State | None:
        """The method's state of one client, for methods that are measured on their clients' networks."""
        saved = self._saved.get(client)
        return saved["state"] if saved is not None and saved["started"] else None

    def state_dict(self, clients: Sequence[int] | None = None) -> dict[str, Any]:
        """State of these clients (default: of all) that were ever asked, for the checkpoint."""
        asked = sorted(self._saved if clients is None else self._saved.keys() & set(clients))
        return {str(client): self._saved[client] for client in asked}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._saved = {int(client): state for client, state in saved.items()}

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        for worker, process in self._workers.items():
            worker.close()
            process.terminate()
        for process in self._workers.values():
            process.join()
        self._workers = {}


def _serve(pipe: Connection, make: Callable[[int], ClientWorker]) -> None:
    """A worker process: one request after the other, until the other end of the pipe is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _close_others(pipe.fileno())
    torch.set_num_threads(1)
    made: dict[
        int, ClientWorker
    ] = {}  # of the round in progress, for what a round asks of a client after its first request
    round = 0
    with contextlib.suppress(EOFError, OSError):
        while True:
            request, saved = pickle.loads(pipe.recv_bytes())
            if request.round != round:
                round = request.round
                made = {}
            answer: tuple[Any, ...]
            try:
                if request.client not in made:
                    made[request.client] = make(request.client)
                    if saved is not None:
                        made[request.client].load_state_dict(saved)
                reply = made[request.client].handle(request)
                answer = (reply, made[request.client].state_dict(), None, "")
            except Exception as error:
                answer = (None, None, _portable(error), traceback.format_exc())
            pipe.send_bytes(pickle.dumps(answer, protocol=5))


def _portable(error: Exception) -> Exception:
    """The error, or what it says where it does not survive a pickle."""
    try:
        same = pickle.loads(pickle.dumps(error))
        if str(same) == str(error):
            return error
    except Exception:
        pass
    kind = SpikefedError if isinstance(error, SpikefedError) else RuntimeError
    return kind(f"{type(error).__name__}: {error}" if kind is RuntimeError else str(error))


def _close_others(own: int) -> None:
    """Close inherited files but the standard ones and ``own``.

    The run folder's lock must end with the parent, and a pipe must break when its one other end is gone.
    """
    try:
        inherited = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        inherited = list(range(4096))
    for number in inherited:
        if number > 2 and number != own:
            with contextlib.suppress(OSError):
                os.close(number)
