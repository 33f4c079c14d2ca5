"""Sheets of synthetic images that were made from the networks of runs."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from spikefed.report.groups import Group

LARGEST = 4_000_000
"""Bytes of a sheet that a page takes in."""


def sheets(groups: Sequence[Group]) -> str:
    """``synthetic.png`` of every run that has one, as a figure each; empty when none has."""
    figures = []
    for group in groups:
        for run in group.runs:
            path = run.folder / "synthetic.png"
            if run.folder.is_dir() and path.is_file() and path.stat().st_size <= LARGEST:
                figures.append(_figure(path.read_bytes(), f"{run.name}, seed {run.seed}"))
    if not figures:
        return ""
    told = (
        "<p>Made from the network alone, a row for each class as the network sees it. What can be made out here, "
        "whoever holds the network can make out too.</p>"
    )
    return f"<h3>Synthetic images</h3>{told}{''.join(figures)}"


def _figure(png: bytes, name: str) -> str:
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="synthetic images of {escape(name)}" '
        f'style="max-width:100%;image-rendering:pixelated"><figcaption>{escape(name)}</figcaption></figure>'
    )
