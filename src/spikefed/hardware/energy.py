"""The energy report of a network: one set of counts, every model's answer side by side, because they disagree."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spikefed.hardware import arithmetic, memory
from spikefed.hardware.arithmetic import FirstLayer
from spikefed.hardware.costs import FP32, INT32, Regime, regime
from spikefed.hardware.counts import LayerCounts, count_with_steps
from spikefed.hardware.report import BreakEven, EnergyReport, LayerEnergy
from spikefed.hardware.spikesim import SpikeSim
from spikefed.hardware.training import training_pj


def energy_report(
    net: nn.Module,
    images: Tensor,
    *,
    generator: torch.Generator | None = None,
    first_layer: FirstLayer = "once",
    weight_bits: int = 8,
    chip: SpikeSim | None = None,
    steps: int | None = None,
) -> EnergyReport:
    """Count what ``net`` does on ``images`` and price it by every model.

    Args:
        net: a network of this package, or any module whose weights are ``nn.Linear`` and ``nn.Conv*d``.
        images: network input ``[B, C, H, W]``, pixels already scaled; some hundreds give steady rates.
        generator: source of the input coding's randomness.
        first_layer: direct coding charged ``once`` or in ``every-step``.
        weight_bits: 8 or 32, of the quantised ANN and of the SNN beside it.
        chip: the crossbars of the SpikeSim line.
        steps: T of a module that has no attribute ``steps``, where `count_operations` would not see it.

    Raises:
        ConfigError: nothing to count, or an unknown ``first_layer`` or ``weight_bits``.
    """
    numbers = regime(f"int{weight_bits}")
    layers, steps = count_with_steps(net, images, generator, steps=steps)
    chip = chip or SpikeSim()
    spiking = memory.has_neurons(layers)
    rows = tuple(
        LayerEnergy(
            counts=c,
            ann_pj=arithmetic.ann_pj([c], FP32),
            paper_fp32_pj=arithmetic.paper_pj(c, FP32, steps, first_layer),
            paper_int32_pj=arithmetic.paper_pj(c, INT32, steps, first_layer),
            memory_bytes=memory.memory_bytes(c, steps, first_layer),
            simple_pj=memory.simple_pj(c, FP32, steps, first_layer),
            lemaire_pj=memory.lemaire(c, steps, first_layer, network_spikes=spiking).total_pj,
            spikesim_pj=chip.energy_pj(c, steps) if spiking else 0.0,
        )
        for c in layers
    )
    bits = arithmetic.activation_bits(steps)
    comparisons = (
        (f"FP32 ANN, arithmetic ({FP32.mac_pj:g} and {FP32.add_pj:g} pJ)", FP32.mac_pj, FP32, False),
        (f"{bits}-bit ANN, int{weight_bits} weights, arithmetic", numbers.quantised_mac_pj(bits), numbers, False),
        (f"{bits}-bit ANN, int{weight_bits} weights, with memory", numbers.quantised_mac_pj(bits), numbers, True),
    )
    found = tuple(_compare(layers, steps, first_layer, *c) for c in comparisons) if spiking else ()
    return EnergyReport(
        network=str(getattr(net, "name", type(net).__name__)),
        steps=steps,
        bits=bits,
        weight_bits=weight_bits,
        images=len(images),
        first_layer=first_layer,
        spiking=spiking,
        layers=rows,
        break_even=found,
        training=training_pj(layers, steps, first_layer),
    )


def _compare(
    layers: list[LayerCounts],
    steps: int,
    first_layer: FirstLayer,
    against: str,
    ann_mac_pj: float,
    numbers: Regime,
    with_memory: bool,
) -> BreakEven:
    """Both energies at the measured rates; at the break-even rate in every layer they are equal."""
    snn, ann = arithmetic.both_pj(
        layers, steps, ann_mac_pj=ann_mac_pj, regime=numbers, first_layer=first_layer, memory=with_memory
    )
    rate = arithmetic.break_even(
        layers, steps, ann_mac_pj=ann_mac_pj, regime=numbers, first_layer=first_layer, memory=with_memory
    )
    return BreakEven(against, rate, arithmetic.mean_rate(layers), snn, ann)
