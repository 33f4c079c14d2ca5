"""What public rows that are made anew will weigh in a run (`data.public_source`), from the rounds that a plan tries."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from spikefed.experiment.config import Experiment
from spikefed.federated import method

KIND = "public-rows"
"""Of their lines in the ledger."""


def with_a_renewal(config: Experiment, tried: int) -> Experiment:
    """The experiment with rows made anew within the rounds that are tried, so that their bytes are seen."""
    source = config.data.public_source
    if source.kind == "set" or source.every < tried:
        return config
    sooner = source.model_copy(update={"every": max(1, tried - 1)})
    data = config.data.model_copy(update={"public_source": sooner})
    return config.model_copy(update={"data": data})


def rows_bytes(
    config: Experiment, ledger: Sequence[dict[str, Any]], chosen: Sequence[Sequence[int]]
) -> tuple[int, float, dict[int, int]]:
    """Bytes of rows and of the notes about them: of the whole run; of a client's request in the long run; tried.

    Rows travel to whoever is asked first since they were made anew, if they are ``sent``; every other request has a
    note. Rows that a client asks for because its arithmetic came to others are not foreseen.

    Args:
        config: the experiment as it will run.
        ledger: of the rounds that were tried.
        chosen: the clients of each round.

    Returns:
        of the whole run, all clients; of a request, mean over the rounds after a renewal; of each round that was tried,
        by its number.
    """
    lines = [line for line in ledger if line["kind"] == KIND]
    by_round: dict[int, int] = {}
    for line in lines:
        by_round[line["round"]] = by_round.get(line["round"], 0) + line["encoded_bytes"]
    if not lines or method(config.method["name"]).public_rows != "everyone":
        return 0, 0.0, {}
    bare = [line["encoded_bytes"] for line in lines if not line["paper_bytes"]]
    whole = [line["encoded_bytes"] for line in lines if line["paper_bytes"]]
    note = mean(bare or whole)
    source = config.data.public_source
    rows = mean(whole) if whole and source.kind == "sent" else note
    times = sends(chosen, source.every)
    asked = sum(len(clients) for clients in chosen)
    total = round(times * rows + (asked - times) * note)
    return total, (rows + (source.every - 1) * note) / source.every, by_round


def sends(chosen: Sequence[Sequence[int]], every: int) -> int:
    """How often a client is asked that has not got the newest rows.

    Args:
        chosen: the clients of each round.
        every: rounds after which rows are made anew.
    """
    holds: dict[int, int] = {}
    count = 0
    for before, clients in enumerate(chosen):  # rounds that have gone before
        newest = before // every
        for client in clients:
            count += holds.get(client, 0) != newest
            holds[client] = newest
    return count
