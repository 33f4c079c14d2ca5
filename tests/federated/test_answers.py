"""What a user's method gives back wrongly is one sentence that names the method, the step and what to give instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from federated.tiny import World
from spikefed.errors import ConfigError
from spikefed.federated.answers import GIVES, checked, checked_network
from spikefed.federated.attackers import Attacker
from spikefed.federated.contract import ClientReport, Diagnostics, Method
from spikefed.federated.local import LocalTraining
from spikefed.federated.memory import Remembering
from spikefed.federated.methods.fedavg import FedAvg
from spikefed.federated.secure import Votes
from spikefed.wire import LabelUplink

METHOD: Method = FedAvg()
UPLINK = LabelUplink(1, 0, np.zeros(4, np.uint8), 0.5, bytes(32), classes=2)
VOTES = Votes(1, 0, np.zeros((4, 2, 3), dtype=np.uint32), 1, bytes(32))


def report(**values: Any) -> ClientReport:
    return ClientReport(values)


def diagnostics(**values: Any) -> Diagnostics:
    return Diagnostics(values)


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ("init_server", ({"weights": {"a": torch.ones(2)}}, None)),
        ("client_round", ({}, None, report(loss=1.0, count=3.0))),
        ("client_round", ({}, UPLINK, report())),
        ("client_round", ({}, VOTES, report())),
        ("server_round", ({"seen": [0, 1]}, None, diagnostics(loss=np.float32(1)))),
    ],
)
def test_what_the_contract_says_passes_as_it_is(step: str, answer: Any) -> None:
    assert checked(METHOD, step, answer) is answer


@pytest.mark.parametrize(
    ("step", "answer", "said"),
    [
        ("init_server", {"weights": 1}, "gave a dict; it gives (state, downlink of round 1 or None)"),
        ("init_server", ({}, None, 3), "gave a tuple of 3"),
        ("client_round", None, "gave a NoneType; it gives (state, uplink or None, ClientReport)"),
        ("client_round", ({}, None), "gave a tuple of 2"),
        ("client_round", ([], None, report()), "gave a list as state"),
        ("client_round", ({}, {"a": 1}, report()), "sends a dict; give None or a message of spikefed.wire"),
        ("client_round", ({}, torch.ones(3), report()), "sends a Tensor"),
        ("client_round", ({}, None, {"loss": 1.0}), "wrap the values, ClientReport({...})"),
        ("client_round", ({}, None, report(loss=torch.tensor(1.0))), "reports 'loss' as a Tensor"),
        ("server_round", ({}, None, report()), "gave a ClientReport as its third part"),
        ("server_round", ({}, None, diagnostics(who="me")), "reports 'who' as a str"),
        ("server_round", ({"seen": {3: 1}}, None, diagnostics()), "keeps key 3 in its state['seen']"),
    ],
)
def test_what_does_not_fit_is_one_sentence(step: str, answer: Any, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        checked(METHOD, step, answer)
    assert str(error.value).startswith(f"method FedAvg: {step} ") and said in str(error.value)


@pytest.mark.parametrize("around", [lambda own: own, Remembering, lambda own: Attacker(own, "flip-labels", 10)])
def test_the_class_is_named_whatever_is_around_it(around: Callable[[Method], Any]) -> None:
    class Forgetful(FedAvg):
        def client_round(self, state: Any, downlink: Any, ctx: Any) -> Any:
            return {}, None

    made = around(Forgetful())
    assert isinstance(made, Method) or type(made.innermost) is Forgetful
    with pytest.raises(ConfigError, match="method Forgetful: client_round gave a tuple of 2"):
        checked(made, "client_round", made.client_round({}, None, World(LocalTraining()).client(0)))


def test_every_step_of_the_table_is_one_of_the_contract() -> None:
    assert all(getattr(Method, step).__isabstractmethod__ for step in GIVES)


def test_a_network_is_given_back() -> None:
    net = nn.Identity()
    assert checked_network(METHOD, net) is net
    with pytest.raises(ConfigError, match=r"server_network gave a NoneType; return ctx\.networks\.load"):
        checked_network(METHOD, None)
