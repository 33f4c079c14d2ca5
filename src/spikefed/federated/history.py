"""The checkpoints of a run: a file a round with the server and the clients that changed, as far back as needed.

A round's file holds the server, what changed of the clients since the file before, and an index that says for every
client which round's file has its newest state. So a client that sits out a round costs nothing. When the files together
hold more than twice as many client states as there are clients, those still valid in the oldest one move into the new
one: disk space stays below three times the state of all clients, and a state is written at most about twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from spikefed.errors import CheckpointError, DamagedCheckpointError
from spikefed.federated import checkpoint
from spikefed.wire.linkstate import merge_states

Tree = dict[str, Any]
DEAD_SHARE = 2


class History:
    """Checkpoints in a folder.

    Args:
        folder: where ``round-NNNNN.safetensors`` are.
        config_hash: of the config that they belong to.
    """

    def __init__(self, folder: Path, config_hash: str) -> None:
        self.folder = folder
        self._hash = config_hash
        self._index: dict[int, int] = {}  # client -> round of the file with its newest state
        self._held: dict[int, int] = {}  # round -> client states in its file
        self._before: set[int] = set()  # files that the checkpoint before the newest needs

    def save(
        self,
        round: int,
        changed: Collection[int],
        server: Callable[[list[int]], Tree],
        clients: Callable[[list[int]], Tree],
    ) -> Path:
        """Write the checkpoint of a round, then delete what neither it nor the one before needs.

        Args:
            round: the round that is done.
            changed: clients whose state, here or at the server, is not that of the checkpoint before.
            server: state of the server, its ``link`` with these clients only.
            clients: states of these clients, by number as text; numbers without a state may be missing.

        Raises:
            CheckpointError: the disk refused; the checkpoints before are untouched.
        """
        kept = {c: r for c, r in self._index.items() if c not in changed and r != round}
        written = set(changed)
        while sum(self._held[r] for r in set(kept.values())) + len(written) > DEAD_SHARE * (len(kept) + len(written)):
            oldest = min(kept.values())
            written |= {c for c, r in kept.items() if r == oldest}
            kept = {c: r for c, r in kept.items() if r != oldest}
        index = kept | dict.fromkeys(written, round)
        held = {r: self._held[r] for r in set(kept.values())} | {round: len(written)}
        chosen = sorted(written)
        tree = {
            "server": server(chosen),
            "clients": clients(chosen),
            "index": {str(c): r for c, r in sorted(index.items())},
            "held": {str(r): count for r, count in sorted(held.items())},
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"checkpoint folder {self.folder} cannot be made ({error.strerror}); choose another --out"
            ) from error
        checkpoint.write(self.path(round), tree, self._hash)
        needed = set(held)
        for path in self.folder.glob("round-*.safetensors"):
            if round_of(path) not in needed | self._before:
                path.unlink(missing_ok=True)
        self._index = index
        self._held = held
        self._before = needed
        return self.path(round)

    def latest(self, warn: Callable[[str], None]) -> Tree | None:
        """The newest state that can be put together: ``{"server", "clients"}`` with every client; None without any.

        A damaged checkpoint is reported through ``warn`` and the one before is taken.

        Raises:
            CheckpointError: checkpoints exist but none can be used, or the newest is of another version or config.
        """
        problem: DamagedCheckpointError | None = None
        for path in sorted(self.folder.glob("round-*.safetensors"), reverse=True):
            try:
                return self._assemble(path)
            except DamagedCheckpointError as error:
                problem = error
                warn(str(error))
        if problem is not None:
            raise problem
        return None

    def at(self, round: int) -> Tree | None:
        """The state after a round, as `latest` gives it; None where its checkpoint is not kept any more.

        Raises:
            CheckpointError: it is there but cannot be used.
        """
        return self._assemble(self.path(round)) if self.path(round).is_file() else None

    def rounds(self) -> list[int]:
        """Rounds whose checkpoints are there, ascending."""
        return sorted(round_of(path) for path in self.folder.glob("round-*.safetensors"))

    def path(self, round: int) -> Path:
        """File of one round."""
        return self.folder / f"round-{round:05d}.safetensors"

    def _assemble(self, path: Path) -> Tree:
        newest = checkpoint.read(path, self._hash)
        round = round_of(path)
        clients = newest["clients"]
        if "index" not in newest:  # version 1: everything is in this file
            newest["index"] = {c: round for c in clients if c.isdecimal()}
            newest["held"] = {str(round): len(newest["index"])}
        index = {int(c): r for c, r in newest["index"].items()}
        for older in sorted(set(index.values()) - {round}):
            if not self.path(older).is_file():
                raise DamagedCheckpointError(
                    f"checkpoint {path} needs {self.path(older).name}, which is missing; put it back"
                )
            tree = checkpoint.read(self.path(older), self._hash)
            mine = [c for c, r in index.items() if r == older]
            clients |= {str(c): tree["clients"][str(c)] for c in mine if str(c) in tree["clients"]}
            merge_states(newest["server"]["link"], tree["server"]["link"], mine)
        self._index = index
        self._held = {int(r): count for r, count in newest["held"].items()}
        self._before = set(index.values()) | {round}
        return {"server": newest["server"], "clients": clients}


def round_of(path: Path) -> int:
    """The round in a checkpoint's file name."""
    return int(path.stem.removeprefix("round-"))
