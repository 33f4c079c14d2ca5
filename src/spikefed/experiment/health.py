"""What a round shows of a federation that is not well: silent or saturated layers, outputs that say nothing, claims.

None of it stops a run. Each finding stands in the round's metrics as long as it lasts, with the round since which it
does; the console says it once, the report and ``spikefed status`` name it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

import numpy as np
import torch

from spikefed.experiment.federation import Federation
from spikefed.federated import RoundRecord
from spikefed.federated.divergence import GROWN
from spikefed.federated.findings import Finding
from spikefed.wire import PackedSpikes

SATURATED = 0.99
"""Spikes a neuron and step from which a layer says as little as a silent one."""
ONE_CLASS = 0.99
"""Share of the test images from which an answer that is the same for all is none."""
OUT_OF_LINE = 0.5
"""How much further than the others' a client's claim may lie above what its upload shows (both accuracies)."""
FEWEST = 3
"""Clients without which nobody's claim can be out of line."""
DOMINANT = 0.9
"""Share of the merge from which one of several clients decides it alone."""


def health(
    line: Mapping[str, Any], record: RoundRecord, federation: Federation, before: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """The findings of a round as its metrics have them: kind, what, text, and ``since``, the round of the first.

    Args:
        line: the round's metrics.
        before: those of the round before.
    """
    past = {(f["kind"], f["what"]): f["since"] for f in (before or {}).get("health", ())}
    # Statistics of the first weights are no data's, so in evaluation they may be silent and train well all the same.
    shown = (_gradient(line),) if line["diagnostics"].get("untrained") else (_outputs(line, federation), _layers(line))
    rules = (*shown, _grown(line), _images(federation), _claims(record, federation), _weights(line))
    found = [finding for rule in rules for finding in rule]
    return [{**vars(f), "since": past.get((f.kind, f.what), line["round"])} for f in found]


def _silent(line: Mapping[str, Any]) -> bool:
    return not np.any(line["class_spikes"])


def _outputs(line: Mapping[str, Any], federation: Federation) -> Iterator[Finding]:
    if _silent(line):
        yield Finding(
            "silent",
            "outputs",
            "the outputs never fire on the test images, so every answer is the first class; try network.norm = 'bn', a "
            "lower network.neuron.threshold, or more epochs (a server: method.server_epochs)",
        )
        return
    counts = np.asarray(line["confusion"])
    said = counts.sum(axis=0)
    classes = int((counts.sum(axis=1) > 0).sum())
    share = said.max() / max(counts.sum(), 1)
    if classes > 1 and share >= ONE_CLASS:
        name = federation.train.names[int(said.argmax())]
        yield Finding(
            "one-class",
            name,
            f"the network says class '{name}' to {100 * share:.0f} % of the test images; try more rounds or a lower "
            "training.lr, and where clients hold few classes each training.calibrate = 1",
        )


def _gradient(line: Mapping[str, Any]) -> Iterator[Finding]:
    """Of a round in which nothing is trained and the gradient alone says what to prune."""
    if line["diagnostics"].get("largest_gradient", 1.0) == 0:
        yield Finding(
            "silent",
            "gradient",
            "the gradient of the first weights is 0 everywhere, so the masks found by it are arbitrary; try "
            "network.norm = 'bn', a lower network.neuron.threshold, or another method.search",
        )


def _layers(line: Mapping[str, Any]) -> Iterator[Finding]:
    rates = dict(line["firing_rates"])
    if rates and _silent(line):
        rates.popitem()  # the outputs, which have their own sentence
    for layer, rate in rates.items():
        if rate == 0:
            yield Finding(
                "dead",
                layer,
                f"layer {layer} is dead: none of its neurons fired on the first test images; try network.norm = 'bn', "
                "a lower network.neuron.threshold, or a lower training.lr",
            )
        elif rate >= SATURATED:
            yield Finding(
                "saturated",
                layer,
                f"layer {layer} is saturated: its neurons fire in {100 * rate:.0f} % of all steps; try network.norm = "
                "'bn', a higher network.neuron.threshold, or a lower training.lr",
            )


def _grown(line: Mapping[str, Any]) -> Iterator[Finding]:
    told = {entry["client"]: entry[GROWN] for entry in line["clients"] if entry.get(GROWN)}
    server = line["diagnostics"].get(GROWN)
    listed = f"client{'s' * (len(told) > 1)} {', '.join(map(str, list(told)[:5]))}" + ", ..." * (len(told) > 5)
    for what, who, times in (("server", "the server", server), ("clients", listed, max(told.values(), default=None))):
        if times:
            most = "up to " if what == "clients" and len(told) > 1 else ""
            yield Finding(
                "grown",
                what,
                f"the weights of {who} are {most}{times:.0f} times as large as at the start, so "
                "hardly anything was learnt; lower training.lr",
            )


def _images(federation: Federation) -> Iterator[Finding]:
    """Classes that nobody can learn, or that are never asked for."""
    train = federation.train
    classes = federation.train.classes
    held = torch.cat([indices.train for indices in federation.split.clients])
    if not len(held):  # a fleet's server may hold no private item
        return
    for where, labels in (("no client holds", train.labels[held]), ("the test set has no", federation.test.labels)):
        counts = torch.bincount(labels, minlength=classes)
        names = [train.names[place] for place in range(classes) if not counts[place]]
        if names:
            listed = ", ".join(f"'{name}'" for name in names[:5]) + (f" and {len(names) - 5} more" * (len(names) > 5))
            held_back = where == "no client holds"
            advice = "raise data.private_per_client or choose another data.partition" if held_back else ""
            yield Finding(
                "no-images",
                "clients" if held_back else "test",
                f"{where} image of {'class' if len(names) == 1 else 'classes'} {listed}; "
                + (advice or "raise data.test_limit, or give a test part that has them"),
            )


def _claims(record: RoundRecord, federation: Federation) -> Iterator[Finding]:
    """Clients that claim far more than their uploads show, in comparison with the others."""
    shown = shown_by(record)
    claimed = {c: float(claim) for c in shown if (claim := getattr(record.uplinks[c], "accuracy", None)) is not None}
    gaps = {client: claim - shown[client] for client, claim in claimed.items()}
    if len(gaps) < FEWEST:
        return
    for client, gap in gaps.items():
        others = median(value for other, value in gaps.items() if other != client)
        if gap - others > OUT_OF_LINE and gap > OUT_OF_LINE:
            yield Finding(
                "claim",
                f"client {client}",
                f"client {client} claims {100 * claimed[client]:.0f} % and what it sent shows "
                f"{100 * shown[client]:.0f} %, unlike the others; look at its labels, or let method.vote or "
                "method.merge be robust (docs/privacy.md)",
            )


def shown_by(record: RoundRecord) -> dict[int, float]:
    """What the round itself shows of clients, in [0, 1]: accuracy on the test set where it is measured, else agreement.

    The agreement of answers for the whole public set is the share of rows on which a client names the class that most
    of the others name. Uploads without such answers show nothing.
    """
    taken = {c: reply.taken.accuracy for c, reply in record.replies.items() if c in record.uplinks and reply.taken}
    if taken:
        return taken
    said = {client: classes for client, uplink in record.uplinks.items() if (classes := _said(uplink)) is not None}
    if len(said) < FEWEST or len({len(classes) for classes in said.values()}) > 1:
        return {}
    width = 1 + max(int(classes.max()) for classes in said.values())
    votes = {client: np.eye(width, dtype=np.int64)[classes] for client, classes in said.items()}
    total = sum(votes.values())
    return {c: float(np.mean((total - votes[c]).argmax(axis=1) == classes)) for c, classes in said.items()}  # type: ignore


def _said(uplink: Any) -> np.ndarray | None:
    """The class that an upload names for every public row, int ``[P]``; None where it names none."""
    if uplink is None or getattr(uplink, "share", None) is not None:
        return None
    if getattr(uplink, "kind", "") in ("spikes", "hint-spikes"):
        spikes = uplink.spikes.unpack() if isinstance(uplink.spikes, PackedSpikes) else uplink.spikes
        return spikes.mean(axis=2).argmax(axis=1)
    for key in ("counts", "probabilities"):
        if hasattr(uplink, key):
            return np.asarray(getattr(uplink, key)).argmax(axis=1)
    labels = getattr(uplink, "labels", None)
    return None if labels is None or (np.asarray(labels) < 0).any() else np.asarray(labels)


def _weights(line: Mapping[str, Any]) -> Iterator[Finding]:
    weights = {entry["client"]: entry["weight"] for entry in line["clients"] if "weight" in entry}
    for client, weight in weights.items() if len(weights) >= FEWEST else ():
        if weight > DOMINANT:
            yield Finding(
                "weight",
                f"client {client}",
                f"client {client} has {100 * weight:.0f} % of the merge by what it claims; check its samples or "
                "accuracy, or weigh all alike (method.weighting = 'uniform', method.vote)",
            )
