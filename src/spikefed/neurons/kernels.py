"""Which implementation runs: the pure-torch reference, or the fastest one that fits (``"auto"``)."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Literal, cast

import torch

from spikefed.errors import ConfigError

Mode = Literal["auto", "reference"]
_MODES = ("auto", "reference")


def _from_environment() -> Mode:
    mode = os.environ.get("SPIKEFED_KERNELS", "auto")
    if mode not in _MODES:
        raise ConfigError(f"environment variable SPIKEFED_KERNELS is '{mode}'; set it to one of {', '.join(_MODES)}")
    return cast(Mode, mode)


_mode: Mode | None = None  # set by use_kernels


def kernels() -> Mode:
    """The mode in force: set last by `use_kernels`, else variable ``SPIKEFED_KERNELS``, else ``"auto"``.

    While torch traces (``torch.export``, ``torch.jit.trace``, ``torch.compile``) it is ``"reference"``: tensors then
    have no memory that a kernel could read.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # pyright: ignore
        return "reference"
    return _from_environment() if _mode is None else _mode


class use_kernels:
    """Set the mode, as a call (stays in force) or as a context manager (put back at the end).

    >>> with use_kernels("reference"):
    ...     kernels()
    'reference'

    Raises:
        ConfigError: unknown mode.
    """

    def __init__(self, mode: Mode) -> None:
        global _mode
        if mode not in _MODES:
            raise ConfigError(f"unknown kernel mode '{mode}'; use one of {', '.join(_MODES)}")
        self._before: Mode | None = _mode
        _mode = mode

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _mode
        _mode = self._before
