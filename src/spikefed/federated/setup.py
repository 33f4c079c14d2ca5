"""What a method may ask of the experiment around it, before anything is loaded or trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spikefed.errors import ConfigError

CHANGE_CODECS = ("stc", "topk", "qsgd", "cosine")
"""Lossy codecs for changes of weights; sending the weights themselves through them would zero most of a network."""


@dataclass(frozen=True)
class Setup:
    """What of an experiment can contradict a method's hyperparameters.

    Attributes:
        clients: how many there are.
        rounds: how many the run has; 0: not known.
        everybody: all clients take part in all rounds.
        silent: the setting that leaves the network without output spikes, such as ``network.twin = 'ann'``; empty
            where it has some.
        codecs: codec by key of the table ``[wire]``.
        on_chip: clients train on simulated chips.
    """

    clients: int = 1
    rounds: int = 0
    everybody: bool = True
    silent: str = ""
    codecs: Mapping[str, str] = field(default_factory=dict[str, str])
    on_chip: bool = False

    def need_spikes(self, name: str) -> None:
        """Refuse a network without output spikes for method ``name``."""
        if self.silent:
            raise ConfigError(
                f"method {name} exchanges spikes but {self.silent} gives none; use a spiking readout or FedAvg"
            )

    def need_change(self, key: str, payload: str, sent: str) -> None:
        """Refuse a codec for changes of weights under ``wire.<key>`` where ``method.<payload>`` sends the weights."""
        codec = self.codecs.get(key, "")
        if codec.startswith(CHANGE_CODECS) and sent != "change":
            raise ConfigError(
                f"'wire.{key}' = '{codec}' codes changes of weights; set method.{payload} = 'change' with it, or use "
                "float32 or fp16"
            )
