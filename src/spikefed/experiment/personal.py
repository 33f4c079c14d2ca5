"""Personal models: every client's own network, a model file each, written after its step of every round.

``run.keep_clients`` asks for them, and a fleet's client writes its own. A file is written whole or not at all, before
the checkpoint of its round, so a killed run that goes on writes the same bytes again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from torch import nn

from spikefed.errors import CheckpointError
from spikefed.experiment.federation import Federation
from spikefed.experiment.models import model_facts
from spikefed.files import write_atomic
from spikefed.models import model_file


def keep_into(path: Path, federation: Federation, client: int) -> Callable[[nn.Module, int], None]:
    """What writes one client's network to this file, told the network and the round that left it.

    Args:
        path: of the file; its folder is made where it is missing.
        federation: the objects of the run.
        client: whose network it is.
    """

    def keep(net: nn.Module, round: int) -> None:
        facts = dataclasses.replace(model_facts(federation.of_client(client), round), client=client)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, model_file(net, facts))
        except OSError as error:
            raise CheckpointError(
                f"client {client}'s own network could not be written to {path} ({error.strerror or error}); free some "
                "space there and repeat the command with --resume"
            ) from error

    return keep
