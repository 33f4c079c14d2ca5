"""What a client keeps between rounds and across restarts, and how it meets a server that asks again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spikefed.errors import CheckpointError
from spikefed.federated import ClientWorker, checkpoint
from spikefed.federated.divergence import DIVERGED
from spikefed.federated.exchange import Reply, Request

KEEP = 2
"""States kept: after the last round, and after the one before it, to which a server may have to go back."""


class Memory:
    """A `ClientWorker` that survives: its state is written after every round, before the reply leaves.

    * Asked the same thing again (the reply was lost, or the server started again from its checkpoint), it gives the
      same bytes without training twice.
    * Asked for a round that it has already done, but with other bytes, it first goes back to its state before it.
    * Started without its folder it begins like a new client and asks for an intra packet.

    Args:
        make: makes the worker, as it is before the first round.
        folder: where states are kept, the newest two; None keeps nothing over a restart.
        config_hash: of the experiment; a folder of another one is refused.
        warn: told what was lost.
    """

    def __init__(
        self,
        make: Callable[[], ClientWorker],
        folder: Path | None,
        config_hash: str,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._make = make
        self._folder = folder
        self._hash = config_hash
        self._warn = warn
        self._worker = make()
        self._kept: dict[int, dict[str, Any]] = {}  # round -> what was kept after it; at most two
        self.run = ""
        if folder is not None:
            self._load()

    @property
    def round(self) -> int:
        """The last round done; 0 before the first."""
        return max(self._kept, default=0)

    def handle(self, request: Request, run: str) -> Reply:
        """Answer one request of the run with this identity."""
        if run != self.run:
            self._begin(run)
        asked = hashlib.sha256((request.downlink or b"-") + request.action.encode()).hexdigest()
        kept = self._kept.get(request.round)
        if kept is not None and kept["asked"] == asked:
            return Reply(
                self._worker.client, request.round, kept["reply"], dict(kept["report"]), error=kept.get("error")
            )
        if kept is not None and request.action == "round":
            self._back_to(request.round - 1)
        reply = self._worker.handle(request)
        # A client that diverged has done its round too: asked again, it need not find that out again.
        done = not reply.error or DIVERGED in reply.report
        if request.action == "round" and done and not (reply.needs_intra or reply.needs_rows):
            self._keep(request.round, {
                "run": run, "asked": asked, "reply": reply.uplink, "report": dict(reply.report), "error": reply.error,
                "worker": self._worker.state_dict(),
            })  # fmt: skip
        return reply

    def _begin(self, run: str) -> None:
        if self.run:
            self._warn(f"the server began another run ({run}); this client starts anew")
            self._worker = self._make()
            for path in self._folder.glob("round-*.safetensors") if self._folder else ():
                path.unlink()
        self.run = run
        self._kept = {}

    def _back_to(self, round: int) -> None:
        """Take up the state after the last round kept up to ``round``."""
        before = [r for r in self._kept if r <= round]
        if before:
            self._worker.load_state_dict(self._kept[max(before)]["worker"])
        elif round <= 0:
            self._worker = self._make()
        # Else the state from before is gone: go on from the present one.
        for later in [r for r in self._kept if r > round]:
            del self._kept[later]
            if self._folder is not None:
                self._path(later).unlink(missing_ok=True)

    def _keep(self, round: int, tree: dict[str, Any]) -> None:
        self._kept[round] = tree
        old = sorted(self._kept)[:-KEEP]
        for gone in old:
            del self._kept[gone]
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            checkpoint.write(self._path(round), tree, self._hash)
            for gone in old:
                self._path(gone).unlink(missing_ok=True)
        except (CheckpointError, OSError) as error:
            self._warn(f"{error}; round {round} is not kept, so a restart now would need an intra packet")

    def _path(self, round: int) -> Path:
        assert self._folder is not None
        return self._folder / f"round-{round:05d}.safetensors"

    def _load(self) -> None:
        assert self._folder is not None
        for path in sorted(self._folder.glob("round-*.safetensors")):
            try:
                tree = checkpoint.read(path, self._hash)
            except CheckpointError as error:
                if "another config" in str(error):
                    raise
                self._warn(str(error))
                continue
            self.run = tree["run"]
            self._kept[int(path.stem.split("-")[1])] = tree
        if self._kept:
            self._worker.load_state_dict(self._kept[self.round]["worker"])
