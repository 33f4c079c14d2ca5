"""Networks on imperfect chips: crossbars with wires, noise, drift and converters, and what batch norm can repair."""

from spikefed.hardware.crossbar.chip import OnChip
from spikefed.hardware.crossbar.circuit import Wires, effective
from spikefed.hardware.crossbar.measure import TREATMENTS, Examples, check_treatments, treated
from spikefed.hardware.crossbar.product import pc2
from spikefed.hardware.crossbar.profile import PROFILES, Changes, ChipProfile, load_profile
from spikefed.hardware.crossbar.programming import Programmed, Reading
from spikefed.hardware.crossbar.repair import REPAIRS, Repair, adapt, fine_tune, norms, repair, soft_answers

__all__ = [
    "Changes",
    "ChipProfile",
    "Examples",
    "OnChip",
    "PROFILES",
    "Programmed",
    "REPAIRS",
    "Reading",
    "Repair",
    "TREATMENTS",
    "Wires",
    "adapt",
    "check_treatments",
    "effective",
    "fine_tune",
    "load_profile",
    "norms",
    "pc2",
    "repair",
    "soft_answers",
    "treated",
]
