"""Energy of the arithmetic alone: the formula of the BNTT, federated-SNN and PrivateSNN papers, and its break-even.

E_ANN = e_mac * sum_l F_l and E_SNN = e_ac * sum_l F_l R_l, with F_l the dense operations of a layer and R_l the spikes
of its input over all T steps divided by the size of the input. What it leaves out: memory, neuron updates,
normalisation, training, the radio; and a mean of pooled spikes costs an addition although it is not binary.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log2
from typing import Any, Literal

from spikefed.errors import ConfigError
from spikefed.hardware.costs import MEMORY_PJ_PER_BYTE, Regime
from spikefed.hardware.counts import LayerCounts

FirstLayer = Literal["once", "every-step"]
"""Direct coding: the first layer's current is computed once and kept, or again in each of the T steps."""


def operations_pj(mac: float, ac: float, regime: Regime) -> float:
    """Energy of so many multiply-accumulates and additions."""
    return mac * regime.mac_pj + ac * regime.add_pj


def dense_passes(layer: LayerCounts, steps: int, first_layer: FirstLayer) -> float:
    """Passes of a layer with real input that are charged.

    Raises:
        ConfigError: ``first_layer`` is neither ``once`` nor ``every-step``.
    """
    if first_layer in ("once", "every-step"):
        return layer.passes if not layer.constant else 1.0 if first_layer == "once" else float(steps)
    raise ConfigError(f"first_layer '{first_layer}' is not known; use 'once' or 'every-step'")


def paper_pj(layer: LayerCounts, regime: Regime, steps: int, first_layer: FirstLayer = "once") -> float:
    """The paper formula of one layer: F_l R_l additions, or F_l MACs where real numbers enter.

    Args:
        layer: counts of one layer.
        regime: number format of the hardware.
        steps: T.
        first_layer: how the image enters.
    """
    if layer.dense:
        return operations_pj(layer.macs * dense_passes(layer, steps, first_layer), 0, regime)
    return operations_pj(0, layer.macs * layer.input_rate, regime)


def ann_pj(layers: Sequence[LayerCounts], regime: Regime) -> float:
    """The ANN of the same layers: every operation a MAC, once."""
    return operations_pj(sum(layer.macs for layer in layers), 0, regime)


def activation_bits(steps: int) -> int:
    """ceil(log2(T + 1)): bits of an activation that tells as many values apart as a spike count over T steps."""
    return max(1, ceil(log2(steps + 1)))


def mean_rate(layers: Sequence[LayerCounts]) -> float:
    """Mean of R_l over the layers that spikes enter, weighted by their operations; 0 without such layers."""
    driven = [layer for layer in layers if not layer.dense]
    total = sum(layer.macs for layer in driven)
    return sum(layer.macs * layer.input_rate for layer in driven) / total if total else 0.0


def both_pj(
    layers: Sequence[LayerCounts],
    steps: int,
    *,
    ann_mac_pj: float,
    regime: Regime,
    first_layer: FirstLayer = "once",
    memory: bool = False,
    rate: float | None = None,
    state_bytes: int = 4,
) -> tuple[float, float]:
    """Energy of the SNN and of an ANN of the same layers, F_l R_l additions against F_l MACs.

    A layer that real numbers enter (the image) reads the same numbers in both, so its MAC costs the same in both.

    Args:
        ann_mac_pj: one MAC of the ANN's other layers, those that spikes enter in the SNN.
        regime: of the SNN's additions, and of the MACs of layers that real numbers enter, on both sides.
        memory: add `MEMORY_PJ_PER_BYTE` for the weight of every operation on both sides, and for reading and writing
            every potential in every step.
        rate: R of every layer that spikes enter; the measured ones when None.
        state_bytes: of a potential.
    """
    weight_pj = MEMORY_PJ_PER_BYTE * regime.bits / 8 if memory else 0.0
    ann = sum(layer.macs * ((regime.mac_pj if layer.dense else ann_mac_pj) + weight_pj) for layer in layers)
    snn = 2 * MEMORY_PJ_PER_BYTE * state_bytes * sum(layer.updates for layer in layers) if memory else 0.0
    for layer in layers:
        if layer.dense:
            snn += layer.macs * dense_passes(layer, steps, first_layer) * (regime.mac_pj + weight_pj)
        else:
            snn += layer.macs * (layer.input_rate if rate is None else rate) * (regime.add_pj + weight_pj)
    return snn, ann


def break_even(layers: Sequence[LayerCounts], steps: int, **settings: Any) -> float:
    """The R (spikes per input over all T steps, the same in every layer) at which `both_pj` gives equal energies.

    Below 0 the SNN cannot win even without a spike; infinite without layers that spikes enter.
    """
    silent, ann = both_pj(layers, steps, rate=0.0, **settings)
    slope = both_pj(layers, steps, rate=1.0, **settings)[0] - silent
    return (ann - silent) / slope if slope else float("inf")
