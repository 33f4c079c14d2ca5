"""Hidden state of other people's modules: how it is cleared, how it is seen, and how it is brought back.

None of the libraries is imported: their classes are known by the package that they come from, their neurons by what
they carry (`spikefed.networks.roles.is_neuron`).
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks.roles import BN_STATS, is_neuron, roles
from spikefed.seeding import seeded

RESETS = ("reset_mem", "reset_states", "reset")
"""What clears a module's state, the first it has: snnTorch's name, sinabs's, SpikingJelly's and most people's."""

LIBRARIES = frozenset({"snntorch", "spikingjelly", "sinabs", "norse", "rockpool", "lava", "spaic", "braincog"})
"""Packages whose `RESETS` clear state and nothing else."""

_clears: WeakKeyDictionary[type[nn.Module], bool] = WeakKeyDictionary()
_OWN = frozenset(vars(nn.Module()))
"""Attributes that every module has."""


def reset(module: nn.Module) -> None:
    """Clear the hidden state of every submodule that keeps one, and of no other network.

    Called are the `RESETS` of neurons, of classes of known libraries, and of other classes where a trial on a copy
    shows that theirs leaves weights and statistics as they are and draws nothing. snnTorch's own ``utils.reset`` is
    avoided: it clears all networks of the process, but none that was copied.
    """
    for part in module.modules():
        method = _reset_of(part)
        if method is not None:
            method()
        if is_neuron(part):
            _detach(part)


def _reset_of(part: nn.Module) -> Any:
    for name in RESETS:
        method = getattr(part, name, None)
        if callable(method):
            return method if not _asks(method) and _only_clears(part, name) else None
    return None


def _asks(method: Any) -> bool:
    """Whether it cannot be called without arguments."""
    try:
        known = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in known)


def _only_clears(part: nn.Module, name: str) -> bool:
    kind = type(part)
    if is_neuron(part) or any(base.__module__.partition(".")[0] in LIBRARIES for base in kind.__mro__):
        return True
    if kind not in _clears:
        _clears[kind] = _tried(part, name)
    return _clears[kind]


def _tried(part: nn.Module, name: str) -> bool:
    """Whether this reset, called on copies whose numbers were moved, changes no weight and no statistic."""
    found = []
    for seed in (1, 2):
        with seeded(seed):
            try:
                twin = copy.deepcopy(part)
                with torch.no_grad():
                    for tensor in twin.state_dict().values():
                        if isinstance(tensor, Tensor) and tensor.is_floating_point():
                            tensor.add_(1)
                before = {n: t.clone() for n, t in twin.state_dict().items() if isinstance(t, Tensor)}
                getattr(twin, name)()
            except Exception:  # the user's code; what cannot be tried is left alone
                return False
        after = twin.state_dict()
        role_of = roles(twin)
        fixed = {n for n, _ in twin.named_parameters()} | {n for n, role in role_of.items() if role == BN_STATS}
        if any(n not in after or not _same(t, after[n]) for n, t in before.items() if n in fixed):
            return False
        found.append(after)
    # A buffer may hold state, which every call clears alike, or fixed weights, which a reset may draw anew.
    return all(_same(t, found[1].get(n)) for n, t in found[0].items())


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    return type(one) is type(other)


def _detach(neuron: nn.Module) -> None:
    """Cut state tensors that a library's reset left in the last call's graph; such a module cannot be copied."""
    for name, value in list(vars(neuron).items()) + list(neuron._buffers.items()):
        if isinstance(value, Tensor) and not isinstance(value, nn.Parameter) and value.grad_fn is not None:
            setattr(neuron, name, value.detach())


def detach(module: nn.Module) -> None:
    """Cut all hidden state from the graph of the call that left it, in place."""
    for part in module.modules():
        for name, value in list(_attributes(part)):
            if any(tensor.grad_fn is not None for _, tensor in _tensors_in(value, "")):
                if name in part._buffers:
                    part._buffers[name] = value.detach()
                else:
                    vars(part)[name] = _cut(value)


def _cut(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, dict):
        same = copy.copy(value)
        same.update({key: _cut(inner) for key, inner in value.items()})
        return same
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_cut, value))
    return type(value)(map(_cut, value)) if isinstance(value, list | tuple) else value


def copied(module: nn.Module) -> nn.Module:
    """A deep copy, also of a module whose weights are made anew at each call (``torch.nn.utils.prune``).

    Raises:
        ConfigError: it holds something that Python cannot copy.
    """
    before = [(part, dict(vars(part)), dict(part._buffers)) for part in module.modules()]
    detach(module)
    try:
        return copy.deepcopy(module)
    except Exception as error:  # the user's code
        raise ConfigError(
            f"network {type(module).__name__} cannot be copied ({type(error).__name__}: {error}); give its class or a "
            "function that makes it"
        ) from error
    finally:
        for part, attributes, buffers in before:
            vars(part).update(attributes)
            part._buffers.update(buffers)


def hidden_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Tensors that modules hold beside weights and buffers of the state dict, by place: membranes, mostly.

    Shapes are as they lie there.
    """
    saved = {id(t) for t in module.state_dict(keep_vars=True).values()}
    found = {}
    for prefix, part in module.named_modules():
        for name, value in _attributes(part):
            for place, tensor in _tensors_in(value, f"{prefix}.{name}".lstrip(".")):
                if id(tensor) not in saved:
                    found[place] = tensor
    return found


def _attributes(part: nn.Module) -> Iterator[tuple[str, Any]]:
    yield from ((name, value) for name, value in vars(part).items() if name not in _OWN)
    yield from ((name, value) for name, value in part._buffers.items() if name in part._non_persistent_buffers_set)


def _tensors_in(value: Any, place: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield place, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _tensors_in(inner, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _tensors_in(inner, f"{place}.{number}")


class Fresh:
    """What a module holds beside its weights, as it was when this was made.

    Args:
        module: nothing may have run through it yet.

    Raises:
        ConfigError: something in it cannot be copied, so it could not be brought back either.
    """

    def __init__(self, module: nn.Module) -> None:
        try:
            self._kept = {name: copy.deepcopy(dict(_attributes(part))) for name, part in module.named_modules()}
        except Exception as error:  # the user's code
            raise ConfigError(
                f"network.state = 'keep' needs state that can be copied, but a part of {type(module).__name__} cannot "
                f"({type(error).__name__}: {error}); keep tensors, numbers, lists and dicts"
            ) from error

    def restore(self, module: nn.Module) -> None:
        """Bring the module back to it; its weights stay."""
        for name, part in module.named_modules():
            kept = copy.deepcopy(self._kept.get(name, {}))
            for gone in [n for n, _ in _attributes(part) if n not in kept and n not in part._buffers]:
                del vars(part)[gone]
            for attribute, value in kept.items():
                if attribute in part._buffers:
                    old = part._buffers[attribute]
                    where = old.device if isinstance(old, Tensor) else None
                    part._buffers[attribute] = value if value is None or where is None else value.to(where)
                else:
                    vars(part)[attribute] = value
