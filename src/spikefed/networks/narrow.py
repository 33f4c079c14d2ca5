"""Whole channels of networks whose layers stand in a row: what goes with one, and the small network without the dead.

A channel is its row of the weights, its entries of bias and norm, and all weights of the next layer that read it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks.layers import SpikingLayer
from spikefed.networks.layout import parse_layout
from spikefed.networks.monitor import in_eval_mode
from spikefed.networks.network import ANNNetwork, SpikingNetwork
from spikefed.networks.norms import make_norm
from spikefed.networks.pools import Pooling
from spikefed.networks.tensors import load_tensors, state_tensors
from spikefed.networks.zoo import network_info

_OWN = ("bias", "norm.weight", "norm.bias")


@dataclass(frozen=True)
class Row:
    """The layers of such a network, in order.

    Attributes:
        names: of the layers.
        channels: of each, the last one's are the outputs.
        shapes: by name of a tensor that belongs to channels, in the network's order.
    """

    names: tuple[str, ...]
    channels: tuple[int, ...]
    shapes: Mapping[str, torch.Size]

    @classmethod
    def of(cls, net: nn.Module) -> Row:
        """The row that a network is.

        Raises:
            ConfigError: its layers do not stand in a row.
        """
        if isinstance(net, ANNNetwork):
            raise ConfigError(
                f"whole channels are pruned in spiking networks, and '{net.name}' is an ANN twin; leave "
                "network.twin at 'snn', or here method.units at 'weights'"
            )
        if type(net) is not SpikingNetwork or not all(type(layer) is SpikingLayer for layer in net.places):
            raise ConfigError(
                "whole channels are pruned, and taken out, in networks whose layers stand in a row, as those of "
                "layouts such as 8C3-AP2-64FC; of this one prune single weights (method.units = 'weights')"
            )
        tensors = dict(net.named_parameters())
        names = tuple(layer.plan.name for layer in net.layers)
        owned = {f"{name}.weight" for name in names} | {f"{name}.{own}" for name in names[:-1] for own in _OWN}
        shapes = {name: tensor.shape for name, tensor in tensors.items() if name in owned}
        return cls(names, tuple(layer.plan.map_shape[0] for layer in net.layers), shapes)

    def weight(self, place: int) -> str:
        """Name of a layer's weights."""
        return f"{self.names[place]}.weight"

    def group(self, place: int) -> int:
        """Inputs of the layer at a place that come from one channel of the layer before."""
        return self.shapes[self.weight(place)][1] // self.channels[place - 1]

    def mask(self, alive: list[Tensor]) -> dict[str, Tensor]:
        """Bool by name, of each tensor's shape: what belongs to channels that are alive.

        Args:
            alive: bool ``[C]`` of every layer but the last.
        """
        every = [*alive, torch.ones(self.channels[-1], dtype=torch.bool)]
        found = {}
        for name, shape in self.shapes.items():
            layer, own = name.split(".", 1)
            place = self.names.index(layer)
            kept = torch.ones(shape, dtype=torch.bool)
            if own == "weight":
                kept = kept & every[place].reshape(-1, *[1] * (len(shape) - 1))
                if place:
                    read = alive[place - 1].repeat_interleave(self.group(place))
                    kept = kept & read.reshape(1, -1, *[1] * (len(shape) - 2))
            else:
                kept = kept & every[place]  # of a norm of every step too, [T, C]
            found[name] = kept
        return found

    def alive(self, tensors: Mapping[str, Tensor]) -> list[Tensor]:
        """Bool ``[C]`` of every layer but the last: channels of which a weight in and a weight out is not 0.

        Args:
            tensors: the weights by name, or their masks.
        """
        found = []
        for place in range(len(self.channels) - 1):
            into = (tensors[self.weight(place)] != 0).flatten(1).any(1)
            found.append(into.cpu() & self.read(tensors, place))
        return found

    def read(self, tensors: Mapping[str, Tensor], place: int) -> Tensor:
        """Bool ``[C]``: channels of a layer that a weight of the next one reads. Arguments as of `alive`."""
        return (tensors[self.weight(place + 1)] != 0).transpose(0, 1).reshape(self.channels[place], -1).any(1).cpu()


@torch.no_grad()
def narrowed(net: nn.Module) -> SpikingNetwork:
    """The small network without the channels that are dead: no weight leads in, or none out.

    Its outputs are those of the network where the dead channels are silent: pruned by ``units = "channels"``, or
    without a weight out. A channel with none in that a bias or a norm makes fire is kept. Every layer keeps a channel.

    >>> from spikefed import networks
    >>> net = networks.build("4C3-AP2-6FC", input_shape=(1, 4, 4), classes=3, steps=2)
    >>> row = networks.Row.of(net)
    >>> kept = row.mask([torch.tensor([True, False, True, False]), torch.arange(6) < 5])
    >>> tensors = networks.copy_tensors(net)
    >>> networks.load_tensors(net, {n: t * kept[n] if n in kept else t for n, t in tensors.items()})
    >>> networks.narrowed(net).name
    '2C3-AP2-5FC'

    Raises:
        ConfigError: its layers do not stand in a row, or it has tensors that no layout has (learnt thresholds).
    """
    row = Row.of(net)
    assert isinstance(net, SpikingNetwork)
    tensors = state_tensors(net)
    alive = living_channels(net)
    small = _built(net, [int(living.sum()) for living in alive])
    cut = {}
    whole = [*alive, torch.ones(row.channels[-1], dtype=torch.bool)]
    for name, tensor in state_tensors(small).items():
        layer, own = name.split(".", 1)
        place = row.names.index(layer)
        if name not in tensors:
            continue  # told of below
        found = tensors[name]
        if own == "weight":
            found = found[whole[place]]
            if place:
                found = found[:, alive[place - 1].repeat_interleave(row.group(place))]
        elif found.dim():
            found = found[..., whole[place]] if found.shape[-1] == row.channels[place] else found
        cut[name] = found.reshape(tensor.shape)
    if tensors.keys() != cut.keys():
        raise ConfigError(
            f"'{min(tensors.keys() ^ cut.keys())}' is no tensor of a smaller network; narrow one without learnt "
            "thresholds or adapters"
        )
    load_tensors(small, cut)
    return small.train(net.training)


@torch.no_grad()
def living_channels(net: nn.Module) -> list[Tensor]:
    """Bool ``[C]`` of every layer but the last: the channels that `narrowed` keeps.

    Raises:
        ConfigError: its layers do not stand in a row.
    """
    row, tensors = Row.of(net), state_tensors(net)
    assert isinstance(net, SpikingNetwork)
    alive = row.alive(tensors)
    for place, living in enumerate(alive):
        living |= _shifted(tensors, row, place)
        if bool((row.read(tensors, place) & ~living).any()):
            living |= _fires(net, place) & row.read(tensors, place)
        if not living.any():
            living[0] = True
    return alive


def _fires(net: SpikingNetwork, place: int) -> Tensor:
    """Channels of which a neuron fires at a step without any input, ``[C]``: running means may move it too."""
    layer = net.layers[place]
    nothing = layer.weight.new_zeros(1, *layer.plan.in_shape)
    with in_eval_mode(layer):
        out = layer(nothing, net.steps, repeat=True)
    return (out != 0).transpose(0, 1).flatten(1).any(1).cpu()


def _shifted(tensors: Mapping[str, Tensor], row: Row, place: int) -> Tensor:
    """Channels whose bias or shift is not 0 and of which a weight leads out, ``[C]``: they may fire without input."""
    beside = [
        tensors[f"{row.names[place]}.{own}"] for own in ("bias", "norm.bias") if f"{row.names[place]}.{own}" in tensors
    ]
    moved = torch.zeros(row.channels[place], dtype=torch.bool)
    for tensor in beside:
        moved |= (tensor != 0).reshape(-1, row.channels[place]).any(0).cpu()
    return moved & row.read(tensors, place)


def _built(net: SpikingNetwork, channels: list[int]) -> SpikingNetwork:
    """A network of these channels and of the same settings, weights as they are drawn."""
    layout_of = network_info(net.name).layout
    assert layout_of is not None
    coded = net.layers[0].plan.in_shape
    layout = layout_of(coded)
    left = iter(channels)
    tokens = [re.sub(r"^\d+(?=C|FC)", lambda _: str(next(left)), token) for token in layout.split("-")]
    pooled = next((layer.plan for layer in net.layers if layer.plan.pool), None)
    strided = any(layer.plan.stride != 1 for layer in net.layers)
    pooling: Pooling = (
        "stride" if strided else "max" if pooled is not None and pooled.window.kind == "max" else "average"
    )
    layers = []
    for plan, whole in zip(parse_layout("-".join(tokens), coded, net.classes, pooling), net.layers, strict=True):
        assert isinstance(whole, SpikingLayer)
        norm = None if whole.norm is None else make_norm(whole.norm.mode, plan.map_shape[0], steps=net.steps)
        made = SpikingLayer(plan, bias=whole.bias is not None, norm=norm, neuron=whole.neuron)
        if norm is not None and whole.norm is not None:
            norm.alpha, norm.eps, norm.momentum = whole.norm.alpha, whole.norm.eps, whole.norm.momentum
        made.dropout = whole.dropout
        layers.append(made)
    small = SpikingNetwork(
        _spelt(net.name, "-".join(tokens)), net.input_shape, layers, steps=net.steps, encoder=net.encoder
    )
    small.precision = net.precision
    return small.to(net.layers[0].weight.device)


def _spelt(whole: str, layout: str) -> str:
    """What `networks.build` calls a network of this layout and of the other settings of ``whole``."""
    base = whole.partition(":")[0]
    if base[:1].isdigit():
        return layout
    settings = [
        replace(network_info(name), name="", summary="", source="", layout=None, graph=None) for name in (base, "small")
    ]
    return layout if settings[0] == settings[1] else f"{base}:{layout}"
