"""The tensors of a network by name, each once: what is copied, sent, saved, and put back.

A tensor may stand in a state dict under several names (tied weights, one layer used twice). It is known here by the
first of them alone, so it is saved once and travels once; put back, it is there under all its names again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError


def state_tensors(net: nn.Module) -> dict[str, Tensor]:
    """The live tensors of ``net.state_dict()`` in its order, a tied one under the first of its names only.

    Shapes are the network's.
    """
    first = _first_names(net)
    return {name: tensor.detach() for name, tensor in _named(net).items() if first[name] == name}


def copy_tensors(net: nn.Module) -> dict[str, Tensor]:
    """Copies of `state_tensors` on the host, of which no two share memory. Shapes are the network's."""
    return {name: tensor.to("cpu", copy=True) for name, tensor in state_tensors(net).items()}


def load_tensors(net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Inverse of `copy_tensors`, in place. A tied tensor may also be given under another, or under all, of its names.

    Raises:
        ConfigError: names or shapes are not those of the network; the text names the first.
    """
    first = _first_names(net)
    given = {first.get(name, name) for name in tensors}
    for problem, names in (("lack", set(first.values()) - given), ("hold", given - set(first.values()))):
        if names:
            name = min(names)
            raise ConfigError(
                f"these weights do not fit network {_title(net)}: they {problem} '{name}'"
                + (", which the network does not have" if problem == "hold" else "")
                + "; use the network that they were trained in"
            )
    # Under its first name where it came under several: the others are the same memory.
    chosen = {name: t for name, t in tensors.items() if first[name] == name or first[name] not in tensors}
    try:
        net.load_state_dict(chosen, strict=False)
    except RuntimeError as error:
        raise ConfigError(_misfit(net, chosen) or f"these weights cannot be loaded: {error}") from error


def _misfit(net: nn.Module, tensors: Mapping[str, Tensor]) -> str | None:
    own = _named(net)
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            return (
                f"these weights do not fit network {_title(net)}: '{name}' is {list(tensor.shape)}, the network's is "
                f"{list(own[name].shape)}; use the network that they were trained in"
            )
    return None


def _named(net: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in net.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}


def _first_names(net: nn.Module) -> dict[str, str]:
    """Every name in the state dict, and the first name of the same tensor."""
    first: dict[object, str] = {}
    return {name: first.setdefault(_identity(tensor), name) for name, tensor in _named(net).items()}


def _identity(tensor: Tensor) -> object:
    """The same for two tensors that are one: one object, or one view of one memory."""
    if not tensor.numel() or tensor.device.type == "meta":
        return id(tensor)
    return tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _title(net: nn.Module) -> str:
    return str(getattr(net, "name", type(net).__name__))


def retie(net: nn.Module, names: Mapping[str, str]) -> None:
    """Make buffers one again that a move to another device has copied apart.

    Args:
        names: first name of each name, from `ties` before the move.
    """
    for name, first in names.items():
        owner, _, local = name.rpartition(".")
        module = net.get_submodule(owner)
        if local in module._buffers:
            module._buffers[local] = net.get_buffer(first)


def ties(net: nn.Module) -> dict[str, str]:
    """Further names of tied tensors, with the first name of each."""
    return {name: first for name, first in _first_names(net).items() if name != first}


def norm(tensors: Iterable[Tensor]) -> float:
    """2-norm of all these tensors together, in float64; 0 without any. Tensors of any shapes."""
    parts = [torch.linalg.vector_norm(tensor, dtype=torch.float64) for tensor in tensors]
    return float(torch.stack(parts).norm()) if parts else 0.0
