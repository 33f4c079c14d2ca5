"""What a server's run folder says of the fleet."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from spikefed.errors import ConfigError
from spikefed.experiment import RunFolder, load


def status_of(path: Path) -> dict[str, Any]:
    """State, round, accuracy, bytes, and what is not well; each client's last round and what was dropped of it, the
    test accuracy of its own network where the run measured it, and the file where it was kept.

    Raises:
        ConfigError: no run folder.
    """
    folder = RunFolder(path)
    if not folder.exists():
        raise ConfigError(f"{path} is no run folder; name the folder that 'spikefed server --out' was given")
    config = load(folder.config)
    lines = folder.read_lines(folder.metrics)
    clients: dict[int, dict[str, Any]] = {
        c: {"client": c, "last_round": 0, "dropped": Counter()} for c in range(config.data.clients)
    }
    for client, kept in folder.personal_models().items():
        clients.setdefault(client, {"client": client, "last_round": 0, "dropped": Counter()})["model"] = str(kept)
    for line in lines:
        refused = {drop["client"] for drop in line["dropped"] if drop["kind"] != "late"}
        for drop in line["dropped"]:
            clients[drop["client"]]["dropped"][drop["kind"]] += 1
        for client in line["participants"]:
            if client not in refused:
                clients[client]["last_round"] = line["round"]
        for told in line["clients"]:
            if "test_accuracy" in told:
                clients[told["client"]]["test_accuracy"] = told["test_accuracy"]
    last = lines[-1] if lines else {}
    log = path.with_name(path.name + ".deploy") / "server.log"
    return {
        "run": str(path),
        "state": "finished" if folder.finished() else "running" if folder.busy() else "stopped",
        "round": last.get("round", 0),
        "rounds": config.rounds,
        "accuracy": last.get("server_accuracy"),
        "upstream_bytes": last.get("upstream_bytes_total", 0),
        "downstream_bytes": last.get("downstream_bytes_total", 0),
        "rounds_without_quorum": [line["round"] for line in lines if not line["merged"] and "diverged" not in line],
        "rounds_diverged": [line["round"] for line in lines if "diverged" in line],
        "health": [{key: f[key] for key in ("kind", "what", "text", "since")} for f in last.get("health", ())],
        "clients": [{**c, "dropped": dict(c["dropped"])} for c in clients.values()],
        "notes": log.read_text(encoding="utf-8").splitlines()[-5:] if log.is_file() else [],
    }


def status_text(found: dict[str, Any]) -> str:
    """The same for people."""
    accuracy = "-" if found["accuracy"] is None else f"{found['accuracy']:.4f}"
    lines = [
        f"{found['run']}: {found['state']}, round {found['round']} of {found['rounds']}, accuracy {accuracy}, "
        f"{found['upstream_bytes']:,} bytes up, {found['downstream_bytes']:,} down"
    ]
    if found["rounds_without_quorum"]:
        lines.append(f"rounds without quorum: {', '.join(map(str, found['rounds_without_quorum']))}")
    if found["rounds_diverged"]:
        lines.append(f"rounds in which the server diverged: {', '.join(map(str, found['rounds_diverged']))}")
    lines += [f"not well since round {finding['since']}: {finding['text']}" for finding in found["health"]]
    for client in found["clients"]:
        dropped = ", ".join(f"{kind} {count}" for kind, count in client["dropped"].items()) or "nothing dropped"
        tested = f"; its own network {client['test_accuracy']:.4f}" if "test_accuracy" in client else ""
        kept = f"; kept in {client['model']}" if "model" in client else ""
        lines.append(
            f"client {client['client']}: last accepted in round {client['last_round']}; {dropped}{tested}{kept}"
        )
    return "\n".join([*lines, *found["notes"]])
