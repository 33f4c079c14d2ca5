"""The contract: its example runs, its hooks are there for every method, also for a class that does not inherit them."""

from __future__ import annotations

import doctest
import sys
import types

import numpy as np
import pydantic
import pytest
from torch import nn

from spikefed.errors import ConfigError
from spikefed.federated import METHODS, Method, contract, method
from spikefed.federated.contract import Diagnostics, Hyperparameters
from spikefed.wire import LabelDownlink


def test_the_example_of_the_contract_runs() -> None:
    assert doctest.testmod(contract).failed == 0
    assert doctest.testmod(contract).attempted > 0


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_it_is(name: str) -> None:
    made = method(name)
    assert isinstance(made, Method)
    assert made.title and made.summary and made.name == name
    assert made.server_model != (name in ("local", "central", "fd"))


class Plain:
    """As methods were written before there was a base class: five steps, no hook."""

    name = "plain"
    summary = "five steps"
    hyperparameters = Hyperparameters
    uplink_kind = None
    downlink_kind = "labels"

    def init_client(self, ctx):
        return {}

    def init_server(self, ctx):
        return {}, None

    def client_round(self, state, downlink, ctx):
        return state, None, None

    def server_round(self, state, uplinks, ctx):
        return state, None, Diagnostics()

    def server_network(self, state, ctx):
        return nn.Identity()


class Serverless(Plain):
    def client_network(self, state, ctx):
        return nn.Identity()


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> str:
    made = types.ModuleType("hand_made")
    vars(made).update(Plain=Plain, Serverless=Serverless)
    monkeypatch.setitem(sys.modules, "hand_made", made)
    return "hand_made"


def test_a_class_without_the_base_has_its_hooks(module: str) -> None:
    made = method(f"{module}:Plain")
    sent = LabelDownlink(1, np.zeros(3, np.uint8), bytes(32), classes=2)
    assert made.repeated(sent, 4, None).round == 4  # type: ignore[arg-type]
    assert made.forget({"a": 1}, [0]) == {"a": 1}
    up, down = made.exchanges(None, (3, 2, 8), None)  # type: ignore[arg-type]
    assert (up.kind, down.kind, down.shape) == (None, "labels", (3, 2, 1))
    assert made.server_model and not made.pooled
    assert type(made.server_network({}, None)) is nn.Identity  # type: ignore[arg-type]


def test_a_class_that_gives_its_clients_networks_has_no_server_model(module: str) -> None:
    assert not method(f"{module}:Serverless").server_model


class Loose(pydantic.BaseModel):
    """Takes any key in silence."""


def test_own_hyperparameters_that_refuse_unknown_keys_need_no_base(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Strict(pydantic.BaseModel, extra="forbid"):
        pull: float = 0.5

    monkeypatch.setattr(Plain, "hyperparameters", Strict)
    assert method(f"{module}:Plain").hyperparameters is Strict


@pytest.mark.parametrize(
    ("member", "value", "said"),
    [
        ("hyperparameters", Loose, "based on LocalTraining"),
        ("hyperparameters", None, "'hyperparameters' is None"),
        ("uplink_kind", "indices", "uplink_kind = 'indices' is no kind of message; use None or one of spikes, "),
        ("downlink_kind", "weight", "downlink_kind = 'weight' is no kind of message"),
    ],
)
def test_a_member_that_cannot_be_is_refused(
    module: str, monkeypatch: pytest.MonkeyPatch, member: str, value: object, said: str
) -> None:
    monkeypatch.setattr(Plain, member, value)
    with pytest.raises(ConfigError) as error:
        method(f"{module}:Plain")
    assert said in str(error.value)
