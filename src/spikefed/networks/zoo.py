"""Named networks and how to build them."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch

from spikefed.errors import ConfigError
from spikefed.networks.init import initialise, initialise_relu
from spikefed.networks.layers import ReLULayer, SpikingLayer
from spikefed.networks.layout import parse_layout
from spikefed.networks.network import ANNNetwork, Readout, SpikingNetwork
from spikefed.networks.norms import NORMS, Norm, make_norm
from spikefed.neurons import Encoder, LIFParameters, Rectangle, Triangle, encoder


@dataclass(frozen=True)
class NetworkInfo:
    """A network's defaults.

    Attributes:
        name: what a config says.
        summary: one line.
        source: paper.
        layout: layout text for an input shape.
        neuron: LIF of every layer, the readout included.
        norm: normalisation of the hidden layers.
        coding: input coding.
        bias: ``all`` layers, ``none``, or ``auto``: those that no norm follows.
        readout_norm: a spiking readout is normalised like the hidden layers.
        xavier_gain: gain of the Xavier uniform initial weights; None for +-1 / sqrt(fan_in).
        pixels: range of input pixels that the paper's coding expects: ``unit`` [0, 1] or ``signed`` [-1, 1].
        ann: `ann_twin` builds it; there is no spiking form.
        dropout: of that ANN, after convolutions without a pool and after hidden linear layers.
    """

    name: str
    summary: str
    source: str
    layout: Callable[[tuple[int, ...]], str]
    neuron: LIFParameters
    norm: str
    coding: str
    bias: Literal["all", "none", "auto"]
    readout_norm: bool
    xavier_gain: float | None
    pixels: str
    ann: bool = False
    dropout: tuple[float, float] = (0.0, 0.0)


def small_layout(input_shape: tuple[int, ...]) -> str:
    """Layout of ``small`` for an input size: under 300,000 weights with 10 classes, for images up to 96x96.

    ==================  =================================  ==============
    longer side         layout                             weights
    ==================  =================================  ==============
    a side of 1         128FC-64FC (series, rows)          10 k at 6x1x1
    below 16 (digits)   16C3-32C3-AP2-64FC                 38 k at 8x8
    16 to 29 (MNIST)    16C3-AP2-32C3-AP2-128FC            207 k at 28x28
    from 30 (CIFAR)     16C3-AP2-32C3-AP2, then 64C3-AP2   156 k at 32x32
                        until a side is at most 4, 128FC
    ==================  =================================  ==============
    """
    short, long = min(input_shape[1:]), max(input_shape[1:])
    if short == 1:
        return series_layout(input_shape)
    if long < 16 or short < 4:
        return "16C3-32C3-AP2-64FC"
    if long < 30:
        return "16C3-AP2-32C3-AP2-128FC"
    pools = min((long // 5).bit_length(), short.bit_length() - 1)
    return "-".join(["16C3-AP2-32C3-AP2", *["64C3-AP2"] * (pools - 2), "128FC"])


def series_layout(input_shape: tuple[int, ...]) -> str:
    """Layout of ``small-1d``: two hidden linear layers on the numbers of a time step, whose neurons remember."""
    return "128FC-64FC"


_ZOO = (
    NetworkInfo(
        name="cifarnet",
        summary="CIFARNet of DTSNN: 5 convolutions, 3 linear layers, biases, no norm (45.0 M weights at 3x32x32)",
        source="Wu et al., AAAI 2019; sizes as in Liu et al. 2022 (FSD)",
        layout=lambda _: "128C3-256C3-AP2-512C3-AP2-1024C3-512C3-1024FC-512FC",
        neuron=LIFParameters(kind="hard", decay=0.1, v_threshold=0.25, surrogate=Rectangle(1.0)),
        norm="none",
        coding="bernoulli",
        bias="all",
        readout_norm=False,
        xavier_gain=None,
        pixels="unit",
    ),
    NetworkInfo(
        name="vgg9-bntt",
        summary="V-SNN: VGG9 without biases, batch norm through time, soft reset (5.9 M weights at 3x32x32)",
        source="Venkatesha et al., IEEE TSP 2021; Kim and Panda 2021",
        layout=lambda _: "64C3-64C3-AP2-128C3-128C3-AP2-256C3-256C3-256C3-AP2-1024FC",
        neuron=LIFParameters(kind="soft", decay=0.95, v_threshold=1.0, surrogate=Triangle(0.3), detach_reset=True),
        norm="bntt",
        coding="poisson",
        bias="none",
        readout_norm=False,
        xavier_gain=2.0,
        pixels="signed",
    ),
    NetworkInfo(
        name="vgg9-lab-ann",
        summary="the larger ANN that V-SNN compares with: 4 pools, 2 hidden linear layers, dropout (22.7 M weights)",
        source="Venkatesha et al., IEEE TSP 2021, public code",
        layout=lambda _: "64C3-AP2-64C3-128C3-AP2-128C3-256C3-AP2-256C3-AP2-256C3-4096FC-4096FC",
        neuron=LIFParameters(decay=0.95, v_threshold=1.0),
        norm="bn",
        coding="direct",
        bias="none",
        readout_norm=False,
        xavier_gain=None,
        pixels="signed",
        ann=True,
        dropout=(0.3, 0.5),
    ),
    NetworkInfo(
        name="small",
        summary="convolutional network under 300,000 weights, sized to the input, for two CPU cores",
        source="this project",
        layout=small_layout,
        # Best of eight tried on 2,500 Fashion-MNIST images (3 seeds, 6 epochs: 84.9 %; with the rectangle 84.0 %).
        neuron=LIFParameters(kind="hard", decay=0.5, v_threshold=1.0, surrogate=Triangle(gamma=1.0)),
        norm="bn",
        coding="direct",
        bias="auto",
        readout_norm=True,
        xavier_gain=None,
        pixels="unit",
    ),
    NetworkInfo(
        name="small-1d",
        summary="linear layers for series and rows of numbers: each time step sees its values, the neurons the past",
        source="this project",
        layout=series_layout,
        neuron=LIFParameters(kind="soft", decay=0.9, v_threshold=1.0, surrogate=Triangle(gamma=1.0)),
        norm="bn",
        coding="direct",
        bias="auto",
        readout_norm=True,
        xavier_gain=None,
        pixels="unit",
    ),
)
_BY_NAME = {info.name: info for info in _ZOO}


def networks() -> list[NetworkInfo]:
    """All named networks."""
    return list(_ZOO)


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
    seed: int = 0,
    generator: torch.Generator | None = None,
) -> SpikingNetwork:
    """Build a spiking network; the same arguments give the same weights, bit for bit.

    Args:
        name: ``cifarnet``, ``vgg9-bntt``, ``small``, or a layout such as ``32C3-AP2-64C3-AP2-128FC``, which takes
            the other settings of ``small``.
        input_shape: ``(C, H, W)``.
        classes: number of outputs, at least 2.
        steps: T, at least 1.
        norm: ``none``, ``bn``, ``tdbn`` or ``bntt``; the network's own when None. Under it the readout of
            ``small`` is normalised too (silent at the start otherwise), those of the papers' networks are not.
        coding: ``direct``, ``bernoulli``, ``poisson`` or an encoder; the network's own when None.
        neuron: LIF of all layers; the network's own when None.
        readout: ``spike`` or ``current``.
        seed: seed of the initial weights, unless ``generator`` is given.
        generator: draws the initial weights; torch's global generator is never touched.

    Raises:
        ConfigError: unknown name, norm, coding or readout, T below 1, or an input too small for the network.
    """
    info = _lookup(name)
    if info.ann:
        raise ConfigError(f"network '{name}' has no spiking form; set network.twin = 'ann', or call ann_twin")
    norm = info.norm if norm is None else norm
    if norm not in NORMS:
        raise ConfigError(f"network.norm '{norm}' is not known; use one of {', '.join(NORMS)}")
    if readout not in ("spike", "current"):
        raise ConfigError(f"network.readout '{readout}' is not known; use 'spike' or 'current'")
    if steps < 1:
        raise ConfigError(f"a network needs at least 1 time step but network.steps is {steps}; 8 is the papers' choice")
    coder = encoder(info.coding if coding is None else coding)
    channels, height, width = input_shape if len(input_shape) == 3 else (0, 0, 0)  # another shape is refused below
    coded = (channels * coder.widens, height, width) if channels else tuple(input_shape)
    plans = parse_layout(info.layout(coded), coded, classes)
    layers = []
    for plan in plans:
        last = plan is plans[-1]
        normed = not last or (info.readout_norm and readout == "spike")
        layer_norm = make_norm(norm, plan.map_shape[0], steps=steps) if normed else None
        layer_neuron = None if last and readout == "current" else neuron or info.neuron
        bias = info.bias == "all" or (info.bias == "auto" and layer_norm is None)
        layers.append(SpikingLayer(plan, bias=bias, norm=layer_norm, neuron=layer_neuron))
    net = SpikingNetwork(name, input_shape, layers, steps=steps, encoder=coder)
    initialise(net, _generator(seed, generator), info.xavier_gain)
    return net


def ann_twin(
    name: str,
    *,
    input_shape: tuple[int, ...],
    classes: int,
    norm: str | None = None,
    seed: int = 0,
    generator: torch.Generator | None = None,
) -> ANNNetwork:
    """The ANN twin of `build(name, ...)`: same layers, ReLU, ordinary batch norm where the spiking network has a norm.

    The initial weights are those of the spiking network of the same seed. Arguments and errors as in `build`.
    """
    info = _lookup(name)
    norm = info.norm if norm is None else norm
    if norm not in NORMS:
        raise ConfigError(f"network.norm '{norm}' is not known; use one of {', '.join(NORMS)}")
    plans = parse_layout(info.layout(tuple(input_shape)), tuple(input_shape), classes)
    layers = []
    for plan in plans:
        last = plan is plans[-1]
        layer_norm = None if last or norm == "none" else make_norm("bn", plan.map_shape[0], steps=1)
        bias = info.bias == "all" or (info.bias == "auto" and layer_norm is None)
        dropout = 0.0
        if info.ann:  # as the public code has it: no norm on linear layers, usual statistics, no dropout beside a pool
            conv = plan.kind == "conv"
            layer_norm = layer_norm and (Norm("bn", plan.map_shape[0]) if conv else None)
            dropout = 0.0 if last or plan.pool else info.dropout[0 if conv else 1]
        layers.append(ReLULayer(plan, bias=bias, norm=layer_norm, rectify=not last, dropout=dropout))
    net = ANNNetwork(name, input_shape, layers)
    if info.ann:
        initialise_relu(net, _generator(seed, generator))
    else:
        initialise(net, _generator(seed, generator), info.xavier_gain)
    return net


def _generator(seed: int, generator: torch.Generator | None) -> torch.Generator:
    return torch.Generator().manual_seed(seed) if generator is None else generator


def _lookup(name: str) -> NetworkInfo:
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name[:1].isdigit():
        return replace(_BY_NAME["small"], name=name, layout=lambda _: name)
    near = difflib.get_close_matches(name, _BY_NAME, n=1, cutoff=0.4)
    hint = (
        f"did you mean '{near[0]}'?" if near else f"use one of {', '.join(_BY_NAME)}, or a layout like 32C3-AP2-128FC"
    )
    raise ConfigError(f"network.name '{name}' is not known; {hint}")
