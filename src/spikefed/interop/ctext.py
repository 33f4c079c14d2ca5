"""Pieces of the C file's text: numbers that read back to the bit, arrays, functions out of the template."""

from __future__ import annotations

import re
import textwrap
from importlib.resources import files

import numpy as np

from spikefed.interop.cweights import Held


def layer_lines(layers: list[Held]) -> str:
    """Lines of the file's head: what of each layer is left, and how it stands."""
    if not layers:
        return " *   none"
    name = max(len(layer.name) for layer in layers)
    told = [
        f" *   {layer.name:<{name}}  {layer.left:,} of {layer.whole:,} left, {layer.form}, {layer.nbytes:,} bytes; "
        f"{layer.most:,} of {layer.most_whole:,}"
        for layer in layers
    ]
    return "\n".join(told)


def array_text(kind: str, name: str, array: np.ndarray) -> str:
    """An array as a constant of this C type."""
    flat = array.reshape(-1)
    told = [str(int(v)) for v in flat] if flat.dtype.kind in "iu" else [literal(float(v)) for v in flat]
    lines = textwrap.wrap(", ".join(told), 118, break_long_words=False) if len(told) < 64 else _rows(told)
    return f"static const {kind} {name}[{len(flat)}] = {{\n  " + "\n  ".join(lines) + "\n};"


def _rows(told: list[str]) -> list[str]:
    each = 24 if "." not in told[0] else 8
    return [", ".join(told[i : i + each]) + "," for i in range(0, len(told), each)]


def literal(value: float) -> str:
    """A float32 constant that reads back to the bit."""
    text = f"{np.float32(value):.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def pieces() -> dict[str, str]:
    """The parts of the template by name."""
    template = files("spikefed.interop").joinpath("network.c").read_text(encoding="utf-8")
    parts = re.split(r"^//@ (\w+)\n", template, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def functions(pieces: dict[str, str], used: set[str]) -> list[str]:
    """The functions that are used, those of lists for the widths of their numbers; what others call comes first."""
    names = list(pieces)
    found: list[tuple[int, str, str]] = []
    for name in used:
        piece, place, first = _WIDTHS.fullmatch(name).groups()  # pyright: ignore[reportOptionalMemberAccess]
        text = pieces[piece].replace("@PLACE@", place or "").replace("@FIRST@", first or "")
        found.append((names.index(piece), name, text))
    return [text for _, _, text in sorted(found)]


_WIDTHS = re.compile(r"(\D+?)(?:_(\d+))?(?:_(\d+))?")


def indented(lines: list[str], by: int) -> str:
    """Lines of a function's body."""
    return textwrap.indent("\n".join(lines), " " * by)
