"""Named tensors in a safetensors file; a masked one as its surviving values and where they stand.

A tensor without a mask stands there under its own name, as in any safetensors file. One with a mask is three entries:

==================  ==================================================================================================
``NAME:values``     the surviving numbers in row-major order, ``[k]``, in the tensor's own type
``NAME:shape``      int64, its shape
``NAME:bitmap``     uint8: a bit for every number, first one in the top bit, 1 where it survives; or, if shorter,
``NAME:gaps``       uint8 or uint16: the numbers skipped before each survivor; the type's largest value M skips M
                    numbers, and no survivor follows
==================  ==================================================================================================

Whoever has safetensors and NumPy reads it in three lines (``M`` is 255 or 65535)::

    skipped = gaps.astype(np.int64)
    places = (np.cumsum(skipped + (skipped < M)) - 1)[skipped < M]
    tensor = np.zeros(np.prod(shape), values.dtype); tensor[places] = values; tensor = tensor.reshape(shape)

Positions then take at most 1.2 times what survivors and the entropy of their positions take together (float32).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from spikefed.errors import CheckpointError, ConfigError

FACTS = "spikefed"
"""The one key of the file's metadata: several have no fixed order, and equal content shall give equal bytes."""
PARTS = (":values", ":shape", ":bitmap", ":gaps")
MOST_NUMBERS = 1 << 40
"""Numbers of the largest sparse tensor that is read: a few bytes can claim any size."""


@dataclass(frozen=True)
class NamedTensors:
    """What a tensor file holds.

    Attributes:
        tensors: every tensor by name, whole: 0 where its mask says so.
        kept: bool mask of those that have one, True where a number survives.
        facts: what the writer said about them.
    """

    tensors: dict[str, Tensor]
    kept: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def write_tensors(
    tensors: Mapping[str, Tensor], kept: Mapping[str, Tensor] | None = None, facts: Mapping[str, Any] | None = None
) -> bytes:
    """The bytes of a tensor file; equal content gives equal bytes.

    Args:
        tensors: by name, of any type and shape; no two may share memory.
        kept: bool masks of some of them, True where a number survives; these are stored sparse.
        facts: what else the file shall say, as JSON takes it.

    Raises:
        ConfigError: a mask of no tensor, of another shape, or over numbers that are not 0.
    """
    kept = kept or {}
    body: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        body |= _sparse(name, tensor, kept[name].detach().cpu()) if name in kept else {name: tensor}
    if strangers := kept.keys() - tensors.keys():
        raise ConfigError(
            f"there is a mask for '{min(strangers)}' but no such tensor; give masks of these tensors only"
        )
    return save(body, {FACTS: json.dumps(facts, sort_keys=True)} if facts else None)


def read_tensors(source: Path | str | bytes) -> NamedTensors:
    """Inverse of `write_tensors`, from a path or the bytes themselves; reads every safetensors file.

    Raises:
        CheckpointError: no such file, one that is cut or altered, or a sparse tensor whose parts do not fit.
    """
    where = "these bytes" if isinstance(source, bytes) else str(source)
    try:
        if isinstance(source, bytes):
            body = load(source)
            metadata = _metadata(source)
        else:
            with safe_open(source, framework="pt") as file:
                body = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
                metadata = file.metadata() or {}
        facts = json.loads(metadata.get(FACTS, "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        cure = "take a whole copy, or finish the run with --resume"
        if where.endswith(".toml"):
            cure = "it holds an experiment: give the folder of its run, or the model file there"
        raise CheckpointError(f"{where} cannot be read as a model file ({error}); {cure}") from error
    tensors = {}
    masks = {}
    for name in sorted({key.rpartition(":")[0] if key.endswith(PARTS) else key for key in body}):
        if any(name + part in body for part in PARTS):
            tensors[name], masks[name] = _dense(name, body, where)
        else:
            tensors[name] = body[name]
    return NamedTensors(tensors, masks, facts)


def stored_bytes(tensor: Tensor, kept: Tensor) -> int:
    """Bytes that a tensor of this size takes under a mask: its survivors, where they stand, its shape."""
    _, places = _places(kept.detach().cpu().reshape(-1).numpy())
    return int(kept.sum()) * tensor.element_size() + places.nbytes + 8 * tensor.dim()


def _metadata(data: bytes) -> dict[str, str]:
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]).get("__metadata__", {})


def _sparse(name: str, tensor: Tensor, kept: Tensor) -> dict[str, Tensor]:
    if kept.shape != tensor.shape or kept.dtype != torch.bool:
        raise ConfigError(
            f"the mask of '{name}' is {kept.dtype} {list(kept.shape)}, the tensor is {list(tensor.shape)}; "
            "a mask is a bool tensor of the same shape"
        )
    if (tensor[~kept] != 0).any():
        raise ConfigError(f"'{name}' is not 0 everywhere where its mask says so; apply the mask before it is saved")
    form, places = _places(kept.reshape(-1).numpy())
    return {
        f"{name}:values": tensor[kept],
        f"{name}:shape": torch.tensor(tensor.shape, dtype=torch.int64),
        f"{name}:{form}": torch.from_numpy(places),
    }


def _places(kept: np.ndarray) -> tuple[str, np.ndarray]:
    """The shortest form of where the survivors stand; the earlier one on a tie."""
    gaps = np.diff(np.flatnonzero(kept), prepend=-1) - 1
    forms = [("bitmap", np.packbits(kept)), ("gaps", _gaps(gaps, np.uint8)), ("gaps", _gaps(gaps, np.uint16))]
    return min(forms, key=lambda form: form[1].nbytes)


def _gaps(gaps: np.ndarray, dtype: type[np.unsignedinteger[Any]]) -> np.ndarray:
    most = int(np.iinfo(dtype).max)
    jumps = gaps // most
    coded = np.full(int(jumps.sum()) + gaps.size, most, dtype=dtype)
    coded[np.cumsum(jumps + 1) - 1] = gaps % most
    return coded


def _dense(name: str, body: Mapping[str, Tensor], where: str) -> tuple[Tensor, Tensor]:
    """A tensor and its mask from their parts. Raises CheckpointError when these do not fit."""

    def refused(why: str) -> CheckpointError:
        return CheckpointError(f"sparse tensor '{name}' in {where} {why}; take a whole copy of the file")

    values = body.get(f"{name}:values")
    shape = body.get(f"{name}:shape")
    bitmap = body.get(f"{name}:bitmap")
    gaps = body.get(f"{name}:gaps")
    if values is None or shape is None or (bitmap is None) == (gaps is None) or name in body:
        raise refused("lacks a part, or has one too many")
    if shape.dtype != torch.int64 or shape.dim() != 1 or (shape < 0).any() or values.dim() != 1:
        raise refused("has a shape that is none")
    size = prod(shape.tolist())
    if size > MOST_NUMBERS:
        raise refused(f"claims {size} numbers, more than any network has")
    kept = _from_bitmap(bitmap, size) if bitmap is not None else _from_gaps(gaps, size)
    if kept is None or int(kept.sum()) != len(values):
        raise refused(f"says of {len(values)} survivors that they stand where a tensor of {size} numbers has none")
    mask = torch.from_numpy(kept).reshape(shape.tolist())
    tensor = torch.zeros(shape.tolist(), dtype=values.dtype)
    tensor[mask] = values
    return tensor, mask


def _from_bitmap(bitmap: Tensor, size: int) -> np.ndarray | None:
    """bool [size], or None where the bits are not those of a bitmap of this size."""
    if bitmap.dtype != torch.uint8 or bitmap.shape != ((size + 7) // 8,):
        return None
    bits = np.unpackbits(bitmap.numpy())
    return None if bits[size:].any() else bits[:size].astype(bool)


def _from_gaps(gaps: Tensor | None, size: int) -> np.ndarray | None:
    if gaps is None or gaps.dtype not in (torch.uint8, torch.uint16) or gaps.dim() != 1:
        return None
    skipped = gaps.numpy().astype(np.int64)
    ends = skipped < torch.iinfo(gaps.dtype).max
    places = (np.cumsum(skipped + ends) - 1)[ends]
    if places.size and places[-1] >= size:
        return None
    kept = np.zeros(size, dtype=bool)
    kept[places] = True
    return kept
