"""What a round and a run say of themselves: the lines of metrics.jsonl and result.json."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from spikefed.data import NOISE
from spikefed.experiment.config import Experiment
from spikefed.experiment.federation import Federation
from spikefed.experiment.stages import line_of, told
from spikefed.federated import RoundRecord, method
from spikefed.federated.takehome import KEYS, together
from spikefed.wire import Record

BYTE_KEYS = ("upstream_bytes", "downstream_bytes", "paper_upstream_bytes", "text_upstream_bytes")


def _number(value: float) -> float | None:
    """JSON has no nan: absent."""
    return round(value, 6) if math.isfinite(value) else None


def _accuracy(uplink: Any) -> float | None:
    """What the client says of itself; masked votes say nothing."""
    return None if uplink is None or uplink.kind == "masked-votes" else _number(uplink.accuracy)


def metrics_line(
    record: RoundRecord,
    messages: Sequence[Record],
    before: dict[str, Any] | None,
    firing_rates: dict[str, float],
    federation: Federation,
) -> dict[str, Any]:
    """The metrics of one round; byte totals continue those of the line before.

    Args:
        record: what happened in the round.
        messages: the ledger's lines of the round.
        before: the line of the round before.
        firing_rates: by layer, from 0 to 1.
        federation: objects of the run.
    """
    evaluation = record.evaluation
    assert evaluation is not None
    up = [m for m in messages if m.direction == "up"]
    down = [m for m in messages if m.direction == "down"]
    sizes = {
        "upstream_bytes": sum(m.encoded_bytes for m in up),
        "downstream_bytes": sum(m.encoded_bytes for m in down),
        "paper_upstream_bytes": sum(m.paper_bytes for m in up),
        "text_upstream_bytes": sum(m.text_bytes for m in up),
    }
    clients = []
    for client in record.participants:
        reply = record.replies.get(client)
        uplink = record.uplinks.get(client)
        report = {k: _number(v) for k, v in (reply.report if reply else {}).items() if not k.endswith("seconds")}
        entry: dict[str, Any] = {"client": client, "accuracy": _accuracy(uplink), **report}
        if reply and reply.taken:
            entry["test_accuracy"] = reply.taken.accuracy
        if record.diagnostics and client in record.diagnostics.weights:
            entry["weight"] = record.diagnostics.weights[client]
        clients.append(entry)
    return {
        "round": record.round,
        "server_accuracy": evaluation.accuracy,
        "server_loss": _number(evaluation.loss),
        **line_of(federation.stages, record.round, evaluation),
        **_take_home(record, federation),
        "clients": clients,
        "participants": record.participants,
        **({"stragglers": record.stragglers} if record.stragglers else {}),
        "dropped": record.dropped,
        "drop_counts": dict(Counter(drop["kind"] for drop in record.dropped)),
        "attempts": record.attempts,
        "merged": record.diagnostics is not None,
        **({"diverged": record.diverged} if record.diverged else {}),
        **sizes,
        **{f"{key}_total": value + (before[f"{key}_total"] if before else 0) for key, value in sizes.items()},
        "diagnostics": {k: _number(v) for k, v in (record.diagnostics.values if record.diagnostics else {}).items()},
        "firing_rates": {layer: round(rate, 5) for layer, rate in firing_rates.items()},
        "confusion": evaluation.confusion,
        "class_spikes": evaluation.class_activity,
        "seconds": {phase: round(value, 4) for phase, value in record.seconds.items()},
    }


def _take_home(record: RoundRecord, federation: Federation) -> dict[str, float | None]:
    """What the clients take home of the round, where the run measures it."""
    if not federation.config.run.take_home:
        return {}
    taken = {client: reply.taken for client, reply in record.replies.items() if reply.taken is not None}
    return together(taken, federation.test.labels)


def bytes_to(lines: Sequence[dict[str, Any]], target: float) -> dict[str, Any] | None:
    """Round and cumulative bytes at which the server first reaches ``target``; None when it never does."""
    for line in lines:
        if line["server_accuracy"] >= target:
            return {"round": line["round"]} | {key: line[f"{key}_total"] for key in BYTE_KEYS}
    return None


def _of_clients(config: Experiment, federation: Federation) -> bool:
    """Whether a method that has a server network otherwise leaves part of it with the clients, as it is set."""
    steps = method(config.method["name"])
    return steps.server_model and not steps.has_server_model(config.hyper(), federation.networks)


def result(config: Experiment, lines: Sequence[dict[str, Any]], federation: Federation) -> dict[str, Any]:
    """The run in one small record: what tables and sweeps are made from."""
    last = lines[-1]
    tree = config.resolved()
    stages = federation.stages
    begun = None if stages is None else federation.evaluate(federation.networks.load(), 0)
    partition = config.data.partition + (f"-{config.data.alpha:g}" if config.data.partition == "dirichlet" else "")
    return {
        "name": config.name,
        "method": config.method["name"],
        "label": config.label or config.method["name"],
        "preset": config.preset,
        "dataset": config.data.dataset,
        "partition": partition,
        "network": config.network.name,
        "seed": config.seed,
        "rounds": last["round"],
        "accuracy": last["server_accuracy"],
        **({"accuracy_of": "clients"} if _of_clients(config, federation) else {}),
        **{key: last[key] for key in KEYS if key in last},
        "best_accuracy": max(line["server_accuracy"] for line in lines),
        "upstream_bytes": last["upstream_bytes_total"],
        "downstream_bytes": last["downstream_bytes_total"],
        "public_set_bytes": _beforehand(config, federation),
        **({"class_names": federation.train.class_names} if federation.train.class_names else {}),
        **told(stages, lines, begun),
        "targets": {f"{target:g}": bytes_to(lines, target) for target in config.run.targets},
        "curve": [
            {"round": line["round"], "accuracy": line["server_accuracy"]}
            | {key: line[key] for key in KEYS if key in line}
            | {k: line[f"{k}_total"] for k in BYTE_KEYS}
            for line in lines
        ],
        "config": {
            key: tree[key]
            for key in ("rounds", "data", "network", "training", "method", "participation", "wire", "privacy")
            if key in tree
        },
        "config_hash": config.hash(),
    }


def _beforehand(config: Experiment, federation: Federation) -> int:
    """Bytes of public rows that every client is given before the first round; noise comes from the seed."""
    made = config.data.public_dataset or (None if config.data.public_source.kind == "set" else NOISE)
    images = federation.split.public_images
    return 0 if made == NOISE else images.numel() * images.element_size()
