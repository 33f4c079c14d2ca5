"""The energy report of a network: one set of counts, every model's answer side by side, because they disagree."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spikefed.hardware import arithmetic, memory
from spikefed.hardware.arithmetic import FirstLayer
from spikefed.hardware.costs import FP32, INT32, Regime, regime
from spikefed.hardware.counts import LayerCounts, count_with_steps
from spikefed.hardware.spikesim import SpikeSim
from spikefed.hardware.training import Training, training_pj

PUBLISHED_BREAK_EVEN = 0.064
"""Spikes per neuron and step below which an SNN of T = 5 to 10 beats a quantised ANN with its memory: abstract of Yang
et al., arXiv 2409.08290 (its v4 says 0.057 at T = 5)."""


@dataclass(frozen=True)
class LayerEnergy:
    """One layer per image, pJ.

    Attributes:
        counts: what it did.
        ann_pj, paper_fp32_pj, paper_int32_pj: the paper formula for the ANN's layer and for this one.
        memory_bytes, simple_pj: the flat price per byte (`memory.simple_pj`).
        lemaire_pj, spikesim_pj: the other models.
    """

    counts: LayerCounts
    ann_pj: float
    paper_fp32_pj: float
    paper_int32_pj: float
    memory_bytes: float
    simple_pj: float
    lemaire_pj: float
    spikesim_pj: float


@dataclass(frozen=True)
class BreakEven:
    """Where the network stands against an ANN of the same layers.

    Attributes:
        against: the ANN and the model.
        rate: R at which both cost the same, spikes per input over all steps.
        measured: the network's own mean R.
        snn_pj, ann_pj: energy of both at the measured rate.
    """

    against: str
    rate: float
    measured: float
    snn_pj: float
    ann_pj: float

    @property
    def ratio(self) -> float:
        """ANN over SNN: above 1 the SNN is cheaper."""
        return self.ann_pj / self.snn_pj if self.snn_pj else float("inf")


@dataclass(frozen=True)
class EnergyReport:
    """Energy of one inference, and of training on one sample, averaged over the images that were shown.

    Attributes:
        network: its name.
        steps: T.
        bits: activation bits of the quantised ANN that tells as many values apart, ceil(log2(T + 1)); where real
            numbers enter the SNN, the ANN reads the same ones.
        weight_bits: of that ANN and of the SNN beside it.
        images: how many were shown.
        first_layer: how direct coding was charged.
        spiking: the network has neurons.
        layers: in the order in which they ran.
        break_even: against the ANN in FP32, the quantised ANN, and the quantised ANN with memory.
        training: arithmetic of one training sample.
    """

    network: str
    steps: int
    bits: int
    weight_bits: int
    images: int
    first_layer: FirstLayer
    spiking: bool
    layers: tuple[LayerEnergy, ...]
    break_even: tuple[BreakEven, ...]
    training: Training

    def total(self, name: str) -> float:
        """Sum over the layers of one of `LayerEnergy`'s numbers, such as ``paper_fp32_pj``."""
        return sum(getattr(layer, name) for layer in self.layers)

    @property
    def mac(self) -> float:
        """Multiply-accumulates per image."""
        charged = (c.macs * arithmetic.dense_passes(c, self.steps, self.first_layer) for c in self._counts() if c.dense)
        return float(sum(charged))

    @property
    def synops(self) -> float:
        """Synaptic operations per image: weights touched by spikes."""
        return sum(c.events for c in self._counts() if not c.dense)

    @property
    def spike_rates(self) -> dict[str, float]:
        """Spikes per neuron and step, by layer with neurons."""
        return {c.name: c.spike_rate for c in self._counts() if c.updates}

    def _counts(self) -> list[LayerCounts]:
        return [layer.counts for layer in self.layers]

    def totals(self) -> dict[str, Any]:
        """The report's one-line answer; energies in pJ per image."""
        return {
            "network": self.network,
            "T": self.steps,
            "bits": self.bits,
            "images": self.images,
            "first_layer": self.first_layer,
            "macs_dense": sum(c.macs for c in self._counts()),
            "mac": self.mac,
            "ac": self.synops,
            "synops": self.synops,
            "neuron_updates": sum(c.updates for c in self._counts()),
            "mean_input_rate": arithmetic.mean_rate(self._counts()),
            "spike_rate": self.spike_rates,
            "ann_fp32_pj": self.total("ann_pj"),
            "paper_formula_fp32_pj": self.total("paper_fp32_pj"),
            "paper_formula_int32_pj": self.total("paper_int32_pj"),
            "memory_bytes": self.total("memory_bytes"),
            "simple_with_memory_pj": self.total("simple_pj"),
            "lemaire_pj": self.total("lemaire_pj"),
            "spikesim_dense_pj": self.total("spikesim_pj"),
            "break_even": [asdict(row) | {"ratio": row.ratio} for row in self.break_even],
            "training_per_sample": asdict(self.training),
        }

    def to_json(self) -> str:
        """Totals and layers as JSON text; an infinite rate becomes null."""
        tree = {"totals": self.totals(), "layers": [asdict(layer) for layer in self.layers]}
        return json.dumps(_finite(tree), indent=1)

    def __str__(self) -> str:
        from spikefed.hardware.text import report_text

        return report_text(self)


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


def _finite(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_finite(value) for value in tree]
    return None if isinstance(tree, float) and tree in (float("inf"), float("-inf")) else tree
