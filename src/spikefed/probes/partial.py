"""What a long probe has done so far, in a file, so that one that is killed goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from spikefed.files import write_atomic

KEY = "spikefed-partial"
GENERATOR = "generator"


class Partial:
    """Saves and restores the state of one measurement; without a file it keeps nothing.

    Args:
        path: the file; None: nothing is kept.
        identity: what the measurement is of (probe, version, hyperparameters, weights, images, seed, round): a file of
            another one is as good as none.
    """

    def __init__(self, path: Path | None = None, identity: str = "") -> None:
        self._path = path
        self._identity = identity

    def save(self, state: dict[str, Any], generator: torch.Generator) -> None:
        """Write the state atomically; a crash leaves the one before.

        Args:
            state: flat: tensors, arrays, and whatever JSON holds.
            generator: whose state is kept with it.
        """
        if self._path is None:
            return
        found = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in state.items()}
        tensors = {f"state.{k}": v.detach().cpu().contiguous() for k, v in found.items() if isinstance(v, Tensor)}
        plain = {k: v for k, v in found.items() if not isinstance(v, Tensor)}
        facts = json.dumps({"identity": self._identity, "state": plain})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self._path, to_bytes(tensors | {GENERATOR: generator.get_state()}, {KEY: facts}))

    def restore(self, generator: torch.Generator) -> dict[str, Any] | None:
        """The state of the same measurement, arrays as tensors, and the generator set back; None where there is none.

        A file that is torn or belongs to another measurement counts as none.
        """
        if self._path is None or not self._path.is_file():
            return None
        try:
            with safe_open(self._path, framework="pt") as file:
                facts = json.loads((file.metadata() or {})[KEY])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        except (OSError, SafetensorError, ValueError, KeyError):
            return None
        if facts["identity"] != self._identity:
            return None
        generator.set_state(tensors.pop(GENERATOR))
        return facts["state"] | {key.removeprefix("state."): value for key, value in tensors.items()}

    def clear(self) -> None:
        """The measurement is done: nothing is left to go on from."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
