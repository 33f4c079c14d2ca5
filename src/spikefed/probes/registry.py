"""The table that finds a probe by name: one file each, or a user's own as ``module:attribute``."""

from __future__ import annotations

import inspect

from spikefed.errors import ConfigError
from spikefed.objects import import_object, is_own, nearest
from spikefed.probes.accuracy import Accuracy
from spikefed.probes.attack import Attack
from spikefed.probes.chip import Chip
from spikefed.probes.coding import Coding
from spikefed.probes.contract import Probe, ProbeHyperparameters
from spikefed.probes.corruption import Corruption
from spikefed.probes.energy import Energy
from spikefed.probes.inversion import Inversion
from spikefed.probes.latency import Latency
from spikefed.probes.manytasks import ManyTasks
from spikefed.probes.membership import Membership
from spikefed.probes.mixture import Mixture
from spikefed.probes.ownchips import OwnChips
from spikefed.probes.rates import Rates
from spikefed.probes.reconstruction import Reconstruction
from spikefed.probes.sparsity import Sparsity
from spikefed.probes.temporal import Temporal

PROBES: dict[str, type[Probe]] = {
    made.name: made
    for made in (
        Accuracy,
        Attack,
        Chip,
        Coding,
        Corruption,
        Energy,
        Inversion,
        Latency,
        ManyTasks,
        Membership,
        Mixture,
        OwnChips,
        Rates,
        Reconstruction,
        Sparsity,
        Temporal,
    )
}


def probe(name: str) -> Probe:
    """A probe by its short name, or a user's own as ``package.module:ClassName``.

    Raises:
        ConfigError: no such probe, or the class is none.
    """
    if name in PROBES:
        return PROBES[name]()
    if not is_own(name):
        raise ConfigError(
            f"probe '{name}' is not known; the nearest is '{nearest(name.lower(), PROBES)}' (see 'spikefed list "
            "probes'), and your own is named 'module:ClassName'"
        )
    made = import_object(name, "probe", ConfigError)
    made = made() if inspect.isclass(made) and issubclass(made, Probe) and not inspect.isabstract(made) else made
    if not isinstance(made, Probe):
        raise ConfigError(f"probe '{name}' is no probe; see docs/adding-a-probe.md for the class that it must be")
    hyper = made.hyperparameters
    if not (isinstance(hyper, type) and issubclass(hyper, ProbeHyperparameters)):
        raise ConfigError(f"probe '{name}': 'hyperparameters' is {hyper!r}; give a class based on ProbeHyperparameters")
    return made
