"""State roles: what each tensor of a network is, so that aggregators and codecs never guess from names.

========================  =============================================================================
role                      meaning
========================  =============================================================================
``weight``                weights and biases that the optimiser trains
``bn_affine``             scale and shift of a normalisation
``bn_stats``              running mean, running variance and batch counter of a normalisation
``neuron``                learnt numbers of a neuron layer (thresholds, time constants)
``task[k]``               tensors that belong to task k alone
``frozen``                everything that neither training nor aggregation may change
========================  =============================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import nn

from spikefed.networks.tensors import state_tensors

WEIGHT = "weight"
BN_AFFINE = "bn_affine"
BN_STATS = "bn_stats"
NEURON = "neuron"
FROZEN = "frozen"
Role = str
"""One of the names above."""

_ROLE = re.compile(r"weight|bn_affine|bn_stats|neuron|frozen|task\[\d+\]")
_AFFINE_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)
_STATISTICS = {"running_mean", "running_var", "num_batches_tracked"}


def task(k: int) -> Role:
    """Role of a tensor that only task ``k`` uses."""
    return f"task[{k}]"


def is_role(text: str) -> bool:
    """True when ``text`` names a role."""
    return _ROLE.fullmatch(text) is not None


def is_neuron(module: nn.Module) -> bool:
    """True for a spiking neuron layer of any library: it carries a threshold (SpikingJelly's or snnTorch's name)."""
    return hasattr(module, "v_threshold") or (hasattr(module, "threshold") and hasattr(module, "spike_grad"))


def roles(net: nn.Module) -> dict[str, Role]:
    """Role of every tensor in ``net.state_dict()``, in its order.

    A module may decide for its own tensors with a method ``tensor_roles() -> dict[local name, role]``. Otherwise:
    parameters that need no gradient are ``frozen``; tensors of a normalisation are ``bn_affine`` or ``bn_stats``;
    parameters of a neuron layer ``neuron``; other parameters ``weight``; other buffers ``frozen`` (nothing may average
    what it does not understand, such as snnTorch's code number of the reset mechanism).
    """
    found: dict[str, Role] = {}
    for prefix, module in net.named_modules(remove_duplicate=False):
        declared = getattr(module, "tensor_roles", dict)()
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            role = declared.get(name) or _parameter_role(module, parameter)
            found[f"{prefix}.{name}" if prefix else name] = role
        for name, _ in module.named_buffers(recurse=False, remove_duplicate=False):
            role = declared.get(name) or _buffer_role(module, name)
            found[f"{prefix}.{name}" if prefix else name] = role
    return {name: found.get(name, FROZEN) for name, value in net.state_dict().items() if torch.is_tensor(value)}


def state_bytes(net: nn.Module, *wanted: Role) -> int:
    """Bytes of all tensors in ``net.state_dict()``, tied ones once; with roles given, of those alone."""
    tensors = state_tensors(net)
    role_of = roles(net) if wanted else {}
    return sum(t.numel() * t.element_size() for name, t in tensors.items() if not wanted or role_of[name] in wanted)


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, _AFFINE_NORMS) or (hasattr(module, "running_mean") and hasattr(module, "running_var"))


def _parameter_role(module: nn.Module, parameter: nn.Parameter) -> Role:
    if not parameter.requires_grad:
        return FROZEN
    if _is_norm(module):
        return BN_AFFINE
    return NEURON if is_neuron(module) else WEIGHT


def _buffer_role(module: nn.Module, name: str) -> Role:
    if _is_norm(module) and name in _STATISTICS:
        return BN_STATS
    return FROZEN


def prunable(tensors: Mapping[str, torch.Tensor], roles: Mapping[str, Role]) -> frozenset[str]:
    """Names of the weights of convolutions and linear layers, of any shape; never biases or normalisations."""
    return frozenset(name for name, role in roles.items() if role == WEIGHT and tensors[name].dim() > 1)
