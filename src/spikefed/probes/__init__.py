"""Measures of a network: what can be learned about it during or after training, one file each."""

from spikefed.probes.accuracy import Accuracy
from spikefed.probes.chip import Chip
from spikefed.probes.contract import Probe, ProbeContext, ProbeHyperparameters, Quantity, Record, Subject
from spikefed.probes.energy import Energy
from spikefed.probes.latency import Latency
from spikefed.probes.rates import Rates
from spikefed.probes.registry import PROBES, probe
from spikefed.probes.run import Measurement, run_probe

__all__ = [
    "Accuracy",
    "Chip",
    "Energy",
    "Latency",
    "Measurement",
    "PROBES",
    "Probe",
    "ProbeContext",
    "ProbeHyperparameters",
    "Quantity",
    "Rates",
    "Record",
    "Subject",
    "probe",
    "run_probe",
]
