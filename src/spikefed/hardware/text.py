"""The energy report as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spikefed.hardware.arithmetic import mean_rate
from spikefed.hardware.costs import MEMORY_PJ_PER_BYTE

if TYPE_CHECKING:
    from spikefed.hardware.energy import EnergyReport

HEAD = ("layer", "input", "MACs", "R", "spikes/step", "synops", "ANN", "SNN fp32", "with memory", "Lemaire", "SpikeSim")


def energy(pj: float) -> str:
    """Energy with a unit: 12.3 nJ, 1.4 uJ, 0.896 mJ."""
    for factor, unit in ((1e12, "J"), (1e9, "mJ"), (1e6, "uJ"), (1e3, "nJ")):
        if abs(pj) >= 0.1 * factor:
            return f"{pj / factor:.3g} {unit}"
    return f"{pj:.3g} pJ"


def report_text(report: EnergyReport) -> str:
    """Layers, totals of every model, break-even lines, training."""
    from spikefed.hardware.energy import PUBLISHED_BREAK_EVEN

    counts = [layer.counts for layer in report.layers]
    rows = [
        (
            c.name,
            c.input,
            f"{c.macs:,}",
            "" if c.dense else f"{c.input_rate:.3f}",
            f"{c.spike_rate:.3f}" if c.updates else "",
            "" if c.dense else f"{c.events:,.0f}",
            energy(layer.ann_pj),
            energy(layer.paper_fp32_pj) if report.spiking else "",
            energy(layer.simple_pj),
            energy(layer.lemaire_pj),
            energy(layer.spikesim_pj) if layer.spikesim_pj else "",
        )
        for layer, c in zip(report.layers, counts, strict=True)
    ]
    total = (
        "total",
        "",
        f"{sum(c.macs for c in counts):,}",
        f"{mean_rate(counts):.3f}" if report.spiking else "",
        "",
        f"{report.synops:,.0f}" if report.spiking else "",
        energy(report.total("ann_pj")),
        energy(report.total("paper_fp32_pj")) if report.spiking else "",
        energy(report.total("simple_pj")),
        energy(report.total("lemaire_pj")),
        energy(report.total("spikesim_pj")) if report.spiking else "",
    )
    table = [HEAD, *rows, total]
    widths = [max(len(row[i]) for row in table) for i in range(len(HEAD))]
    lines = [
        "  ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in table
    ]
    out = [f"{report.network}, T = {report.steps}, energy of one inference, mean of {report.images} images", *lines]
    if report.spiking:
        out += [
            f"int32 arithmetic: {energy(report.total('paper_int32_pj'))}; memory moved: "
            f"{report.total('memory_bytes'):,.0f} bytes at {MEMORY_PJ_PER_BYTE:g} pJ",
            "against an ANN of the same layers (R: spikes per input over all steps; per step in brackets):",
        ]
        for row in report.break_even:
            # Without a spike left to save, no rate is low enough.
            even = f"R < {row.rate:.2f} ({row.rate / report.steps:.3f})" if row.rate > 0 else "no rate low enough"
            out.append(
                f"  {row.against}: SNN {energy(row.snn_pj)}, ANN {energy(row.ann_pj)}, ANN/SNN {row.ratio:.2f}; "
                f"the SNN wins at {even}, measured {row.measured:.2f} ({row.measured / report.steps:.3f})"
            )
        out.append(f"  published: below {PUBLISHED_BREAK_EVEN:.1%} per step at T = 5 to 10 (arXiv 2409.08290)")
    t = report.training
    out.append(
        f"training, one sample, arithmetic: ANN {energy(t.ann_pj)}"
        + (f", SNN {energy(t.snn_pj)} (dense {energy(t.snn_dense_pj)})" if report.spiking else "")
    )
    return "\n".join(line.rstrip() for line in out)
