"""The process pool: the same run whatever the number of workers, and clean ends."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch

import spikefed
from experiment.runs import fingerprint
from spikefed.errors import ConfigError, PacketError, SpikefedError, WorkerError
from spikefed.experiment import RunFolder, build, from_tree
from spikefed.federated.client import ClientWorker
from spikefed.federated.exchange import Reply, Request
from spikefed.transports import LocalTransport, PoolTransport
from spikefed.wire import Ledger

TINY: dict[str, Any] = {
    "name": "tiny",
    "rounds": 3,
    "data": {"clients": 5, "private_per_client": 24, "public": 24, "test_limit": 40},
    "network": {"name": "4C3-AP2", "steps": 4},
    "training": {"local_epochs": 1, "local_batch": 16},
    "method": {"name": "fsd", "distil_epochs": 1, "server_epochs": 1, "distil_batch": 8, "client_reset": "never"},
    "participation": {"schedule": "sample", "fraction": 0.6},
    "run": {"threads": 1},
}


def run(out: Path, workers: int, method: str = "fsd", **options: Any) -> Path:
    own = TINY["method"] if method == "fsd" else {"name": method}
    return spikefed.run({**TINY, "method": own, "run": {"threads": 1, "workers": workers}}, out=out, **options)


@pytest.mark.parametrize("method", ["fsd", "fedavg"])
def test_results_do_not_depend_on_the_number_of_workers(tmp_path: Path, method: str) -> None:
    one = fingerprint(run(tmp_path / "1", 1, method))
    for workers in (2, 3, 8):  # 8: more than there are clients
        assert fingerprint(run(tmp_path / str(workers), workers, method)) == one
    assert not [t for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon]


def test_a_run_may_go_on_with_other_workers(tmp_path: Path) -> None:
    whole = fingerprint(run(tmp_path / "whole", 1))
    out = tmp_path / "mixed"
    for rounds, workers in ((1, 2), (2, 1), (3, 3)):
        spikefed.run({**TINY, "rounds": rounds, "run": {"threads": 1, "workers": workers}}, out=out, resume=True)
    assert fingerprint(out) == whole


def test_more_than_one_thread_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'run.workers' = 2 runs one thread in each process, but 'run.threads' is 2"):
        spikefed.run({**TINY, "run": {"threads": 2, "workers": 2}}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    path = spikefed.run({**TINY, "rounds": 1, "run": {"workers": 2}}, out=tmp_path / "run")
    assert json.loads((path / "provenance.json").read_text())["threads"] == 1


class Odd:
    """A client that tells its process, or does what its number says."""

    def __init__(self, client: int) -> None:
        self.client, self.count = client, 0

    def handle(self, request: Request) -> Reply:
        self.count += 1
        if self.client == 66:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.client == 77:
            raise PacketError("shape", "as asked")
        if self.client == 88:
            raise ZeroDivisionError("as asked")
        facts = {"pid": os.getpid(), "count": self.count, "threads": torch.get_num_threads()}
        return Reply(self.client, request.round, b"up", facts)

    def state_dict(self) -> dict[str, Any]:
        return {"started": True, "state": {"count": self.count}}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.count = saved["state"]["count"]


@pytest.fixture
def pool():
    made = PoolTransport(cast(Callable[[int], ClientWorker], Odd), 2)
    yield made
    made.close()


def test_state_travels_and_replies_keep_their_order(pool: PoolTransport) -> None:
    asked = [3, 0, 2, 9, 1]
    for round in (1, 2):
        replies = pool.round([Request(client, round, None) for client in asked])
        assert [r.client for r in replies] == asked
        assert {r.report["count"] for r in replies} == {round}  # whichever worker had it before
        assert {r.report["threads"] for r in replies} == {1}
        assert os.getpid() not in {r.report["pid"] for r in replies} and len({r.report["pid"] for r in replies}) <= 2
    assert pool.client_state(3) == {"count": 2} and pool.client_state(4) is None
    assert sorted(pool.state_dict()) == ["0", "1", "2", "3", "9"] and sorted(pool.state_dict([9, 4])) == ["9"]


def test_an_upload_is_sent_again_by_who_made_it(pool: PoolTransport) -> None:
    first = {r.client: r.report["pid"] for r in pool.round([Request(c, 1, None) for c in range(6)])}
    again = pool.round([Request(c, 1, None, "resend") for c in range(6)])
    assert {r.client: r.report["pid"] for r in again} == first


def test_a_killed_worker_is_named(pool: PoolTransport) -> None:
    with pytest.raises(
        WorkerError, match=r"worker \d of 2 ended with signal SIGKILL while it trained client 66 in rou"
    ):
        pool.round([Request(c, 1, None) for c in (1, 66, 2)])


def test_what_a_step_raises_is_raised_here(pool: PoolTransport) -> None:
    with pytest.raises(Exception, match="packet refused at field 'shape': as asked"):
        pool.round([Request(77, 1, None)])
    with pytest.raises(ZeroDivisionError, match="as asked") as caught:
        pool.round([Request(88, 1, None)])
    assert "in handle" in "".join(caught.value.__notes__)  # where it happened


def test_workers_end_with_the_pool() -> None:
    made = PoolTransport(cast(Callable[[int], ClientWorker], Odd), 2)
    pids = {int(r.report["pid"]) for r in made.round([Request(c, 1, None) for c in range(8)])}
    made.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_client_that_was_never_asked_is_never_made() -> None:
    federation = build(from_tree(TINY))
    made: list[int] = []

    def make(client: int) -> ClientWorker:
        made.append(client)
        return federation.worker(client)

    transport = LocalTransport(make)
    server = federation.server(transport, Ledger())
    record = server.run_round()
    assert sorted(made) == record.participants != list(range(5))
    assert sorted(transport.state_dict()) == [str(client) for client in record.participants]


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _run_in_child(tree: dict[str, Any], out: str, said: str) -> None:
    """As the command line: an error of the run is exit code 2, Ctrl-C 130."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with Ctrl-C ignored
    try:
        spikefed.run(tree, out=out)
    except SpikefedError as error:
        Path(said).write_text(str(error))
        os._exit(2)
    except KeyboardInterrupt:
        os._exit(130)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("how, code", [("interrupt", 130), ("kill", -signal.SIGKILL), ("worker", 2)])
def test_ended_from_outside_then_resumed(tmp_path: Path, how: str, code: int) -> None:
    """Ctrl-C, a kill of the run, a kill of one worker: no process stays, and the run ends as if nothing had been."""
    tree = {**TINY, "rounds": 30, "run": {"threads": 1, "workers": 2}}
    out, said = tmp_path / "run", tmp_path / "said"
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=_run_in_child, args=(tree, str(out), str(said)))
    process.start()
    assert process.pid is not None
    while not (out / "metrics.jsonl").is_file() and process.is_alive():
        time.sleep(0.01)
    workers = _children(process.pid)
    assert len(workers) == 2
    os.kill(workers[0] if how == "worker" else process.pid, signal.SIGINT if how == "interrupt" else signal.SIGKILL)
    process.join(900)
    assert process.exitcode == code
    if how == "worker":
        assert re.search(
            r"worker 1 of 2 ended with signal SIGKILL .* repeat the command with --resume", said.read_text()
        )
    deadline = time.monotonic() + 600
    while any(map(_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(_alive, workers))
    rounds = len(RunFolder(out).read_lines(out / "metrics.jsonl")) + 1  # one more than it had, and no result yet
    tree |= {"rounds": rounds, "run": {"threads": 1}}
    assert fingerprint(spikefed.run(tree, out=out, resume=True)) == fingerprint(
        spikefed.run(tree, out=tmp_path / "whole")
    )
