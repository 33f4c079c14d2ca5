"""What a fleet costs beyond the experiment: seconds a round and bytes on the wire, beside stock Flower's FedAvg.

``python benchmarks/deploy.py``: a loopback fleet (SuperLink, SuperNodes, TLS, node keys) whose clients go through a TCP
proxy that counts. Stock Flower runs its own recipe (`flwr run`, strategy FedAvg without an evaluation phase, a process
for every message, all intervals as they come) on the same machine through such a proxy, with node keys, TLS and a
database as well, on one array of as many bytes as our spikes take. It trains nothing and imports no torch. Ours is
measured twice: with no epochs, which compares the engines, and with the experiment's own training.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import provenance

from spikefed.deploy.loopback import Loopback, miscounted
from spikefed.deploy.proxy import Proxy
from spikefed.experiment import RunFolder
from spikefed.transports.flower.processes import free_port

ROOT = Path(__file__).parents[1]
IDLE = ["training.local_epochs=0", "method.distil_epochs=0", "method.server_epochs=0"]
APP = {
    "pyproject.toml": """[project]
name = "stock"
version = "1.0.0"
dependencies = ["flwr"]
[tool.flwr.app]
publisher = "bench"
[tool.flwr.app.components]
serverapp = "stock:server"
clientapp = "stock:client"
[tool.flwr.app.config]
rounds = {rounds}
size = {size}
clients = {clients}
marks = "{marks}"
""",
    "stock.py": """import time
import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

client = ClientApp()
server = ServerApp()

@client.train()
def train(message, context):
    arrays = message.content["arrays"]
    return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})}), reply_to=message)

@server.main()
def main(grid, context):
    c = context.run_config
    class Timed(FedAvg):
        def configure_train(self, server_round, *rest):
            mark(c, server_round)
            return super().configure_train(server_round, *rest)
    strategy = Timed(fraction_train=1.0, fraction_evaluate=0.0, min_available_nodes=c["clients"],
                     min_train_nodes=c["clients"])
    rng = np.random.default_rng(0)
    strategy.start(grid, ArrayRecord([rng.integers(0, 256, c["size"]).astype(np.uint8)]), num_rounds=c["rounds"])
    mark(c, "end")

def mark(config, what):
    with open(config["marks"], "a") as file:
        file.write(f"ROUND {what} {time.time()}\\n")
""",
}


def ours(file: Path, folder: Path, rounds: int, more: Sequence[str] = ()) -> dict[str, Any]:
    """A fleet of this project through the proxy."""
    with Proxy() as proxy:
        fleet = Loopback(file, folder, [f"rounds={rounds}", *more], poll_s=1.0, via=proxy.port)
        proxy.target = fleet.port
        with fleet:
            fleet.start()
            marks = [(0, 0.0, 0, 0)]
            while fleet.processes["server"].poll() is None:
                if fleet.rounds() > marks[-1][0]:
                    marks.append((fleet.rounds(), time.time(), proxy.up, proxy.down))
                time.sleep(0.05)
            if fleet.wait("server", 1):
                raise SystemExit(f"the server failed: {fleet.said('server')[-800:]}")
        folder_ = RunFolder(fleet.run)
        lines = folder_.read_lines(folder_.metrics)
        steps = [line["seconds"]["clients"] for line in lines]
        walls = [b[1] - a[1] for a, b in zip(marks[1:-1], marks[2:], strict=True) if b[0] == a[0] + 1]
        reports = [line["seconds"] for line in lines]
        ledger = folder_.read_lines(folder_.ledger)
        encoded = {way: sum(m["encoded_bytes"] for m in ledger if m["direction"] == way) for way in ("up", "down")}
        return {
            "clients": fleet.config.data.clients,
            "rounds": len(lines),
            "seconds_per_round": round(median(walls), 2) if walls else None,
            "seconds_waiting_per_round": round(median(steps), 2),
            "server_and_evaluation_seconds": round(median(s["server"] + s["evaluate"] for s in reports), 3),
            "ledger_bytes": encoded,
            "wire_bytes": {"up": marks[-1][2], "down": marks[-1][3]},
            "wire_bytes_per_client_and_round_beyond_the_ledger": {
                "up": _beyond(marks, ledger, "up", 2, fleet.config.data.clients),
                "down": _beyond(marks, ledger, "down", 3, fleet.config.data.clients),
            },
            "metrics_agree_with_ledger": sum(line["upstream_bytes"] for line in lines) == encoded["up"],
            "ledger_differs_from_bytes_at_clients": miscounted(fleet),
        }


def _beyond(marks: list[tuple[int, float, int, int]], ledger: list[dict[str, Any]], way: str, at: int, clients: int):
    """Bytes of protocol a client and round, from the second round on (the first has the connecting in it)."""
    first, last = marks[1], marks[-1]
    rounds = last[0] - first[0]
    inside = sum(m["encoded_bytes"] for m in ledger if m["direction"] == way and first[0] < m["round"] <= last[0])
    return round((last[at] - first[at] - inside) / rounds / clients) if rounds else None  # type: ignore[operator]


def stock(folder: Path, keys: Path, clients: int, size: int, rounds: int) -> dict[str, Any]:
    """Flower's own recipe, FedAvg on one uint8 array of ``size`` bytes."""
    app = folder / "stock"
    app.mkdir(parents=True)
    for name, text in APP.items():
        (app / name).write_text(
            text.format(rounds=rounds, size=size, clients=clients, marks=folder / "marks")
            if name.endswith("toml")
            else text
        )
    environment = os.environ | {
        "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1", "FLWR_HOME": str(folder / "home"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    port = free_port()
    tls = ["--ssl-certfile", str(keys / "server.crt"), "--ssl-keyfile", str(keys / "server.key")]
    tls += ["--ssl-ca-certfile", str(keys / "ca.crt")]
    (folder / "home").mkdir()
    (folder / "home" / "config.toml").write_text(
        f'[superlink.lab]\naddress = "127.0.0.1:{port}"\nroot-certificates = "{keys / "ca.crt"}"\n'
    )
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> None:
        with open(folder / f"{command[0]}.log", "ab") as log:
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))

    def flwr(*words: str) -> str:
        done = subprocess.run(["flwr", *words], env=environment, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise SystemExit(f"flwr {' '.join(words)} failed: {done.stdout[-500:]}{done.stderr[-500:]}")
        return done.stdout

    with Proxy(port) as proxy:
        try:
            start("flower-superlink", "--host", "127.0.0.1", "--port", str(port), *tls, "--enable-supernode-auth",
                  "--database", str(folder / "state.db"))  # fmt: skip
            for client in range(clients):
                for attempt in range(60):
                    with contextlib.suppress(SystemExit):
                        flwr("supernode", "register", str(keys / "clients" / f"client-{client}.pub"), "lab")
                        break
                    time.sleep(1 + attempt / 10)
                start("flower-supernode", "--superlink", f"127.0.0.1:{proxy.port}", "--root-certificates",
                      str(keys / "ca.crt"), "--host", "127.0.0.1", "--port", str(free_port()), *tls,
                      "--auth-supernode-private-key", str(keys / "clients" / f"client-{client}.key"))  # fmt: skip
            flwr("run", str(app), "lab")
            log, times, marks = folder / "marks", {}, {}
            log.touch()
            end = time.time() + 1200
            while "end" not in times and time.time() < end:
                for name, at in re.findall(r"ROUND (\w+) ([\d.]+)", log.read_text(errors="replace")):
                    if name not in times:
                        times[name], marks[name] = float(at), (proxy.up, proxy.down)
                time.sleep(0.05)
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(20)
    order = [*map(str, range(1, rounds + 1)), "end"]
    walls = [times[b] - times[a] for a, b in zip(order[1:-1], order[2:], strict=True)]
    up, down = (
        round((marks["end"][way] - marks["2"][way]) / (rounds - 1) / clients - size) for way in (0, 1)
    )  # fmt: skip
    return {
        "clients": clients,
        "rounds": rounds,
        "array_bytes": size,
        "seconds_per_round": round(median(walls), 2),
        "wire_bytes_per_client_and_round_beyond_the_arrays": {"up": up, "down": down},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = ROOT / "experiments" / "fsd-digits-fleet.toml"
        fleet = ours(file, folder / "ours", arguments.rounds)
        idle = ours(file, folder / "idle", arguments.rounds, IDLE)
        largest = 4096  # an FSD packet of this experiment at Algorithm 2's one bit a spike: 400 * 10 * 8 / 8
        flower = stock(folder / "flower", folder / "ours" / "keys", fleet["clients"], largest, arguments.rounds)
    found = {
        "spikefed over Flower": fleet,
        "spikefed over Flower, nothing trained": idle,
        "stock Flower FedAvg, nothing trained": flower,
        "flwr": version("flwr"),
    }
    print(json.dumps(found, indent=1))
    print(provenance.write(arguments.out, "deploy", found, sys.argv))


if __name__ == "__main__":
    main()
