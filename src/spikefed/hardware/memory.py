"""Two models that charge memory as well: a flat price per byte, and SRAMs whose price grows with their size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

from spikefed.hardware.arithmetic import FirstLayer, dense_passes, operations_pj
from spikefed.hardware.costs import INT32, MEMORY_PJ_PER_BYTE, Regime, sram_pj_per_word
from spikefed.hardware.counts import LayerCounts

FIFO_WORDS = 1000
"""Messages that the input or output queue of a layer holds (Lemaire et al. 2022)."""


def memory_bytes(layer: LayerCounts, steps: int, first_layer: FirstLayer, bytes_per_number: float = 4) -> float:
    """Bytes moved per image: a weight for every operation, a bias for every output, potentials in and out every step.

    Input and output spikes, queues and caches are left out.

    Args:
        layer: counts of one layer.
        steps: T.
        first_layer: how the image enters.
        bytes_per_number: of weights and potentials.
    """
    passes = dense_passes(layer, steps, first_layer) if layer.dense else layer.passes
    weights = layer.macs * passes if layer.dense else layer.events
    biases = layer.outputs * passes if layer.bias else 0
    return bytes_per_number * (weights + biases + 2 * layer.updates)


def simple_pj(layer: LayerCounts, regime: Regime, steps: int, first_layer: FirstLayer = "once") -> float:
    """Operations plus `MEMORY_PJ_PER_BYTE` for every byte of `memory_bytes`; synaptic events counted exactly.

    Args:
        layer: counts of one layer.
        regime: number format of the hardware.
        steps: T.
        first_layer: how the image enters.
    """
    mac = layer.macs * dense_passes(layer, steps, first_layer) if layer.dense else 0
    ac = 0 if layer.dense else layer.events
    moved = memory_bytes(layer, steps, first_layer, regime.bits / 8)
    return operations_pj(mac, ac, regime) + MEMORY_PJ_PER_BYTE * moved


@dataclass(frozen=True)
class Lemaire:
    """Energy by the analytical model of Lemaire et al. (2022, arXiv 2210.13107): 32-bit integers, local SRAMs; pJ.

    Attributes:
        operations_pj: multiplications and additions of synapses, biases and neurons.
        addressing_pj: arithmetic on addresses.
        queues_pj: inputs read and outputs written.
        parameters_pj: weights and biases read.
        potentials_pj: potentials read and written, by synapses and by neurons.
    """

    operations_pj: float
    addressing_pj: float
    queues_pj: float
    parameters_pj: float
    potentials_pj: float

    @property
    def total_pj(self) -> float:
        """The sum."""
        return self.operations_pj + self.addressing_pj + self.queues_pj + self.parameters_pj + self.potentials_pj


def lemaire(
    layer: LayerCounts, steps: int, first_layer: FirstLayer = "once", *, network_spikes: bool = True
) -> Lemaire:
    """The model for one layer.

    Args:
        network_spikes: the network has neurons; without any, every output is written to a memory of its own.
    """
    conv = layer.kind == "conv"
    fan_out = layer.out_channels // layer.groups * prod(layer.kernel)  # weights that one input value reaches
    fifo = 4 * FIFO_WORDS
    mac = 0.0
    ac = 0.0
    address_ac = 0.0
    address_mac = 0.0
    queues = potentials = 0.0
    if layer.dense:
        passes = dense_passes(layer, steps, first_layer)
        weights = mac = layer.macs * passes
        windows = layer.uses * layer.out_channels * prod(layer.kernel) if conv else 0
        address_ac = (layer.inputs + layer.outputs + windows) * passes
        read = layer.macs * passes if conv else layer.inputs * passes
        queues += read * sram_pj_per_word(4 * layer.inputs)
        if not network_spikes:
            queues += layer.outputs * passes * sram_pj_per_word(4 * layer.outputs)
    else:
        passes = layer.passes
        weights = layer.active * fan_out
        reached = prod(ceil(k / s) for k, s in zip(layer.kernel, layer.stride, strict=True))
        ac = layer.active * (layer.out_channels // layer.groups) * reached
        address_ac = weights
        address_mac = 2 * layer.active if conv else 0.0
        queues += layer.active * sram_pj_per_word(fifo)
        potentials += 2 * weights * sram_pj_per_word(4 * layer.outputs)
    biases = layer.outputs * passes if layer.bias else 0.0
    potentials += 2 * layer.updates * sram_pj_per_word(4 * layer.neurons)
    queues += layer.spikes * sram_pj_per_word(fifo)
    mac += layer.updates if layer.leaky else 0.0
    ac += biases + layer.spikes
    return Lemaire(
        operations_pj(mac, ac, INT32),
        operations_pj(address_mac, address_ac, INT32),
        queues,
        (weights + biases) * sram_pj_per_word(4 * layer.parameters),
        potentials,
    )


def has_neurons(layers: Sequence[LayerCounts]) -> bool:
    """True when any layer spikes."""
    return any(layer.updates for layer in layers)
