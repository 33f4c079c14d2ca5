"""The checkpoint file: one safetensors file, self-verifying, written atomically. Which are kept: `history`.

A checkpoint is a nested dict. Tensors and arrays go into the safetensors body, everything else into its JSON metadata
together with the format version, the hash of the config and a SHA-256 over both, so that a torn, altered or foreign
file is refused. Large tensors with the same content are stored once: the two ends of a link remember the same of every
stream, and all clients the same of what the server sent to all.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from spikefed.errors import CheckpointError, DamagedCheckpointError
from spikefed.files import write_atomic

VERSION = 2
READS = (1, 2)
"""Version 1 differs only in that every file held every client, see `history`."""
LARGE = 1024
"""Bytes from which on a tensor is looked up among those stored already."""


@dataclass
class _Body:
    """Tensors by their name in the file, and the names of the large ones by what they hold."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    names: dict[tuple[Any, ...], str] = field(default_factory=dict)
    memory: set[int] = field(default_factory=set)

    def add(self, value: Tensor | np.ndarray) -> str:
        """The name under which this value stands in the file."""
        tensor = torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value.detach()
        tensor = tensor.contiguous()
        name = f"t{len(self.tensors):05d}"
        if tensor.nbytes >= LARGE:
            digest = hashlib.sha256(_bytes(tensor)).digest()
            name = self.names.setdefault((digest, tensor.dtype, tensor.shape), name)
        if name not in self.tensors:
            place = tensor.untyped_storage().data_ptr()
            self.tensors[name] = tensor.clone() if place in self.memory else tensor  # the format refuses shared memory
            self.memory.add(place)
        return name


def _bytes(tensor: Tensor) -> memoryview | bytes:
    return tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b""


def _pack(value: Any, body: _Body) -> Any:
    if isinstance(value, Tensor | np.ndarray):
        return {"@": "tensor" if isinstance(value, Tensor) else "array", "key": body.add(value)}
    if isinstance(value, dict):
        return {"@": "dict", "items": [[str(k), _pack(v, body)] for k, v in value.items()]}
    if isinstance(value, list | tuple | frozenset):
        items = sorted(value) if isinstance(value, frozenset) else value
        return {"@": "list", "items": [_pack(v, body) for v in items]}
    if isinstance(value, bytes):
        return {"@": "bytes", "base64": base64.b64encode(value).decode()}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(
        f"a checkpoint cannot hold a {type(value).__name__}; keep tensors, arrays, numbers, text, dicts and lists"
    )


def _unpack(value: Any, tensors: Callable[[str], Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    kind = value["@"]
    if kind == "dict":
        return {k: _unpack(v, tensors) for k, v in value["items"]}
    if kind == "list":
        return [_unpack(v, tensors) for v in value["items"]]
    if kind == "bytes":
        return base64.b64decode(value["base64"])
    tensor = tensors(value["key"])
    return tensor if kind == "tensor" else tensor.numpy()


def _digest(tree: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(tree.encode())
    for key in sorted(tensors):
        tensor = tensors[key]
        digest.update(f"{key}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def write(path: Path, tree: dict[str, Any], config_hash: str) -> None:
    """Write one checkpoint file atomically.

    Raises:
        CheckpointError: the disk refused; nothing is left half-written.
    """
    body = _Body()
    text = json.dumps(_pack(tree, body), separators=(",", ":"))
    tensors = body.tensors
    # One metadata key: safetensors writes several in random order, and the same state shall give the same bytes.
    metadata = {"version": VERSION, "config_hash": config_hash, "sha256": _digest(text, tensors), "tree": text}
    try:
        write_atomic(path, save(tensors, {"spikefed-checkpoint": json.dumps(metadata)}))
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {path} could not be written ({error.strerror or error}); earlier checkpoints are untouched, "
            "so free some space and repeat the command with --resume"
        ) from error


def read(path: Path, config_hash: str | None = None) -> dict[str, Any]:
    """Read and verify one checkpoint file.

    Raises:
        DamagedCheckpointError: unreadable or torn.
        CheckpointError: of another version, or of another config.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get("spikefed-checkpoint", "{}"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError, ValueError) as error:
        raise DamagedCheckpointError(
            f"checkpoint {path} cannot be read ({error}); an earlier one is used where one is whole"
        ) from error
    version = metadata.get("version")
    if version not in READS:
        raise CheckpointError(
            f"checkpoint {path} has format version {version}, this spikefed reads versions up to {VERSION}; "
            "resume with the spikefed that wrote it, or start again in another folder"
        )
    if metadata["sha256"] != _digest(metadata["tree"], tensors):
        raise DamagedCheckpointError(
            f"checkpoint {path} is damaged (SHA-256 differs); an earlier one is used where one is whole"
        )
    if config_hash is not None and metadata["config_hash"] != config_hash:
        raise CheckpointError(f"checkpoint {path} belongs to another config; resume with the config of its run folder")
    taken: set[str] = set()

    def take(key: str) -> Tensor:
        """A tensor of its own for each place, so that nobody's change in place is another's."""
        first = key not in taken
        taken.add(key)
        return tensors[key] if first else tensors[key].clone()

    return _unpack(json.loads(metadata["tree"]), take)
