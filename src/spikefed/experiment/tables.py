"""Tables of experiment files before they are validated: reading, inheriting, merging, overriding."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spikefed.errors import ConfigError

PRESETS = Path(__file__).with_name("presets")

BELONGS = {
    ("data", "alpha"): ("partition", "dirichlet"),
    ("data", "shards_per_client"): ("partition", "shards"),
    ("network", "delta"): ("coding", "delta"),
    ("participation", "fraction"): ("schedule", "sample"),
    ("participation", "rounds"): ("schedule", "list"),
}
"""Settings that only one value of another key of their table gives a meaning."""


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Deep merge, ``top`` wins.

    A ``method`` table of another name replaces the one below it whole. Likewise a setting below falls away where
    ``top`` chooses what leaves it without a meaning: ``partition = "iid"`` over Dirichlet data drops their ``alpha``.
    """
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            other_method = key == "method" and value.get("name", below.get("name")) != below.get("name")
            merged[key] = dict(value) if other_method else merge(_without_idle(key, below, value), value)
        else:
            merged[key] = value
    return merged


def _without_idle(table: str, below: Mapping[str, Any], top: Mapping[str, Any]) -> Mapping[str, Any]:
    idle = {key for (at, key), (chooser, value) in BELONGS.items() if at == table and top.get(chooser, value) != value}
    return {key: value for key, value in below.items() if key not in idle}


def in_order(overrides: Iterable[str]) -> list[str]:
    """Overrides as they are to be merged: a choice of partition or schedule first.

    It then clears what lies below it, and never what the same command line asks for.
    """
    choosers = {f"{table}.{chooser}" for (table, _), (chooser, _) in BELONGS.items()}
    return sorted(overrides, key=lambda text: override_key(text) not in choosers)


def override_key(text: str) -> str:
    """The key of an override, as ``table.key``."""
    return text.partition("=")[0].strip()


def read_tree(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The tables of a file on top of those it ``extends`` (a path relative to it).

    Raises:
        ConfigError: missing, not TOML, or extending itself.
    """
    path = path.resolve()
    if path in seen:
        raise ConfigError(f"{path} extends itself through {' -> '.join(p.name for p in seen)}; remove one 'extends'")
    tree = own_tables(path, seen[-1] if seen else None)
    parent = tree.pop("extends", None)
    return merge(read_tree(path.parent / str(parent), (*seen, path)), tree) if parent else tree


def own_tables(path: Path, heir: Path | None = None) -> dict[str, Any]:
    """The tables that a file holds itself, ``extends`` among them.

    Args:
        path: of the file.
        heir: the file that extends it, for the text of an error.

    Raises:
        ConfigError: missing, a folder, or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        asked = f", which {heir.name} extends," if heir is not None else ""
        raise ConfigError(f"experiment file {path}{asked} does not exist; {_near(path)}") from error
    except IsADirectoryError as error:
        if (path / "config.toml").is_file():
            raise ConfigError(
                f"{path} is the folder of a run, not an experiment file; its settings stand in config.toml there"
            ) from error
        raise ConfigError(f"{path} is a folder; name an experiment file, such as one in it") from error
    except OSError as error:
        raise ConfigError(f"experiment file {path} cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"experiment file {path} is not valid TOML: {error}") from error


def _near(path: Path) -> str:
    """What to do about a file that is not there: the nearest one beside it, or in a folder `experiments` there."""
    beside = [*path.parent.glob("*.toml"), *path.parent.glob("experiments/*.toml")]
    names = {found.stem: str(found.relative_to(path.parent)) for found in beside}
    close = difflib.get_close_matches(path.stem, names, n=1, cutoff=0.6)
    return f"the nearest in that folder is {names[close[0]]}" if close else "give the path of a TOML file"


def presets() -> dict[str, str]:
    """Name and first comment line of every preset."""
    return {
        path.stem: path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        for path in sorted(PRESETS.glob("*.toml"))
    }


def parse_override(text: str) -> dict[str, Any]:
    """``a.b=value`` as a nested dict; the value is TOML, or text where it is not TOML."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"override '{text}' has no '='; write --set table.key=value")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    *tables, last = key.strip().split(".")
    tree: dict[str, Any] = {last: parsed}
    for table in reversed(tables):
        tree = {table: tree}
    return tree
