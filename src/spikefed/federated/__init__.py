"""Federated methods, the round loop, participation and checkpoints."""

from spikefed.federated.client import ClientWorker
from spikefed.federated.contract import (
    ClientContext,
    ClientReport,
    Context,
    Diagnostics,
    Hyperparameters,
    Labelled,
    Method,
    NetworkFactory,
    State,
)
from spikefed.federated.exchange import Reply, Request, Transport
from spikefed.federated.methods import ELSEWHERE, METHODS, method
from spikefed.federated.participation import Participation
from spikefed.federated.plans import Expectations
from spikefed.federated.record import RoundRecord
from spikefed.federated.rounds import Server
from spikefed.federated.samplers import Ask, repaired
from spikefed.federated.selection import Selection, by_branch, by_mask, by_role, everything, merge_selected, untouched
from spikefed.federated.traffic import Exchange, MessageKind

__all__ = [
    "ELSEWHERE",
    "METHODS",
    "Ask",
    "ClientContext",
    "ClientReport",
    "ClientWorker",
    "Context",
    "Diagnostics",
    "Exchange",
    "Expectations",
    "Hyperparameters",
    "Labelled",
    "MessageKind",
    "Method",
    "NetworkFactory",
    "Participation",
    "Reply",
    "Request",
    "RoundRecord",
    "Selection",
    "Server",
    "State",
    "Transport",
    "by_branch",
    "by_mask",
    "by_role",
    "everything",
    "merge_selected",
    "method",
    "repaired",
    "untouched",
]
