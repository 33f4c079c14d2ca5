"""Accuracy under attack, as a probe."""

from spikefed.probes.attack.probe import Attack, range_of
from spikefed.probes.attack.settings import AttackHyperparameters

__all__ = ["Attack", "AttackHyperparameters", "range_of"]
