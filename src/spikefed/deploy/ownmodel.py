"""The network of a fleet's client itself: a model file on its machine, at the end of a run or all the time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from torch import nn

from spikefed.errors import CheckpointError, DeployError
from spikefed.experiment.federation import Federation
from spikefed.experiment.personal import keep_into
from spikefed.files import write_atomic


class OwnModel:
    """Keeps the newest network of one client; a disk that refuses costs the file, not the round.

    Args:
        path: of the model file.
        state: the client's folder of what it keeps over restarts; the newest network waits there for the run's end.
        every_round: write ``path`` after every step, not at the end only.
        note: told what was written, and what could not be.

    Raises:
        DeployError: ``path`` cannot be a file.
    """

    def __init__(self, path: Path, state: Path, every_round: bool, note: Callable[[str], None]) -> None:
        if path.is_dir():
            raise DeployError(f"--model {path} is a folder; name a file in it, such as {path / 'model.safetensors'}")
        if path.parent != state and not path.parent.is_dir():
            raise DeployError(f"there is no folder {path.parent} for --model {path.name}; make it, or name another")
        self.path = path
        self._newest = path if every_round else state / "newest.safetensors"
        self._note = note

    def of(self, federation: Federation, client: int) -> Callable[[nn.Module, int], None]:
        """What the client's worker is to tell its network to, after every step."""
        write = keep_into(self._newest, federation, client)

        def keep(net: nn.Module, round: int) -> None:
            try:
                write(net, round)
            except CheckpointError as error:
                self._note(f"{str(error).partition(';')[0]}; the round goes on without it")

        return keep

    def finish(self) -> None:
        """The run is over: the newest network is the client's model."""
        if not self._newest.is_file():
            return  # it took no part, or this end was told before
        if self._newest != self.path:
            try:
                write_atomic(self.path, self._newest.read_bytes())
            except OSError as error:
                self._note(f"{self.path} cannot be written ({error.strerror}); the network is in {self._newest}")
                return
            with contextlib.suppress(OSError):
                self._newest.unlink()
        self._note(f"its own network is in {self.path}")
