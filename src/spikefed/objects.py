"""A user's own objects: named as ``module:attribute`` in a config, or handed over by a Python program."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spikefed.errors import ConfigError, SpikefedError

_SPELT = re.compile(r"(cell|supernet):(\d|[^:]*-|$)|(?!nir:|crops:|synthetic:)[\w-]+:\d+(C|FC)")
_HERE = str(Path(__file__).parent)
PYTHON = "python:"
"""Marks, in a recorded config, an object of a Python program that no name leads back to."""


def nearest(key: str, known: Iterable[str]) -> str:
    """The known word that looks most like this one."""
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.0)
    return close[0] if close else "nothing"


def check_keys(given: Iterable[str], known: Iterable[str], table: str = "", where: str = "") -> None:
    """Refuse keys that nobody knows.

    >>> check_keys(["lr", "epoch"], ["lr", "epochs"], "training.", " in a.toml")
    Traceback (most recent call last):
    spikefed.errors.ConfigError: unknown key 'training.epoch' in a.toml; the nearest known key is 'training.epochs'

    Args:
        given: keys of a table.
        known: those that it may have.
        table: what stands before each of them, with its dot.
        where: whose table it is, or in which file.

    Raises:
        ConfigError: the first of them, with the nearest known one.
    """
    known = list(known)
    for key in given:
        if key not in known:
            near = nearest(key, known)
            raise ConfigError(f"unknown key '{table}{key}'{where}; the nearest known key is '{table}{near}'")


def is_own(name: str) -> bool:
    """Whether a config value names something of the user's instead of something built in.

    ``cell:0303-...``, ``supernet:123-...`` and ``vgg16:40C3-...`` spell built-in networks: no attribute of a module
    begins with a digit or holds a ``-``. Nor is nothing at all the name of one.
    """
    return ":" in name and _SPELT.match(name) is None


def import_object(name: str, key: str, kind: type[SpikefedError]) -> Any:
    """What ``module:attribute`` names; the attribute may be dotted.

    Args:
        key: the config key that says it, for the error.
        kind: the error to raise.

    Raises:
        SpikefedError: the module or the attribute is not there, or the object lived in a program that has ended.
    """
    if name.startswith(PYTHON):
        raise kind(
            f"{key} '{name}' was an object of the Python program that started the run and cannot be made again from "
            "its name; go on in Python with spikefed.run(..., resume=True) and the same object, or put it into a "
            "module "
            "and name it as 'module:attribute'"
        )
    module, _, attribute = name.partition(":")
    _look_here(module)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what a library prints when imported is no result of ours
            found = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise kind(
                f"{key} '{name}' names module '{module}', which Python does not find; put its folder on PYTHONPATH, or "
                f"run the command in that folder (here it is run in {Path.cwd()})"
            ) from error
        raise kind(f"{key} '{name}' cannot be imported: {said(error)}") from error
    except Exception as error:  # whatever a user's module raises is one sentence about the config
        raise kind(f"{key} '{name}' cannot be imported: {said(error)}; check the module and the name in it") from error
    return found


def _look_here(module: str) -> None:
    """Let Python find a module that lies in the folder of the command, behind everything else that it knows."""
    top = module.partition(".")[0]
    here = Path.cwd()
    if not top.isidentifier() or top in sys.modules or importlib.util.find_spec(top) is not None:
        return
    if (here / f"{top}.py").is_file() or any((here / top).glob("*.py")):
        sys.path.append(str(here))
        importlib.invalidate_caches()


def name_of(thing: Any) -> str:
    """``module:attribute`` where that leads back to ``thing``, else ``python:NAME``."""
    module = getattr(thing, "__module__", None)
    attribute = getattr(thing, "__qualname__", None)
    if isinstance(module, str) and isinstance(attribute, str) and module != "__main__" and module in sys.modules:
        found: Any = sys.modules[module]
        for part in attribute.split("."):
            found = getattr(found, part, None)
        if found is thing:
            return f"{module}:{attribute}"
    return PYTHON + (attribute if isinstance(attribute, str) else type(thing).__name__)


def call(thing: Any, given: Mapping[str, Any]) -> Any:
    """Call ``thing`` with those of the ``given`` arguments that its signature names."""
    return thing(**{name: given[name] for name in parameters(thing) if name in given})


def parameters(thing: Any) -> dict[str, inspect.Parameter]:
    """Parameters of a callable that may be given by name; none when Python cannot tell."""
    try:
        known = inspect.signature(thing).parameters
    except (TypeError, ValueError):
        return {}
    return {n: p for n, p in known.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def said(error: BaseException) -> str:
    """An exception of the user's code in one line, with the place it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith((_HERE, "<"))]
    place = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"
