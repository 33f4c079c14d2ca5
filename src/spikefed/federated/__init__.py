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
from spikefed.federated.methods import METHODS, method
from spikefed.federated.participation import Participation
from spikefed.federated.plans import Expectations
from spikefed.federated.rounds import RoundRecord, Server

__all__ = [
    "METHODS",
    "ClientContext",
    "ClientReport",
    "ClientWorker",
    "Context",
    "Diagnostics",
    "Expectations",
    "Hyperparameters",
    "Labelled",
    "Method",
    "NetworkFactory",
    "Participation",
    "Reply",
    "Request",
    "RoundRecord",
    "Server",
    "State",
    "Transport",
    "method",
]
