"""Measures of a network: what can be learned about it during or after training, one file each."""

from spikefed.probes.accuracy import Accuracy
from spikefed.probes.attack import Attack
from spikefed.probes.chip import Chip
from spikefed.probes.coding import Coding
from spikefed.probes.contract import Curve, Probe, ProbeContext, ProbeHyperparameters, Quantity, Record, Subject
from spikefed.probes.corruption import Corruption
from spikefed.probes.energy import Energy
from spikefed.probes.information import centroid_of, early_by_information, early_by_kl
from spikefed.probes.inversion import Inversion
from spikefed.probes.latency import Latency
from spikefed.probes.membership import Membership
from spikefed.probes.mixture import Mixture
from spikefed.probes.ownchips import OwnChips
from spikefed.probes.rates import Rates
from spikefed.probes.reconstruction import Reconstruction
from spikefed.probes.registry import PROBES, probe
from spikefed.probes.run import Measurement, run_probe
from spikefed.probes.sparsity import Sparsity
from spikefed.probes.temporal import Temporal

__all__ = [
    "Accuracy",
    "Attack",
    "Chip",
    "Coding",
    "Corruption",
    "Curve",
    "Energy",
    "Inversion",
    "Latency",
    "Measurement",
    "Membership",
    "Mixture",
    "OwnChips",
    "PROBES",
    "Probe",
    "ProbeContext",
    "ProbeHyperparameters",
    "Quantity",
    "Rates",
    "Reconstruction",
    "Record",
    "Sparsity",
    "Subject",
    "Temporal",
    "centroid_of",
    "early_by_information",
    "early_by_kl",
    "probe",
    "run_probe",
]
