"""The experiment file: one TOML, validated, with presets, inheritance and overrides."""

from spikefed.experiment.config.data import DataConfig, StagesConfig
from spikefed.experiment.config.experiment import Experiment, RunConfig
from spikefed.experiment.config.federation import (
    AttackConfig,
    ChipsConfig,
    DeployConfig,
    ParticipationConfig,
    PrivacyConfig,
    WireConfig,
)
from spikefed.experiment.config.loading import from_tree, load, overridden, validate
from spikefed.experiment.config.network import AdapterConfig, NetworkConfig, NeuronConfig
from spikefed.experiment.config.renamed import renamed
from spikefed.experiment.config.section import SINCE_02, Section
from spikefed.experiment.tables import presets

__all__ = [
    "SINCE_02",
    "AdapterConfig",
    "AttackConfig",
    "ChipsConfig",
    "DataConfig",
    "DeployConfig",
    "Experiment",
    "NetworkConfig",
    "NeuronConfig",
    "ParticipationConfig",
    "PrivacyConfig",
    "RunConfig",
    "Section",
    "StagesConfig",
    "WireConfig",
    "from_tree",
    "load",
    "overridden",
    "presets",
    "renamed",
    "validate",
]
