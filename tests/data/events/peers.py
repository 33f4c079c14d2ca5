"""Readers of tonic and SpikingJelly without the packages around them, which want torchvision and others."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

SHELLS = (
    "torchvision", "torchvision.datasets", "torchvision.datasets.utils", "torchvision.transforms",
    "matplotlib", "matplotlib.pyplot", "importRosbag", "importRosbag.importRosbag",
)  # fmt: skip
"""Modules that the readers' files name and their readers never use."""


def peer(name: str) -> Any:
    """A module such as ``tonic.io``; its packages' ``__init__`` do not run. Skips where it is not installed."""
    top = name.split(".")[0]
    found = importlib.util.find_spec(top)
    if found is None or found.origin is None:
        pytest.skip(f"{top} is not installed")
    with _hollow(Path(found.origin).parent, name):
        return importlib.import_module(name)


@contextmanager
def _hollow(folder: Path, name: str) -> Iterator[None]:
    """Packages above ``name`` as empty shells, torchvision as a name without content; all taken back at the end."""
    before = dict(sys.modules)
    parts = name.split(".")[:-1]
    made: dict[str, types.ModuleType] = {}
    for depth in range(1, len(parts) + 1):
        package = types.ModuleType(".".join(parts[:depth]))
        package.__spec__ = ModuleSpec(package.__name__, None, is_package=True)
        package.__path__ = [str(folder.joinpath(*parts[1:depth]))]
        sys.modules[package.__name__] = package
    for absent in SHELLS:
        if absent.split(".")[0] in before or importlib.util.find_spec(absent.split(".")[0]) is not None:
            continue
        shell = types.ModuleType(absent)
        shell.__spec__ = ModuleSpec(absent, None, is_package=True)
        shell.__path__ = []  # type: ignore[attr-defined]
        shell.__getattr__ = lambda _: object  # type: ignore[attr-defined]
        made[absent] = shell
    sys.modules.update(made)
    try:
        yield
    finally:
        ours = {parts[0], *(shell.split(".")[0] for shell in made)}
        for key in [key for key in sys.modules if key.split(".")[0] in ours]:
            del sys.modules[key]
        sys.modules.update({key: module for key, module in before.items() if key.split(".")[0] in ours})
