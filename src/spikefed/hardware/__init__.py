"""Energy of inference and training by several published models, from operations counted on real images."""

from spikefed.hardware.costs import FP16, FP32, INT8, INT32, REGIMES, Regime, regime
from spikefed.hardware.counts import LayerCounts, count_operations
from spikefed.hardware.energy import energy_report
from spikefed.hardware.memory import Lemaire, lemaire
from spikefed.hardware.report import BreakEven, EnergyReport, LayerEnergy
from spikefed.hardware.spikesim import PE_CYCLE_NS, SpikeSim
from spikefed.hardware.training import Training, training_pj

__all__ = [
    "BreakEven",
    "EnergyReport",
    "FP16",
    "FP32",
    "INT32",
    "INT8",
    "LayerCounts",
    "LayerEnergy",
    "Lemaire",
    "PE_CYCLE_NS",
    "REGIMES",
    "Regime",
    "SpikeSim",
    "Training",
    "count_operations",
    "energy_report",
    "lemaire",
    "regime",
    "training_pj",
]
