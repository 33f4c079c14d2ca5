"""Errors that spikefed raises for bad input. Each text says what is wrong, where, and what to do next."""

from __future__ import annotations


class SpikefedError(Exception):
    """Base of every error caused by input (config, data, packet, checkpoint); the command line exits with code 2."""


class ConfigError(SpikefedError):
    """A config file, an override or a combination of settings cannot be used."""


class FolderBusyError(ConfigError):
    """Another process is running in the run folder."""


class DataError(SpikefedError):
    """A data file is missing, truncated, altered, or too small for the split that was asked for."""


class PacketError(SpikefedError):
    """A packet does not fit the plan.

    Attributes:
        field: the header or payload field that was refused (``"magic"``, ``"crc"``, ``"shape"``, ...).
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"packet refused at field '{field}': {reason}")
        self.field = field


class CheckpointError(SpikefedError):
    """A checkpoint or run folder is missing, torn, of another version, or of another config."""


class UnfinishedError(SpikefedError):
    """Some jobs of a comparison failed, or run in another process; the command line exits with code 3."""


class UnmergedError(SpikefedError):
    """A run went through all its rounds and merged nothing, so its network is the one it began with."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint file is torn, altered, or unreadable; the one before may still be whole."""


class WorkerError(SpikefedError):
    """A worker process ended; everything up to the last finished round is saved."""


class ReportError(SpikefedError):
    """A run folder holds nothing that a report can be made from."""


class DeployError(SpikefedError):
    """A deployment cannot start or go on: a certificate, key, port or program is missing, or the other side is away."""
