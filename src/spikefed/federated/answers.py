"""What a step of a method gives back, looked at before it is used: a slip is a sentence, not a failure far away."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any, TypeVar

from torch import nn

from spikefed.errors import ConfigError
from spikefed.federated.contract import ClientReport, Diagnostics, Method
from spikefed.federated.secure import Votes
from spikefed.federated.wrapped import Wrapped

GIVES = {
    "init_server": "(state, downlink of round 1 or None)",
    "client_round": "(state, uplink or None, ClientReport)",
    "server_round": "(state, downlink or None, Diagnostics)",
}
"""What each step gives."""

THIRD: dict[str, type[ClientReport | Diagnostics]] = {"client_round": ClientReport, "server_round": Diagnostics}
"""The type of the third part, where a step has one."""

Answer = TypeVar("Answer")


def checked(method: Method, step: str, answer: Answer) -> Answer:
    """The answer of a step of `GIVES`, as it is.

    Raises:
        ConfigError: it is not what the contract says.
    """
    third = THIRD.get(step)
    count = 2 if third is None else 3
    if not isinstance(answer, tuple) or len(answer) != count:
        got = f"a tuple of {len(answer)}" if isinstance(answer, tuple) else f"a {type(answer).__name__}"
        raise _refused(method, step, f"gave {got}; it gives {GIVES[step]}")
    parts: tuple[Any, ...] = answer
    if not isinstance(parts[0], dict):
        raise _refused(method, step, f"gave a {type(parts[0]).__name__} as state; it gives {GIVES[step]}")
    _check_keys(method, step, parts[0])
    if not (parts[1] is None or isinstance(parts[1], Votes) or hasattr(parts[1], "kind")):
        what = type(parts[1]).__name__
        raise _refused(method, step, f"sends a {what}; give None or a message of spikefed.wire, such as LabelUplink")
    if third is not None:
        _check_values(method, step, parts[2], third)
    return answer


def checked_network(method: Method, net: object) -> nn.Module:
    """What ``server_network`` gave, as it is.

    Raises:
        ConfigError: no network.
    """
    if not isinstance(net, nn.Module):
        raise _refused(method, "server_network", f"gave a {type(net).__name__}; return ctx.networks.load(weights)")
    return net


def _check_keys(method: Method, step: str, state: Mapping[Any, Any], where: str = "state") -> None:
    """A key that is no text would be one after a resume, so a resumed run would be another."""
    for key, value in state.items():
        if not isinstance(key, str):
            raise _refused(
                method, step, f"keeps key {key!r} in its {where}, and only text survives a crash; use str({key!r})"
            )
        if isinstance(value, dict):
            _check_keys(method, step, value, f"{where}['{key}']")


def _check_values(method: Method, step: str, told: object, kind: type[ClientReport | Diagnostics]) -> None:
    if not isinstance(told, kind):
        what = type(told).__name__
        raise _refused(method, step, f"gave a {what} as its third part; wrap the values, {kind.__name__}({{...}})")
    for key, value in told.values.items():
        if not isinstance(value, Real):
            what = type(value).__name__
            raise _refused(method, step, f"reports '{key}' as a {what}; give a number, such as float(...)")


def _refused(method: Method, step: str, what: str) -> ConfigError:
    own = method.innermost if isinstance(method, Wrapped) else method
    return ConfigError(f"method {type(own).__name__}: {step} {what} (docs/adding-a-method.md)")
