"""What came out of a PrivateSNN: lines for the console, and an offline page with its pictures."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from spikefed.errors import ReportError
from spikefed.files import write_atomic
from spikefed.report.text import percent
from spikefed.report.write import asset

CAVEAT = (
    "This is obfuscation, not encryption: there is no key, and nothing is guaranteed. Where classes can still be made "
    "out through the ANN view of the weights, training has not hidden them."
)


def read_private_result(folder: Path) -> dict[str, Any]:
    """What `spikefed privatesnn` left in a folder.

    Raises:
        ReportError: it has not finished there.
    """
    try:
        return json.loads((folder / "private.json").read_text())
    except (OSError, ValueError) as error:
        raise ReportError(
            f"{folder} has no finished PrivateSNN; repeat 'spikefed privatesnn' with --out {folder}"
        ) from error


def private_text(folder: Path) -> str:
    """Accuracies, the weights' change, and what the attacker made out, a line each."""
    found = read_private_result(folder)
    lines = [
        f"accuracy: ANN {percent(found['ann_accuracy'])}, converted to {found['steps']} steps "
        f"{percent(found['converted_accuracy'])}, trained on {percent(found['accuracy'])}",
        f"ANN view of the final weights: {percent(found['ann_view_accuracy'])}",
        f"cosine of the weights before and after training: {_cosines(found)}",
    ]
    for attack in found["attacks"]:
        if "hit_share" in attack:
            lines.append(f"rebuilt through {attack['through']}: the judge says the class in {_share(attack)}")
    return "\n".join([*lines, CAVEAT])


def write_private_page(folder: Path) -> Path:
    """Write ``private.html``: no network, no script.

    Raises:
        ReportError: it has not finished there.
    """
    found = read_private_result(folder)
    lines = "".join(f"<p>{escape(line)}</p>" for line in private_text(folder).splitlines())
    sheets = [("made from the ANN, learnt from by the spiking network", "synthetic.png")]
    sheets += [(f"rebuilt through {attack['through']}", attack["sheet"]) for attack in found["attacks"]]
    figures = "".join(_figure(folder / name, text) for text, name in sheets if (folder / name).is_file())
    body = f'<main class="wrap"><h1>PrivateSNN</h1>{lines}<section><h2>Images</h2>{figures}</section></main>'
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>PrivateSNN</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{asset('style.css')}</style></head><body>{body}</body></html>\n"
    )
    path = folder / "private.html"
    write_atomic(path, page)
    return path


def _cosines(found: Mapping[str, Any]) -> str:
    rows = [row for row in found["weights"] if str(row["tensor"]).endswith("weight")]
    return ", ".join(f"{str(row['tensor']).removesuffix('.weight')} {row['cosine']:.4f}" for row in rows)


def _share(attack: Mapping[str, Any]) -> str:
    return f"{percent(attack['hit_share'])} of {attack['images']} images"


def _figure(path: Path, text: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<figure style="margin:.5rem;display:inline-block"><img src="data:image/png;base64,{data}" '
        f'alt="{escape(text)}" style="max-width:100%;image-rendering:pixelated">'
        f"<figcaption>{escape(text)}</figcaption></figure>"
    )
