"""Sentences for what pydantic refuses: its own texts name neither the value nor what to write instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

LETTERS = "letters, digits and the characters _ . + -"
"""What a name of a file, a run or a label may hold."""

GIVE = {
    "name": f"a text of {LETTERS} only",
    "label": f"a text of {LETTERS} only",
    "title": "a text",
    "base": "an experiment file, or a list of at least one, relative to this file",
    "seeds": "a list of at least one whole number, such as seeds = [0, 1, 2]",
    "methods": "each variant under a heading [[sweep.methods]] of its own",
    "partitions": "each variant under a heading [[sweep.partitions]] of its own",
    "order": 'each of "seeds", "partitions" and "methods" once',
}
"""What each key of the table ``[sweep]`` takes."""


def of_sweep(error: Mapping[str, Any], source: str) -> str:
    """One sentence on what is wrong in the table ``[sweep]``: the key, the value, what to give instead.

    Args:
        error: the first entry of a ``ValidationError.errors()``.
        source: the file.
    """
    parts = [part for part in error["loc"] if isinstance(part, int) or part in GIVE]  # the rest are tags of unions
    where = ".".join(["sweep", *map(str, parts)])
    wanted = GIVE[[part for part in parts if isinstance(part, str)][-1]]
    if error["type"] == "missing":
        return f"'{where}' is missing in {source}; give {wanted}"
    return f"'{where}' = {error['input']!r} in {source} cannot be used; give {wanted}"


def of_setting(error: Mapping[str, Any], where: str, source: str) -> str:
    """One sentence on a setting of an experiment.

    Args:
        error: the first entry of a ``ValidationError.errors()``.
        where: the key, as ``table.key``.
        source: the file, or the option of the command line.
    """
    said = error["msg"].removeprefix("Value error, ")
    if error["type"] == "string_pattern_mismatch" and where in ("name", "label"):
        said = f"it may hold {LETTERS} only"
    if error["type"] == "string_pattern_mismatch" and where == "data.partition":
        said = "Input should be 'iid', 'dirichlet', 'shards', 'column' or a function of your own as module:function"
    if error["type"] == "extra_forbidden" and where.startswith("training."):  # a known key, or it were refused before
        said = (
            "the method's class 'hyperparameters' has no such field; base it on LocalTraining of "
            "spikefed.federated.local, or leave the key out"
        )
    if where == "network.precision" and str(error.get("input")) in ("float16", "fp16", "half"):
        said = "float16 overflows in gradients through time and has no kernels here; use 'bfloat16', which is as short"
    return f"'{where}' = {error.get('input')!r} in {source}: {said}"


def source_of(where: str, source: str, given: Iterable[str]) -> str:
    """Where a setting comes from: ``--set`` when one of these keys holds it, else ``source``."""
    return "--set" if any(f"{where}.".startswith(f"{key}.") for key in given) else source
