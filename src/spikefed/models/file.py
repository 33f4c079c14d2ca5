"""The model file: tensors by name, and the facts that build their network again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from spikefed.errors import CheckpointError
from spikefed.models.facts import ModelFacts
from spikefed.networks import NamedTensors, copy_tensors, read_tensors, write_tensors


def model_file(net: nn.Module, facts: ModelFacts, kept: Mapping[str, Tensor] | None = None) -> bytes:
    """The bytes of a network's model file; equal content gives equal bytes. Tensors keep their shapes.

    Args:
        net: the network; a tied tensor is stored once.
        facts: what builds it again.
        kept: bool masks of the tensors that are stored sparse.
    """
    return write_tensors(copy_tensors(net), kept, facts.to_dict())


def read_model(path: Path | str) -> tuple[NamedTensors, ModelFacts]:
    """Tensors and facts of a model file, of any version up to this one.

    Raises:
        CheckpointError: no such file, a damaged one, one of another program or of a newer spikefed.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no model file {path}; give a run folder or the model.safetensors in it")
    found = read_tensors(path)
    if not isinstance(found.facts, Mapping):
        raise CheckpointError(f"the metadata of {path} is no table; take a whole copy of the file")
    for name, tensor in found.tensors.items():
        if tensor.is_floating_point() and bool(tensor.isnan().any()):
            raise CheckpointError(f"tensor '{name}' of {path} holds values that are no numbers; take a whole copy")
    return found, ModelFacts.from_dict(found.facts, str(path))
