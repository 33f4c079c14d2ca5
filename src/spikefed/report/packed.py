"""The drawing library inside a page: deflated and written in base 85, a third of its size.

The page's script (``unpack.js``) turns it back before the first figure; browsers have had what it needs since 2023.
"""

from __future__ import annotations

import base64
import zlib
from functools import cache
from importlib import resources


@cache
def plotly_js() -> str:
    """The plotting library's script as the installed plotly package ships it (MIT licence, kept in its head)."""
    return (resources.files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


@cache
def plotly_packed() -> str:
    """The element ``<script id="plotly">`` with the library in it: its licence to be read, the rest packed."""
    code = plotly_js()
    licence = code[: code.find("*/") + 2] if code.startswith("/*") else ""
    text, size = packed(code.encode())
    return f'<script type="text/plain" id="plotly" data-bytes="{size}">{licence}\n{text}</script>'


def packed(data: bytes) -> tuple[str, int]:
    """Deflated data in the base 85 of RFC 1924, and how many bytes its digits stand for.

    A comma takes the place of ``<``, so that nothing in it ends or comments out a script; of ``/`` and ``*/`` it has
    none. Zeros fill the last group of four bytes.
    """
    deflated = zlib.compress(data, 9)
    filled = deflated + bytes(-len(deflated) % 4)
    return base64.b85encode(filled).decode().replace("<", ","), len(deflated)
