"""Which kernel each layer took on a batch, and why."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks.adapter import WrappedNetwork
from spikefed.networks.layers import PassLayer, PlannedLayer, SpikingLayer
from spikefed.networks.monitor import in_eval_mode, spikes
from spikefed.networks.network import LayeredNetwork
from spikefed.neurons import Choice, record_paths


@dataclass(frozen=True)
class LayerPath:
    """How one layer ran.

    Attributes:
        layer: its name.
        weights: path of the convolution or linear product (``dense``, ``events``, ...) and the reason.
        neurons: path of normalisation, LIF and pool (``fused``, ``reference``, ...) and the reason.
        density: part of the layer's input that is not zero; nan where nobody measured it.
    """

    layer: str
    weights: str
    neurons: str
    density: float

    def __str__(self) -> str:
        return f"{self.layer}: weights {self.weights}; neurons {self.neurons}"


def explain(net: nn.Module, x: Tensor | None = None) -> list[LayerPath]:
    """The path of every spiking layer, recorded from one forward in eval mode without a gradient.

    The choice depends on batch size, precision and spike density, so give a batch like those of the real work. Layers
    that are not from this package run as their authors wrote them.

    Args:
        x: images ``[B, C, H, W]``; 32 images of uniform noise of the network's ``input_shape`` when None.

    Raises:
        ConfigError: no images are given and the network does not say its input shape.
    """
    shape = getattr(net, "input_shape", None)
    if x is None and shape is None:
        raise ConfigError(f"{type(net).__name__} does not say its input shape; call explain(net, images)")
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(32, *(shape or ()), generator=draw) if x is None else x
    paths: list[LayerPath] = []
    starts: dict[str, int] = {}
    hooks = []

    def begin(module: nn.Module, inputs: tuple) -> None:
        starts[names[module]] = len(choices)

    def end(module: nn.Module, inputs: tuple, out: object) -> None:
        name = names[module]
        assert isinstance(module, PlannedLayer)
        if all(path.layer != name for path in paths):  # of a layer in a loop the first time step
            paths.append(_path(name, module, inputs, choices[starts[name] :]))

    names: dict[nn.Module, str] = {module: name for name, module in net.named_modules() if _has_paths(module)}
    with in_eval_mode(net), torch.no_grad(), record_paths() as choices:
        for layer in names:
            hooks += [layer.register_forward_pre_hook(begin), layer.register_forward_hook(end)]
        try:
            net(x, generator=draw) if isinstance(net, LayeredNetwork | WrappedNetwork) else net(x)
        finally:
            for hook in hooks:
                hook.remove()
    seen = {path.layer for path in paths}
    own = "as its author wrote it"
    return paths + [
        LayerPath(name, own, own, float("nan")) for name, m in net.named_modules() if spikes(m) and name not in seen
    ]


def _has_paths(module: nn.Module) -> bool:
    """True for a spiking layer of this package that does more than hand on what enters."""
    return isinstance(module, SpikingLayer) or (
        isinstance(module, PassLayer) and (module.neuron is not None or module.norm is not None)
    )


def _path(name: str, layer: PlannedLayer, inputs: tuple, choices: list[Choice]) -> LayerPath:
    """Join what the layer's operations noted; an operation that notes nothing is a plain torch call."""
    noted = {choice.operation: choice for choice in choices}
    neuron = noted.pop("norm_lif", None)
    product = next(iter(noted.values()), None)
    repeat = len(inputs) > 2 and inputs[2]
    weights = "dense (torch)" if product is None else f"{product.path} ({product.reason})"
    if layer.plan.kind == "pass":
        weights = "none"
    elif repeat:
        weights += ", once for all time steps"
    return LayerPath(
        layer=name,
        weights=weights,
        neurons=_neurons(layer, neuron),
        density=float("nan") if product is None else product.density,
    )


def _neurons(layer: PlannedLayer, choice: Choice | None) -> str:
    if getattr(layer, "neuron", None) is None:
        return "none (it gives currents)"
    return "reference (torch)" if choice is None else f"{choice.path} ({choice.reason})"
