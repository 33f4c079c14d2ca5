"""State dicts of other libraries on our layout: the same layers in the same order, under other names.

SpikingJelly and snnTorch build networks of ``nn.Conv2d``, ``nn.Linear`` and batch norms with neurons between them;
their state dicts hold these in order of definition. snnTorch's also hold numbers of its neurons, which are compared
with ours instead of loaded: a network whose neurons leak or reset otherwise would give other spikes with no error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks import SpikingNetwork
from spikefed.networks.norms import Norm
from spikefed.neurons import LIFParameters

_NORM = ("weight", "bias", "running_mean", "running_var")
_RESETS = {0: "soft", 1: "hard"}
"""snnTorch's number of a reset by subtraction, and to zero."""


def lay_state(net: SpikingNetwork, state: Mapping[str, Tensor] | Path | str, *, reset_delay: bool = True) -> None:
    """Load another library's weights into a network of the same layers; the network is unchanged if that fails.

    Args:
        net: a row of layers.
        state: its state dict, or a file that ``torch.save(net.state_dict())`` wrote.
        reset_delay: as the neurons of snnTorch were built, which the state dict does not say; theirs is True.

    Raises:
        ConfigError: another number or shape of layers, neurons that do something else, numbers that are not finite, or
            a file that cannot be read.
    """
    tensors = _read(Path(state)) if isinstance(state, Path | str) else state
    _check_tensors(tensors)
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        prefix, _, last = name.rpartition(".")
        modules.setdefault(prefix, {})[last] = tensor
    weights = [(p, m) for p, m in modules.items() if "weight" in m and m["weight"].ndim > 1]
    norms = [(p, m) for p, m in modules.items() if "running_mean" in m]
    _check_neurons(net, modules, reset_delay)
    ours = [(f"{layer.plan.name}", layer) for layer in net.layers]
    normed = [(f"{name}.norm", layer.norm) for name, layer in ours if layer.norm is not None]
    for kind, wanted, given in (("layers", ours, weights), ("norms", normed, norms)):
        if len(wanted) != len(given):
            raise ConfigError(
                f"the state dict has {len(given)} {kind} with tensors, network {net.name} has {len(wanted)}; build the "
                "network with the same layers"
            )
    pairs = [*_paired(ours, weights, ("weight", "bias")), *_paired(normed, norms, _NORM)]
    with torch.no_grad():
        for target, source in pairs:
            target.copy_(source)
        for _, norm in normed:
            assert isinstance(norm, Norm)
            norm.num_batches_tracked.fill_(1)  # statistics that were seen


def _paired(
    ours: Sequence[tuple[str, nn.Module]], given: list[tuple[str, dict[str, Tensor]]], keys: tuple[str, ...]
) -> list[tuple[Tensor, Tensor]]:
    """Tensors of ours with those that go there."""
    pairs = []
    for (name, module), (prefix, tensors) in zip(ours, given, strict=True):
        for key in keys:
            target = getattr(module, key)
            source = tensors.get(key)
            if (target is None) != (source is None):
                has, lacks = ("the state dict", "the network") if target is None else ("the network", "the state dict")
                raise ConfigError(f"{has} has '{key}' of {prefix} (here {name}), {lacks} has none; build both alike")
            if target is None or source is None:
                continue
            if target.shape != source.shape:
                raise ConfigError(
                    f"'{prefix}.{key}' of the state dict has shape {list(source.shape)}, '{name}.{key}' of network has "
                    f"{list(target.shape)}; build the network with the same sizes"
                )
            pairs.append((target, source))
    return pairs


def _check_tensors(tensors: object) -> None:
    if not isinstance(tensors, Mapping):
        raise ConfigError(f"a {type(tensors).__name__} is no state dict; give net.state_dict(), or the file it is in")
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            inside = "; give its entry 'state_dict'" if "state_dict" in tensors else "; give net.state_dict()"
            raise ConfigError(f"'{name}' of the state dict is a {type(tensor).__name__}, no tensor{inside}")
        if not bool(torch.isfinite(tensor).all()):
            raise ConfigError(f"'{name}' of the state dict holds numbers that are not finite; give a sound network's")


def _check_neurons(net: SpikingNetwork, modules: Mapping[str, Mapping[str, Tensor]], reset_delay: bool) -> None:
    """Refuse a state dict of neurons that do something else than the network's."""
    neurons = [getattr(layer, "neuron", None) for layer in net.layers]
    found = [neuron for neuron in neurons if isinstance(neuron, LIFParameters)]
    if not found:
        return
    ours = found[0]
    told = {"threshold": ours.v_threshold, "beta": ours.decay}
    for prefix, given in modules.items():
        _check_kind(prefix, given)
        tensors = _spoken(given)
        for key, wanted in told.items():
            if key in tensors and not torch.allclose(tensors[key].float(), torch.tensor(float(wanted))):
                raise ConfigError(
                    f"neurons {prefix} of the state dict have {key} {tensors[key].flatten()[0]:g}, the network's have "
                    f"{wanted:g}; set network.neuron to theirs"
                )
        reset = tensors.get("reset_mechanism_val")
        if reset is not None and _RESETS.get(int(reset)) != ours.kind:
            raise ConfigError(
                f"neurons {prefix} of the state dict reset otherwise than the network's ('{ours.kind}'); set "
                "network.neuron.kind to theirs"
            )
        if reset is not None and ours.kind == "soft" and reset_delay and ours.decay != 1:
            raise ConfigError(
                f"neurons {prefix} of the state dict take their threshold away a step later, after the leak, as "
                "snnTorch does unless reset_delay = False; if they were built so, say it with reset_delay=False, else "
                "use reset_mechanism = 'zero'"
            )


def _spoken(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """SpikingJelly's learnt time constant in snnTorch's words: 1 / tau = sigmoid(w), beta = 1 - 1 / tau."""
    learnt = set(tensors) == {"w"} and tensors["w"].ndim == 0
    return {"beta": 1 - torch.sigmoid(tensors["w"])} if learnt else tensors


def _check_kind(prefix: str, tensors: Mapping[str, Tensor]) -> None:
    if "reset_mechanism_val" in tensors and {"alpha", "alpha_1"} & set(tensors):
        raise ConfigError(
            f"neurons {prefix} of the state dict have a synaptic current that decays (alpha), which ours have not; use "
            "networks of snn.Leaky"
        )


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise ConfigError(f"there is no file {path}; give what torch.save(net.state_dict(), ...) wrote")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its readers raise
        raise ConfigError(
            f"{path} cannot be read as a state dict; write it with torch.save(net.state_dict())"
        ) from error
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]  # a checkpoint that holds more
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ConfigError(f"{path} holds no state dict; write it with torch.save(net.state_dict(), ...)")
    return found
