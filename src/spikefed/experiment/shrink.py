"""The small network that a pruned one holds, as a model file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from spikefed.errors import CheckpointError, ConfigError
from spikefed.experiment.models import load_model
from spikefed.experiment.rebuild import build_again
from spikefed.models import WHOLE, Model, read_model
from spikefed.networks import copy_tensors


def shrink(source: Path | str, out: Path | str, *, client: int | None = None) -> dict[str, Any]:
    """Write the model file of the small network that computes what a trained one with dead channels computes.

    Args:
        source: run folder, ``RUN@ROUND``, or a model file.
        out: model file to write; one that this function wrote is written over, another is not.
        client: this client's own network instead of the server's.

    Returns:
        ``path``, ``network`` (its name), ``parameters`` and ``file_bytes``, and of the whole network ``whole`` (its
        name) and ``whole_parameters``.

    Raises:
        CheckpointError: no such run or file; something else stands at ``out``.
        ConfigError: a network of which nothing can be taken out.
    """
    model = load_model(source, client=client)
    small = model.shrunk()
    _check_rebuilt(small)
    out = Path(out)
    if out.exists() and not _ours(out):
        raise CheckpointError(f"{out} is there already and was not written by 'spikefed shrink'; name another --out")
    small.save(out)
    return {
        "path": str(out),
        "network": small.facts.network["name"],
        "parameters": _parameters(small),
        "file_bytes": out.stat().st_size,
        "whole": model.facts.network["name"],
        "whole_parameters": _parameters(model),
    }


def _check_rebuilt(small: Model) -> None:
    """Whether what the file will say builds a network that computes the same.

    Raises:
        ConfigError: it does not: a network whose layers are not all as its name says.
    """
    again = build_again(small.facts, None, "cpu", "the small network").load(copy_tensors(small.network)).eval()
    images = torch.rand(3, *small.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        said = [net(images, generator=torch.Generator().manual_seed(1)) for net in (small.network, again)]
    if not torch.equal(*said):
        raise ConfigError(
            f"'{small.facts.network['name']}' does not say all of this network, whose layers differ in more than size; "
            "use spikefed.networks.narrowed in Python"
        )


def _ours(path: Path) -> bool:
    try:
        return WHOLE in read_model(path)[1].extra
    except CheckpointError:
        return False


def _parameters(model: Model) -> int:
    return sum(parameter.numel() for parameter in model.network.parameters())
