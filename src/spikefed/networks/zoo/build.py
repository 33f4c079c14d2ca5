"""Building a named network: the spiking form, or its ANN twin."""

from __future__ import annotations

import difflib
from dataclasses import replace

import torch

from spikefed.errors import ConfigError
from spikefed.networks.graph import Graph, rectified_graph, spiking_graph
from spikefed.networks.init import copy_weights, initialise
from spikefed.networks.layers import ReLULayer, SpikingLayer
from spikefed.networks.layout import LayerPlan, check_sizes, parse_layout
from spikefed.networks.network import ANNNetwork, LayeredNetwork, Readout, SpikingNetwork
from spikefed.networks.norms import NORMS, Norm, make_norm
from spikefed.networks.pools import Pooling, check_pooling
from spikefed.networks.size import check_memory
from spikefed.networks.zoo.info import NetworkInfo, Wanted
from spikefed.networks.zoo.resnets import RESNETS
from spikefed.networks.zoo.rows import ROWS
from spikefed.networks.zoo.rvd import RVD
from spikefed.networks.zoo.snasnets import PREFIX, SNASNETS, cell_info
from spikefed.networks.zoo.supernets import SUPER, supernet_info
from spikefed.neurons import Encoder, LIFParameters, encoder

_BY_NAME = {info.name: info for info in (*ROWS, *RVD, *RESNETS, *SNASNETS)}


def networks() -> list[NetworkInfo]:
    """All named networks."""
    return list(_BY_NAME.values())


def network_info(name: str) -> NetworkInfo:
    """Defaults of a network by its name, or of the layout, cells or supernet that ``name`` spells.

    A layout has those of ``small``, and ``vgg16:40C3-AP2-60C3``, a name with a layout of one's own, those of the name.

    Raises:
        ConfigError: unknown name; the text names the nearest.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name[:1].isdigit():
        return replace(_BY_NAME["small"], name=name, layout=lambda _: name)
    base, _, layout = name.partition(":")
    if layout[:1].isdigit() and base in _BY_NAME and _BY_NAME[base].layout is not None:
        return replace(_BY_NAME[base], name=name, layout=lambda _: layout)
    if name.startswith(PREFIX):
        return cell_info(name)
    if name.startswith(SUPER):
        return supernet_info(name)
    near = difflib.get_close_matches(name, _BY_NAME, n=1, cutoff=0.4)
    others = (
        f"use one of {', '.join(_BY_NAME)}, a layout like 32C3-AP2-128FC, cells like cell:0303-0030-2002-0200, or a "
        "supernet like supernet:12334-12334-12334"
    )
    hint = f"did you mean '{near[0]}'?" if near else others
    raise ConfigError(f"network.name '{name}' is not known; {hint}")


def build(
    name: str,
    *,
    input_shape: tuple[int, ...],
    classes: int,
    steps: int,
    norm: str | None = None,
    coding: str | Encoder | None = None,
    neuron: LIFParameters | None = None,
    readout: Readout = "spike",
    pooling: Pooling | None = None,
    seed: int = 0,
    generator: torch.Generator | None = None,
) -> SpikingNetwork:
    """Build a spiking network; the same arguments give the same weights, bit for bit.

    Args:
        name: one of `networks`; a layout such as ``32C3-AP2-64C3-AP2-128FC``, which takes the other settings of
            ``small``, or of a name before it (``vgg16:40C3-AP2-60C3``); cells such as
            ``cell:0303-0030-2002-0200:width=32`` (`spikefed.networks.cells`); or a supernet such as
            ``supernet:12334-12334-12334:width=16``, or a part of one (`spikefed.networks.Space`).
        input_shape: ``(C, H, W)``.
        classes: number of outputs, at least 2.
        steps: T, at least 1.
        norm: ``none``, ``bn``, ``tdbn``, ``bntt`` or ``bn-step``; the network's own when None. Under it the readout of
            ``small`` is normalised too (silent at the start otherwise), those of the papers' networks are not.
        coding: ``direct``, ``bernoulli``, ``poisson``, ``latency`` or an encoder; the network's own when None.
        neuron: LIF of all layers; the network's own when None.
        readout: ``spike`` or ``current``.
        pooling: ``average``, ``max``, or ``stride`` (strides of 2 in convolutions in place of pools); the network's
            own when None.
        seed: seed of the initial weights, unless ``generator`` is given.
        generator: draws the initial weights; torch's global generator is never touched.

    Raises:
        ConfigError: unknown name, norm, coding, pooling or readout, T below 1, an input too small for the network, or
            weights that this machine's memory does not hold.
    """
    info = network_info(name)
    if info.ann:
        raise ConfigError(f"network '{name}' has no spiking form; set network.twin = 'ann', or call ann_twin")
    norm = _norm_name(info, norm)
    if readout not in ("spike", "current"):
        raise ConfigError(f"network.readout '{readout}' is not known; use 'spike' or 'current'")
    if steps < 1:
        raise ConfigError(f"a network needs at least 1 time step but network.steps is {steps}; 8 is the papers' choice")
    neuron = neuron or info.neuron
    coder = encoder(info.coding if coding is None else coding)
    check_sizes(tuple(input_shape), classes)
    coded = (input_shape[0] * coder.widens, *input_shape[1:])
    if info.layout is None:
        graph = _drawn(info, coded, classes, readout == "spike", pooling)
        net = spiking_graph(name, graph, input_shape, norm=norm, neuron=neuron, steps=steps, encoder=coder)
    else:
        plans = parse_layout(info.layout(coded), coded, classes, pooling or info.pooling)
        check_memory(name, plans, norm, steps)
        layers = _spiking_layers(info, plans, norm, neuron, readout, steps)
        net = SpikingNetwork(name, input_shape, layers, steps=steps, encoder=coder)
    _initialise(net, info, seed, generator, coder.name)
    return net


def ann_twin(
    name: str,
    *,
    input_shape: tuple[int, ...],
    classes: int,
    norm: str | None = None,
    pooling: Pooling | None = None,
    seed: int = 0,
    generator: torch.Generator | None = None,
) -> ANNNetwork:
    """The ANN twin of `build(name, ...)`: same layers, ReLU, ordinary batch norm where the spiking network has a norm.

    The initial weights are those of the spiking network of the same seed. Arguments and errors as in `build`.

    Args:
        name: of the spiking network.
        input_shape: ``(C, H, W)``.
        classes: width of the output.
        norm: in place of the network's own.
        pooling: in place of the network's own.
        seed: of the initial weights.
        generator: draws them instead of ``seed``.
    """
    info = network_info(name)
    norm = _norm_name(info, norm)
    if info.layout is None:
        graph = _drawn(info, input_shape, classes, False, pooling)
        twin = rectified_graph(name, graph, input_shape, norm=norm)
        # What the twin leaves out is drawn as well, so that the rest is as in the spiking network.
        settings = {"norm": norm, "neuron": info.neuron, "steps": 1, "encoder": encoder("direct")}
        whole = spiking_graph(name, graph, input_shape, **settings)
        _initialise(whole, info, seed, generator)
        copy_weights(whole, twin)
        return twin
    plans = parse_layout(info.layout(tuple(input_shape)), tuple(input_shape), classes, pooling or info.pooling)
    check_memory(name, plans, norm, 1)
    net = ANNNetwork(name, input_shape, _relu_layers(info, plans, norm))
    _initialise(net, info, seed, generator)
    return net


def _norm_name(info: NetworkInfo, norm: str | None) -> str:
    norm = info.norm if norm is None else norm
    if norm not in NORMS:
        raise ConfigError(f"network.norm '{norm}' is not known; use one of {', '.join(NORMS)}")
    return norm


def _drawn(
    info: NetworkInfo, input_shape: tuple[int, ...], classes: int, spiking: bool, pooling: Pooling | None
) -> Graph:
    check_sizes(tuple(input_shape), classes)
    pooling = pooling or info.pooling
    check_pooling(pooling)
    assert info.graph is not None
    return info.graph(Wanted(tuple(input_shape), classes, spiking, pooling, info.readout_norm))


def _spiking_layers(
    info: NetworkInfo, plans: list[LayerPlan], norm: str, neuron: LIFParameters, readout: Readout, steps: int
) -> list[SpikingLayer]:
    layers = []
    for plan in plans:
        last = plan is plans[-1]
        normed = not last or (info.readout_norm and readout == "spike")
        layer_norm = make_norm(norm, plan.map_shape[0], steps=steps) if normed else None
        layer_neuron = None if last and readout == "current" else neuron
        layers.append(SpikingLayer(plan, bias=_biased(info, layer_norm), norm=layer_norm, neuron=layer_neuron))
    return layers


def _relu_layers(info: NetworkInfo, plans: list[LayerPlan], norm: str) -> list[ReLULayer]:
    layers = []
    for plan in plans:
        last = plan is plans[-1]
        layer_norm = None if last or norm == "none" else make_norm("bn", plan.map_shape[0], steps=1)
        bias = _biased(info, layer_norm)
        dropout = 0.0
        if info.ann:  # as the public code has it: no norm on linear layers, usual statistics, no dropout beside a pool
            conv = plan.kind == "conv"
            layer_norm = layer_norm and (Norm("bn", plan.map_shape[0]) if conv else None)
            dropout = 0.0 if last or plan.pool else info.dropout[0 if conv else 1]
        layers.append(ReLULayer(plan, bias=bias, norm=layer_norm, rectify=not last, dropout=dropout))
    return layers


def _biased(info: NetworkInfo, norm: Norm | None) -> bool:
    return info.bias == "all" or (info.bias == "auto" and norm is None)


def _initialise(
    net: LayeredNetwork, info: NetworkInfo, seed: int, generator: torch.Generator | None, coding: str = "direct"
) -> None:
    """Draw the weights as the network's source does."""
    draw = torch.Generator().manual_seed(seed) if generator is None else generator
    if info.initial is not None:
        info.initial(net, draw)
    else:
        initialise(net, draw, info.gains.get(coding, info.xavier_gain))
