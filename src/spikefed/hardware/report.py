"""What an energy estimate says: layers, totals, break-even points, as values, JSON and a table for the terminal."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from spikefed.hardware import arithmetic
from spikefed.hardware.arithmetic import FirstLayer
from spikefed.hardware.costs import MEMORY_PJ_PER_BYTE
from spikefed.hardware.counts import LayerCounts
from spikefed.hardware.text import aligned, energy
from spikefed.hardware.training import Training

HEAD = ("layer", "input", "MACs", "R", "spikes/step", "synops", "ANN", "SNN fp32", "with memory", "Lemaire", "SpikeSim")
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
        head = f"{self.network}, T = {self.steps}, energy of one inference, mean of {self.images} images"
        return "\n".join(
            [head, *aligned(_table(self)), *_comparison(self), _training_line(self.training, self.spiking)]
        )


def _table(report: EnergyReport) -> list[tuple[str, ...]]:
    """Heading, a row a layer, totals."""
    return [HEAD, *(_layer_row(layer, report.spiking) for layer in report.layers), _total_row(report)]


def _layer_row(layer: LayerEnergy, spiking: bool) -> tuple[str, ...]:
    c = layer.counts
    return (
        c.name,
        c.input,
        f"{c.macs:,}",
        "" if c.dense else f"{c.input_rate:.3f}",
        f"{c.spike_rate:.3f}" if c.updates else "",
        "" if c.dense else f"{c.events:,.0f}",
        energy(layer.ann_pj),
        energy(layer.paper_fp32_pj) if spiking else "",
        energy(layer.simple_pj),
        energy(layer.lemaire_pj),
        energy(layer.spikesim_pj) if layer.spikesim_pj else "",
    )


def _total_row(report: EnergyReport) -> tuple[str, ...]:
    counts = [layer.counts for layer in report.layers]
    return (
        "total",
        "",
        f"{sum(c.macs for c in counts):,}",
        f"{arithmetic.mean_rate(counts):.3f}" if report.spiking else "",
        "",
        f"{report.synops:,.0f}" if report.spiking else "",
        energy(report.total("ann_pj")),
        energy(report.total("paper_fp32_pj")) if report.spiking else "",
        energy(report.total("simple_pj")),
        energy(report.total("lemaire_pj")),
        energy(report.total("spikesim_pj")) if report.spiking else "",
    )


def _comparison(report: EnergyReport) -> list[str]:
    """Where the network stands against ANNs of the same layers; nothing for an ANN."""
    if not report.spiking:
        return []
    return [
        f"int32 arithmetic: {energy(report.total('paper_int32_pj'))}; memory moved: "
        f"{report.total('memory_bytes'):,.0f} bytes at {MEMORY_PJ_PER_BYTE:g} pJ",
        "against an ANN of the same layers (R: spikes per input over all steps; per step in brackets):",
        *(_break_even_line(row, report.steps) for row in report.break_even),
        f"  published: below {PUBLISHED_BREAK_EVEN:.1%} per step at T = 5 to 10 (arXiv 2409.08290)",
    ]


def _break_even_line(row: BreakEven, steps: int) -> str:
    # Without a spike left to save, no rate is low enough.
    even = f"R < {row.rate:.2f} ({row.rate / steps:.3f})" if row.rate > 0 else "no rate low enough"
    return (
        f"  {row.against}: SNN {energy(row.snn_pj)}, ANN {energy(row.ann_pj)}, ANN/SNN {row.ratio:.2f}; "
        f"the SNN wins at {even}, measured {row.measured:.2f} ({row.measured / steps:.3f})"
    )


def _training_line(t: Training, spiking: bool) -> str:
    snn = f", SNN {energy(t.snn_pj)} (dense {energy(t.snn_dense_pj)})" if spiking else ""
    return f"training, one sample, arithmetic: ANN {energy(t.ann_pj)}{snn}"


def _finite(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_finite(value) for value in tree]
    return None if isinstance(tree, float) and tree in (float("inf"), float("-inf")) else tree
