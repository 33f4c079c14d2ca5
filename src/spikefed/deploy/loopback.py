"""A whole fleet on this machine: server and clients as processes of their own, over TLS and with node keys.

What the demo, the fault tests and the benchmark use; ``python -m spikefed.deploy.loopback FILE --out DIR`` runs an
experiment both ways and compares.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from spikefed.data import SERVER
from spikefed.deploy.shares import write_shares
from spikefed.errors import DeployError
from spikefed.experiment import RunFolder, load
from spikefed.transports.flower.keys import make_keys
from spikefed.transports.flower.processes import free_port

SPIKEFED = (sys.executable, "-m", "spikefed")


class Loopback:
    """A fleet in one folder: ``keys/``, ``shares/``, ``run/`` and a log and a state folder for each client.

    Args:
        file: experiment file.
        folder: everything is put there.
        overrides: ``table.key=value`` texts for all participants.
        poll_s: how often idle SuperNodes ask for work, seconds.
        via: port that clients are sent to, of a proxy in front of the server; default the server's own.
        shares: folder of share folders made elsewhere, the server's among them; default: those of the experiment's
            own data set, of which the server takes its part itself.
    """

    def __init__(
        self,
        file: Path,
        folder: Path,
        overrides: Sequence[str] = (),
        poll_s: float = 0.2,
        via: int | None = None,
        shares: Path | None = None,
    ) -> None:
        self.file = file
        self.folder = folder
        self.overrides = list(overrides)
        self.poll_s = poll_s
        self.config = load(file, self.overrides)
        self.port = free_port()
        self.via = via or self.port
        self.run = folder / "run"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        make_keys(folder / "keys", [], self.config.data.clients)
        self.shares = shares or folder / "shares"
        self._server_data = [] if shares is None else ["--data", str(shares / SERVER)]
        if shares is None:
            write_shares(self.config, self.shares)

    def server(self, *more: str, program: Sequence[str] = SPIKEFED) -> subprocess.Popen[bytes]:
        """Start the server; ``--resume`` when there is a run to go on with."""
        resume = ["--resume"] if (self.run / "config.toml").is_file() else []
        return self._start("server", [
            *program, "server", str(self.file), "--listen", f"127.0.0.1:{self.port}", "--out", str(self.run),
            "--certs", str(self.folder / "keys"), *self._server_data, *resume, *self._set(), *more,
        ])  # fmt: skip

    def client(self, number: int, *more: str, program: Sequence[str] = SPIKEFED) -> subprocess.Popen[bytes]:
        """Start one client, with nothing but its own share and key."""
        keys = self.folder / "keys"
        return self._start(f"client-{number}", [
            *program, "client", str(self.file), "--server", f"127.0.0.1:{self.via}", "--cert", str(keys / "ca.crt"),
            "--key", str(keys / "clients" / f"client-{number}.key"), "--client", str(number),
            "--data", str(self.shares / f"client-{number}"), "--poll", str(self.poll_s),
            "--state", str(self.folder / f"client-{number}.state"), *self._set(), *more,
        ])  # fmt: skip

    def start(self) -> None:
        """Start the server and all clients."""
        self.server()
        for number in range(self.config.data.clients):
            self.client(number)

    def wait(self, name: str, seconds: float) -> int:
        """Exit code of a process, once it has ended.

        Raises:
            DeployError: it has not; the text has its last words.
        """
        try:
            return self.processes[name].wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise DeployError(
                f"{name} did not end within {seconds:.0f} s; its last words: {self.said(name)[-800:]}"
            ) from error

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one process (not to what it started) and wait for its end."""
        self.processes[name].send_signal(how)
        self.processes[name].wait(30)

    def said(self, name: str) -> str:
        """What a process has printed."""
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.is_file() else ""

    def wait_for(self, condition, seconds: float, what: str) -> None:
        """Wait until ``condition()`` holds.

        Raises:
            DeployError: it does not in time.
        """
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise DeployError(f"no {what} within {seconds:.0f} s; the server said: {self.said('server')[-800:]}")
            time.sleep(0.1)

    def rounds(self) -> int:
        """Rounds written so far."""
        path = self.run / "metrics.jsonl"
        return path.read_bytes().count(b"\n") if path.is_file() else 0

    def stop(self) -> None:
        """End what still runs: asked first, then by force."""
        running = [process for process in self.processes.values() if process.poll() is None]
        for process in running:
            process.terminate()
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait(5)

    def left_over(self) -> list[int]:
        """Process ids that still have this folder in their command line."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if str(self.folder).encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                    found.append(int(path.parent.name))
        return found

    def __enter__(self) -> Loopback:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _set(self) -> list[str]:
        return [word for text in self.overrides for word in ("--set", text)]

    def _start(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self.processes[name]


def differing(one: Path, other: Path) -> list[str]:
    """Which of the final model and the ledger differ between two run folders, byte for byte.

    Where parts of the network are personal, a fleet's server has none of them, and the model file is not compared.
    """
    names = ["model.safetensors", "ledger.jsonl"]
    if RunFolder(other).read_result().get("accuracy_of") == "shared parts":
        names.remove("model.safetensors")
    return [name for name in names if not filecmp.cmp(one / name, other / name, shallow=False)]


def miscounted(fleet: Loopback) -> list[str]:
    """Where the server's ledger differs from the bytes that each client says it took and gave, in an undisturbed run.

    Clients count what Flower hands them and takes from them, and know nothing of the ledger.
    """
    said: dict[tuple[int, int, str], int] = {}
    for client in range(fleet.config.data.clients):
        lines = re.findall(r"round (\d+): (\d+) bytes down, (\d+) bytes up", fleet.said(f"client-{client}"))
        for round, down, up in dict.fromkeys(lines):  # a round that lasts is asked for again, and answered alike
            for way, size in (("down", down), ("up", up)):
                said[client, int(round), way] = said.get((client, int(round), way), 0) + int(size)
    folder = RunFolder(fleet.run)
    counted = dict.fromkeys(said, 0)
    for entry in folder.read_lines(folder.ledger):
        key = entry["client"], entry["round"], entry["direction"]
        counted[key] = counted.get(key, 0) + entry["encoded_bytes"]
    return [
        f"client {key[0]}, round {key[1]}, {key[2]}: {counted[key]} bytes in the ledger, {said.get(key, 0)} at client"
        for key in sorted(counted)
        if counted[key] != said.get(key, 0)
    ]


def main(
    file: Annotated[Path, typer.Argument(help="Experiment file.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for both runs; must not exist.")],
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE")] = None,
) -> None:
    """Run an experiment in one process and over a loopback fleet, and compare model and ledger byte for byte."""
    from spikefed import experiment

    if out.exists():
        raise DeployError(f"{out} exists; name another folder with --out, or remove it")
    set_ = set_ or []
    local = experiment.run(file, overrides=set_, out=out / "local")
    print(f"one process: done, {local}", flush=True)
    with Loopback(file, out / "fleet", set_) as fleet:
        fleet.start()
        print(f"fleet: 1 SuperLink, {fleet.config.data.clients} SuperNodes, TLS and node keys, port {fleet.port}")
        seen = 0
        while fleet.processes["server"].poll() is None:
            if fleet.rounds() > seen:
                seen = fleet.rounds()
                print(f"fleet: round {seen} of {fleet.config.rounds}", flush=True)
            time.sleep(0.3)
        if fleet.wait("server", 1):
            raise DeployError(f"the server failed: {fleet.said('server')[-800:]}")
        codes = {name: fleet.wait(name, 120) for name in fleet.processes}
    left = fleet.left_over()
    failed = [f"{name} ended with {code}" for name, code in codes.items() if code]
    if left:
        failed.append(f"processes left over: {left}")
    if not failed:
        failed = [f"{name} differs" for name in differing(local, fleet.run)] + miscounted(fleet)
    if failed:
        print(f"FAILED: {'; '.join(failed)}; see {out}", file=sys.stderr)
        raise typer.Exit(1)
    print(
        "final model and ledger bit-identical to 'spikefed run'; the clients counted the same bytes; "
        f"every process gone  [{fleet.run}]"
    )


if __name__ == "__main__":
    try:
        typer.run(main)
    except DeployError as problem:
        sys.exit(f"error: {problem}")
