"""The methods, one file each, and the table that finds them by name."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel

from spikefed.errors import ConfigError
from spikefed.federated.contract import Method
from spikefed.federated.methods.adapters import Adapters
from spikefed.federated.methods.alone import Central, Local
from spikefed.federated.methods.cfd import Cfd
from spikefed.federated.methods.dcnas import DcNas
from spikefed.federated.methods.dsfl import Dsfl
from spikefed.federated.methods.fd import Fd
from spikefed.federated.methods.fedavg import FedAvg
from spikefed.federated.methods.feddf import FedDf
from spikefed.federated.methods.feddyn import FedDyn
from spikefed.federated.methods.fednova import FedNova
from spikefed.federated.methods.fedopt import FedAdagrad, FedAdam, FedAvgM, FedYogi
from spikefed.federated.methods.fedprox import FedProx
from spikefed.federated.methods.fsd import Fsd
from spikefed.federated.methods.fsdplus import FsdPlus
from spikefed.federated.methods.fsdtickets import FsdTickets
from spikefed.federated.methods.hdsfl import Hdsfl
from spikefed.federated.methods.scaffold import Scaffold
from spikefed.federated.methods.tickets import Tickets
from spikefed.federated.traffic import MessageKind
from spikefed.objects import import_object, said

METHODS: dict[str, type[Method]] = {
    made.name: made
    for made in (
        Fsd, FsdPlus, Hdsfl, Cfd, Dsfl, Fd, FedAvg, FedProx, FedAvgM, FedAdagrad, FedAdam, FedYogi, FedNova, FedDyn,
        FedDf, Scaffold, Tickets, FsdTickets, Adapters, DcNas, Local, Central,
    )
}  # fmt: skip

ELSEWHERE = {
    "fedlc": "FedLC corrects logits in local training, of any method: set training.calibrate = 1 with method.name = "
    "'fedavg', say",
    "fedbn": "FedBN keeps normalisations at clients: set method.name = 'fedavg' and method.send = ['weight', 'neuron']",
    "fedsgd": "FedSGD is one step on all data a round: set method.name = 'fedavg', training.local_epochs = 1 and a "
    "training.local_batch of all images",
    "fsdplus": "the method's name is 'fsd+'",
    "fsd-plus": "the method's name is 'fsd+'",
}
"""What others call a method and is found here under another name or as a setting; what to write instead."""


def method(name: str) -> Method:
    """A method by its short name, or a user's own as ``package.module:ClassName``.

    Raises:
        ConfigError: no such method, or the class lacks a step of the contract or names what no message can be.
    """
    if name in METHODS:
        return METHODS[name]()
    if name.lower() in ELSEWHERE:
        raise ConfigError(f"method '{name}' is not known by this name: {ELSEWHERE[name.lower()]}")
    if ":" not in name:
        raise ConfigError(
            f"method '{name}' is not known; use one of {', '.join(sorted(METHODS))}, or your own as 'module:ClassName'"
        )
    made = import_object(name, "method.name", ConfigError)
    try:
        made = made()
    except Exception as error:  # whatever a user's module or class raises is one sentence about the config
        raise ConfigError(
            f"method '{name}' cannot be made: {said(error)}; it must be a class that takes no arguments"
        ) from error
    missing = [
        step
        for step in ("name", "hyperparameters", "uplink_kind", "downlink_kind", "init_client", "init_server",
                     "client_round", "server_round", "server_network")
        if not hasattr(made, step)
    ]  # fmt: skip
    if missing:
        raise ConfigError(f"method '{name}' lacks {', '.join(missing)}; see docs/adding-a-method.md")
    _check_members(made, name)
    return made if isinstance(made, Method) else _with_hooks(made)


def _check_members(made: Any, name: str) -> None:
    """Refuse hyperparameters that would let unknown keys pass, and kinds of message that the wire does not have."""
    hyper = made.hyperparameters
    if not (isinstance(hyper, type) and issubclass(hyper, BaseModel) and hyper.model_config.get("extra") == "forbid"):
        raise ConfigError(
            f"method '{name}': 'hyperparameters' is {hyper!r}; give a class based on LocalTraining of "
            "spikefed.federated.local (which has the keys of [training]) or on Hyperparameters"
        )
    kinds = get_args(MessageKind)
    for key in ("uplink_kind", "downlink_kind"):
        if (kind := getattr(made, key)) not in (None, *kinds):
            raise ConfigError(
                f"method '{name}': {key} = {kind!r} is no kind of message; use None or one of {', '.join(kinds)}"
            )


def _with_hooks(made: object) -> Method:
    """The same object, of a class that has the contract's hooks behind its own members."""
    own = type(made)
    members = {} if hasattr(own, "server_model") else {"server_model": not hasattr(own, "client_network")}
    made.__class__ = type(own.__name__, (own, Method), members)  # type: ignore[misc]
    assert isinstance(made, Method)
    return made
